"""(f) Packing: what block size, level and compressor cost and give."""

import json
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

from cluster import Shell, note, store_on_host, wait_until
from counted import COUNT, counted
from pullers import need_packages, registry
from stats import Estimate, ratios
from table import extremes, plain, table

# The first one is the default.
OURS = [("128K", "zstd", 3), ("64K", "zstd", 3), ("256K", "zstd", 3), ("512K", "zstd", 3), ("1M", "zstd", 3),
        ("128K", "zstd", 1), ("128K", "zstd", 6), ("128K", "none", 3)]
THEIRS = {"mksquashfs zstd-3": "-comp zstd -Xcompression-level 3", "mksquashfs lz4": "-comp lz4", "mksquashfs gzip": "-comp gzip"}
TREE = "unpacked, on ext4"
IMPORT = "import numpy, scipy.linalg"
ENTRIES = 50_000
LOOKUPS = 50


def store_inside(shell):
    """Where the nodes have the store."""
    return Path(shell.text("sed -n 's/^path = \"\\(.*\\)\"/\\1/p' /etc/shifter/shifter.toml | head -n 1"))


class Site:
    """A store of its own beside the testbed's, packed into as each setting says."""

    def __init__(self, root):
        self.root = root
        self.store = store_on_host().parent / "bench-store"
        # Another one than the installed, for who works on it.
        self.program = "shifterimg"
        if other := os.environ.get("BENCH_SHIFTERIMG"):
            shutil.copy(other, self.store.with_name("bench-shifterimg"))
            self.program = str(store_inside(root).with_name("bench-shifterimg"))

    def pack(self, image, block, compression, level, where):
        shutil.rmtree(self.store, ignore_errors=True)
        self.store.mkdir()
        owner = store_on_host().stat()
        os.chown(self.store, owner.st_uid, owner.st_gid)
        self.store.chmod(0o2711)
        inside = store_inside(self.root).parent
        config = (
            f'[store]\npath = "{inside}/bench-store"\nowner = "{owner.st_uid}"\n'
            f'[images]\nblock_size = "{block}"\ncompression = "{compression}"\ncompression_level = {level}\n'
            f'[[registry]]\nprefix = "docker.io/library"\nmirror = "{registry()}"\nhttp = true\n'
        )
        self.root.text(f"cat >/etc/shifter/bench.toml <<'END'\n{config}END")
        used = counted(self.root.text(
            f"python3 -c '{COUNT}' {self.program} --config /etc/shifter/bench.toml pull -q docker:{image}"), "shifterimg pull")
        packed = next((self.store / "images").glob("*/*"))
        shutil.copyfile(packed, where)
        return used

    def close(self):
        self.root.text("rm -f /etc/shifter/bench.toml")
        shutil.rmtree(self.store, ignore_errors=True)
        self.store.with_name("bench-shifterimg").unlink(missing_ok=True)


