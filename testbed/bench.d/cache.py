"""(e) The paper's Table II: small writes on far storage, directly and on a per-node cache there."""

import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from cluster import BenchError, Shell, no_jobs, note
from stats import Estimate
from table import extremes, plain, signed, table

NODE = "c1"
CONFIG = "/etc/shifter/shifter.toml"
PLACE = "/srv/bench-cache"
WRITERS = [1, 2, 4, 8, 16]
# For each writer: bytes of a write, and how many, directly and on a cache: about a second's worth.
SMALL = (512, 1000, 100_000)
LARGE = (1 << 20, 100, 100)
# As dd of the paper, but it ends when all is on the far storage.
RANK = (
    'begin=$EPOCHREALTIME; dd if=/dev/zero of=$1/$SLURM_PROCID bs=$2 count=$3 conv=fsync status=none || exit; '
    "echo took $begin $EPOCHREALTIME; rm $1/$SLURM_PROCID"
)


def slowfs(target):
    """Builds the file system; statically, for the nodes may be of another Debian."""
    packages = ["gcc", "libc6-dev", "libfuse3-dev"]
    if subprocess.run(["dpkg", "-s", *packages], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        note(f"installing {' '.join(packages)}")
        subprocess.run(["apt-get", "install", "-qqy", "--no-install-recommends", *packages], stdout=subprocess.DEVNULL, check=True)
    source = Path(__file__).with_name("slowfs.c")
    built = subprocess.run(
        ["gcc", "-O2", "-static", "-D_FILE_OFFSET_BITS=64", "-o", target, source, "-lfuse3", "-lpthread", "-ldl"],
        capture_output=True, text=True)
    if built.returncode:
        raise BenchError(f"slowfs does not build:\n{built.stderr}")


@contextmanager
def far_storage(root):
    """A file system on the node whose every operation takes a millisecond."""
    with tempfile.TemporaryDirectory() as where:
        program = Path(where) / "slowfs"
        slowfs(program)
        root.text(f"mkdir -p {PLACE}/data {PLACE}/far")
        copy = ["docker", "cp", "-q", str(program), f"{root.container}:{PLACE}/slowfs"]
        subprocess.run(copy, check=True, stdout=subprocess.DEVNULL)
    try:
        root.text(f"{PLACE}/slowfs 1000 {PLACE}/data {PLACE}/far -o allow_other,default_permissions,max_threads=64")
        root.text(f"install -d -o shifter -m 700 {PLACE}/far/caches {PLACE}/caches && install -d -o alice {PLACE}/far/alice")
        yield
    finally:
        root.text(f"umount -l {PLACE}/far; rm -rf {PLACE}")


@contextmanager
def caches_there(hosts):
    """The site allows caches, on the node and on the far storage, for the time of the measurement."""
    allowed = f'[cache]\\ndirectories = ["{PLACE}/caches", "{PLACE}/far/caches"]\\n'
    for host in hosts:
        host.text(f"cp -p {CONFIG} {CONFIG}.bench && printf '{allowed}' >>{CONFIG}")
    try:
        yield
    finally:
        for host in hosts:
            host.text(f"mv {CONFIG}.bench {CONFIG}")


def rate(shell, directory, writers, size, count):
    """MB/s of all writers together, from the first one's start to the last one's end."""
    said = shell.text(f"srun -n{writers} bash -c '{RANK}' - {directory} {size} {count}")
    took = [line.split()[1:] for line in said.splitlines() if line.startswith("took ")]
    if len(took) != writers:
        raise BenchError(f"{len(took)} of {writers} writers wrote:\n{said}")
    seconds = max(float(end) for _, end in took) - min(float(begin) for begin, _ in took)
    return writers * count * size / 1e6 / seconds


def making(shell, image, rounds):
    """What a cache adds to the first step of a job: a row for each file system."""
    def first_step(*options):
        milliseconds = shell.time(f"srun -Q -n1 -w {NODE} --image={image} {' '.join(options)} true")
        no_jobs(shell, NODE)
        return milliseconds

    first_step()
    cells = {}
    for fs in ("xfs", "ext4"):
        for where in ("none", f"{PLACE}/far"):
            note(f"making {fs} on {where}: {rounds} rounds, without and with in turn")
            cache = f"--volume={where}:/cache:perNodeCache=size=4G,fs={fs}"
            cells[fs, where] = Estimate.of([first_step(cache) - first_step() for _ in range(rounds)])
    return [[fs, *(signed(cells[fs, where], 0) for where in ("none", f"{PLACE}/far"))] for fs in ("xfs", "ext4")]


def measure(image, quick=False):
    rounds = 1 if quick else 3
    rows = []
    volumes = f"{PLACE}/far/alice:/direct;{PLACE}/far:/cache:perNodeCache=size=4G,fs=xfs"
    with Shell.on(NODE) as root, Shell.on("ctl") as ctl, far_storage(root), caches_there([root, ctl]):
        salloc = ["salloc", "-Q", "-N1", "-n16", "-w", NODE, f"--image={image}", f"--volume={volumes}", "bash"]
        with Shell.as_user("alice", *salloc) as alice:
            alice.text("srun -n1 true")
            for title, writers, (size, few, many) in [*((n, n, SMALL) for n in WRITERS), ("1, bs=1M", 1, LARGE)]:
                note(f"dd by {title}: {rounds} rounds, directly and on a cache in turn")
                samples = [(rate(alice, "/direct", writers, size, few), rate(alice, "/cache", writers, size, many))
                           for _ in range(rounds)]
                direct, cached = (Estimate.of(column) for column in zip(*samples))
                ratios = Estimate.of([there / here for here, there in samples])
                rows.append([title, plain(direct, 2), plain(cached, 0), f"{ratios.middle:.1f}", extremes(ratios, 1)])
        with Shell.as_user("alice") as alice:
            making_it = making(alice, image, 1 if quick else 5)
    return (
        "## (e) Small writes on far storage, directly and on a per-node cache there\n\n"
        f"Table II of the first paper on Shifter: `dd bs=512`, one file for each writer, all on one node, {rounds} {'rounds' if rounds > 1 else 'round'} in turn; here with `conv=fsync`,\n"
        "so until all is on the storage. That is a FUSE file system on which each operation takes 1 ms (`testbed/bench.d/slowfs.c`). Directly: a volume on it.\n"
        "On a cache: `perNodeCache=size=4G,fs=xfs`, whose file lies on it. MB/s of all writers together.\n\n"
        + table(["writers", "directly, MB/s", "on a cache, MB/s", "times", "min..max"], rows)
        + "\nWhat makes the difference: directly, each of dd's writes is an operation of its own and waits for the storage. On the cache the node's kernel collects them\n"
        "and sends them on by the megabyte, several at a time. What it does not show: where a client of the storage itself collects writes (Lustre's does, and takes\n"
        "locks for it: the paper saw 7 to 10 times) the gain is smaller; with large writes, as in the last line, all that is left of it is that several are under way at a time.\n\n"
        "What making it (4G, all of it before the ranks start) adds to the first step of a job, ms:\n\n"
        + table(["", "on the node's disk", "on that storage"], making_it)
    )