@contextmanager
def mounted(image, at):
    """With nothing of it in memory."""
    with open(image, "rb") as file:
        os.fsync(file)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    subprocess.run(["mount", "-o", "loop,ro", image, at], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", at], check=True)
        # While anybody holds it, the next mount would be the same one, warm.
        wait_until(f"{image} to be let go of", lambda: not subprocess.run(
            ["losetup", "-j", image], capture_output=True, text=True, check=True).stdout)


def start(at):
    out = subprocess.run(["python3", "-c", COUNT, "/usr/sbin/chroot", at, "/usr/bin/python3", "-c", IMPORT],
                         capture_output=True, text=True)
    return counted(out.stdout, "the import")


def packed_by_all(site, image, top, at):
    costs, files = {}, {}
    for block, compression, level in OURS:
        name = f"{block}, {compression}" + (f"-{level}" if compression == "zstd" else "")
        note(f"packing {image}: {name}")
        files[name] = top / name.replace(", ", "-")
        costs[name] = site.pack(image, block, compression, level, files[name])
    with mounted(next(iter(files.values())), at):
        for name, options in THEIRS.items():
            files[name] = top / name.replace(" ", "-")
            subprocess.run(["mksquashfs", at, files[name], *options.split(), "-quiet", "-no-progress"],
                           check=True, stdout=subprocess.DEVNULL)
        files[TREE] = top / "ext4"
        subprocess.run(["truncate", "-s", "4G", files[TREE]], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-d", at, files[TREE]], check=True)
    return costs, files


def startup(image, rounds, site, top, at):
    costs, files = packed_by_all(site, image, top, at)
    cold, warm = {name: [] for name in files}, {name: [] for name in files}
    for number in range(rounds):
        note(f"start-up, round {number + 1} of {rounds}")
        for name, file in files.items():
            with mounted(file, at):
                cold[name].append(start(at))
                warm[name].append(start(at))
    base = next(iter(files))
    rows = []
    for name, file in files.items():
        packed = costs.get(name)
        walls = Estimate.of(run["wall"] * 1000 for run in cold[name])
        against = Estimate.of(ratios([r["wall"] for r in cold[base]], [r["wall"] for r in cold[name]]))
        rows.append([
            name, f"{packed['wall']:.1f}" if packed else "", f"{packed['cpu']:.1f}" if packed else "",
            f"{file.stat().st_blocks * 512 / 1e6:.0f}", plain(walls, 0), plain(against, 2),
            f"{min(run['cpu'] for run in cold[name]) * 1000:.0f}", extremes(Estimate.of(run["wall"] * 1000 for run in warm[name]), 0),
        ])
    return table(["", "packed in s", "CPU s", "MB", "cold, ms", "of the default's", "least CPU ms", "warm, ms"], rows)


LOOK = """
import os, sys, time
top = sys.argv[1]
begin = time.perf_counter()
for n in range(0, %d, %d):
    os.stat("%%s/dir/a-rather-long-name-of-entry-%%05d" %% (top, n * 7919 %% %d))
print((time.perf_counter() - begin) * 1000)
""" % (ENTRIES, ENTRIES // LOOKUPS, ENTRIES)


def lookups(rounds, alice, top, at):
    """The same directory by us and by mksquashfs: names that are nowhere near each other."""
    tree = top / "tree"
    (tree / "dir").mkdir(parents=True)
    for number in range(ENTRIES):
        (tree / f"dir/a-rather-long-name-of-entry-{number:05}").touch()
    images = {"shifterimg": top / "ours", "mksquashfs": top / "theirs"}
    subprocess.run(["mksquashfs", tree, images["mksquashfs"], "-comp", "zstd", "-quiet", "-no-progress"], check=True, stdout=subprocess.DEVNULL)
    shared = store_on_host().parent / "bench-tree.tar"
    subprocess.run(["tar", "-C", tree, "-cf", shared, "."], check=True)
    shutil.rmtree(tree)
    shared.chmod(0o644)
    try:
        store = store_inside(alice)
        alice.text(f"shifterimg import -q tar:{store.parent}/bench-tree.tar bench-tree:1")
        path = json.loads(alice.text("shifterimg inspect --json user:alice/bench-tree:1"))["file"]["path"]
        shutil.copyfile(store_on_host() / Path(path).relative_to(store), images["shifterimg"])
        alice.text("shifterimg rm user:alice/bench-tree:1")
    finally:
        shared.unlink()
    times = {name: [] for name in images}
    for _ in range(rounds):
        for name, image in images.items():
            with mounted(image, at):
                out = subprocess.run(["python3", "-c", LOOK, at], capture_output=True, text=True, check=True)
                times[name].append(float(out.stdout))
    against = Estimate.of(ratios(times["mksquashfs"], times["shifterimg"]))
    return (
        f"{LOOKUPS} cold look-ups in a directory of {ENTRIES:,} entries: {plain(Estimate.of(times['shifterimg']))} ms, with mksquashfs's "
        f"image {plain(Estimate.of(times['mksquashfs']))} ms: {plain(against, 2)} times as long. Budget 2: {against.verdict(2)}.\n"
    )


def measure(image, quick=False):
    need_packages()
    rounds = 3 if quick else 15
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="bench-packing-") as top, Shell.on("ctl") as root, Shell.as_user("alice") as alice:
        top = Path(top)
        at = top / "mnt"
        at.mkdir()
        site = Site(root)
        try:
            starts = startup(image, rounds, site, top, at)
        finally:
            site.close()
        looks = lookups(rounds, alice, top, at)
    return (
        f"## (f) Packing and starting {image}\n\n"
        f"`{IMPORT}`, {rounds} rounds in turn, from a mount of its own each: first with nothing in memory, then once more. "
        "Packing is a whole pull. Sizes of what mksquashfs and ext4 make of the same tree.\n\n" + starts + "\n" + looks
    )
