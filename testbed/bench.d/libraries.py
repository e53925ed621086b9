"""(f) The start of a program of 500 shared libraries: where its loader finds them."""

import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from cluster import BenchError, Shell, no_jobs, note
from stats import Estimate, differences, ratios
from table import extremes, plain, signed, table

NODE = "c1"
CONFIG = "/etc/shifter/shifter.toml"
PLACE = "/srv/bench-libraries"
PARTS = 500
# As many directories as modules of compilers and libraries easily add up to.
LONG = [f"d{number:02}" for number in range(20)]
RUNS = 40
HEADER = ["", "start, ms", "to the image's own cache", "min..max"]
SITE = f"""
[images]
local = ["{PLACE}"]
[modules.cached]
ldcache = ["/opt/parts"]
[[modules.cached.mount]]
from = "{PLACE}/parts"
to = "/opt/parts"
read_only = true
[modules.path]
env.prepend = {{ LD_LIBRARY_PATH = "/opt/parts" }}
[[modules.path.mount]]
from = "{PLACE}/parts"
to = "/opt/parts"
read_only = true
"""
SITE += SITE[SITE.index("[modules.path]"):].replace("modules.path", "modules.long").replace(
    '"/opt/parts" }', f'"{":".join(f"/opt/parts/{name}" for name in LONG)}:/opt/parts" }}')
# What is started, in which image, with which module.
WAYS = {"own": ("with", "none"), "cached": ("without", "cached"), "path": ("without", "path"), "long": ("without", "long")}


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"{' '.join(map(str, command[:4]))} …: {done.stderr}")


def build(top):
    """The libraries, a program that needs all of them, and two images that differ in whether
    they have them; both have this machine's glibc."""
    parts = top / "parts"
    parts.mkdir()
    (top / "part.c").write_text("int part(void) { return 1; }\n")
    (top / "app.c").write_text("int main(void) { return 0; }\n")
    run("gcc", "-O2", "-fPIC", "-c", top / "part.c", "-o", top / "part.o")
    names = [f"libpart{number:03}.so" for number in range(PARTS)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        link = ("gcc", "-shared", "-nostdlib", top / "part.o")
        list(pool.map(lambda name: run(*link, f"-Wl,-soname,{name}.1", "-o", parts / f"{name}.1"), names))
    run("gcc", "-O2", top / "app.c", "-Wl,--no-as-needed", *[parts / f"{name}.1" for name in names], "-o", top / "app")
    run("gcc", "-O2", "-static", Path(__file__).with_name("again.c"), "-o", top / "again")
    needs = subprocess.run(["ldd", "/bin/true"], capture_output=True, text=True, check=True).stdout.split()
    glibc = [Path(word) for word in needs if word.startswith("/")]
    for image in ("with", "without"):
        for path in (*glibc, top / "app", top / "again"):
            target = top / image / (path.relative_to("/") if path in glibc else path.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            target.chmod(0o755)
        (top / image / "etc").mkdir()
        (top / image / "usr/lib").mkdir(parents=True, exist_ok=True)
        (top / image / "etc/ld.so.conf").write_text("/usr/lib/parts\n")
    for name in LONG:
        (parts / name).mkdir()
    run("cp", "-r", parts, top / "with/usr/lib/parts")
    for image in ("with", "without"):
        run("/sbin/ldconfig", "-r", top / image)
    for path in ("part.c", "part.o", "app.c", "app", "again"):
        (top / path).unlink()


@contextmanager
def images_there(hosts):
    """The images are on the node, and the site allows them, for the time of the measurement."""
    with tempfile.TemporaryDirectory() as where:
        top = Path(where) / "top"
        top.mkdir()
        note(f"building {PARTS} libraries")
        build(top)
        node = hosts[0]
        node.text(f"rm -rf {PLACE}")
        subprocess.run(["docker", "cp", "-q", str(top), f"{node.container}:{PLACE}"], check=True, stdout=subprocess.DEVNULL)
        node.text(f"chown -R root:root {PLACE} && chmod -R go-w,a+rX {PLACE}")
    for host in hosts:
        host.text(f"cp -p {CONFIG} {CONFIG}.bench && cat >>{CONFIG} <<'END'\n{SITE}\nEND")
    try:
        yield
    finally:
        for host in hosts:
            host.text(f"mv {CONFIG}.bench {CONFIG}")
        node.text(f"rm -rf {PLACE}")


def start(job, way):
    """Milliseconds of a start of the program in a step of its own, and of the whole step."""
    image, module = WAYS[way]
    step = f"srun -n1 --image=local:{PLACE}/{image} --module={module} /again {RUNS} /app"
    seconds, code, said = job.attempt(step)
    took = [int(line.split()[1]) / 1000 for line in said.splitlines() if line.startswith("took ")]
    if code or len(took) != RUNS:
        raise BenchError(f"exit code {code} from: {step}\n{said}")
    return median(took), seconds * 1000 - sum(took)


def measure(image, quick=False):
    rounds = 6 if quick else 15
    with Shell.on(NODE) as node, Shell.on("ctl") as login, Shell.as_user("alice") as alice:
        no_jobs(alice, NODE)
        with images_there([node, login]), Shell.as_user("alice", "salloc", "-Q", "-N1", "-n1", "-w", NODE, "bash") as job:
            for way in WAYS:
                start(job, way)
            note(f"starts of a program of {PARTS} libraries: {rounds} rounds")
            samples = [{way: start(job, way) for way in WAYS} for _ in range(rounds)]
        no_jobs(alice, NODE)
    took = {way: [sample[way][0] for sample in samples] for way in WAYS}
    step = {way: [sample[way][1] for sample in samples] for way in WAYS}

    def row(title, way):
        ratio = Estimate.of(ratios(took["own"], took[way]))
        return [title, plain(Estimate.of(took[way]), 2), plain(ratio, 2), extremes(ratio, 2)]

    more = Estimate.of(differences(step["path"], step["cached"], step["path"]))
    return (
        f"## (f) The start of a program of {PARTS} shared libraries\n\n"
        f"{rounds} rounds of a step in which the program starts {RUNS} times (the median counts), in turn: the libraries in the image and in its cache; "
        "in a module's directory, with the cache that we write (`ldcache`); in a module's directory named by `LD_LIBRARY_PATH`.\n\n"
        + table(HEADER, [
            row("in the image, its own cache", "own"),
            row("of a module, `ldcache`", "cached"),
            row("of a module, `LD_LIBRARY_PATH`", "path"),
            row(f"of a module, the last of {len(LONG) + 1} directories in `LD_LIBRARY_PATH`", "long"),
        ])
        + f"\nMaking that cache, once for a job on a node: the step takes {signed(more)} ms longer than with `LD_LIBRARY_PATH`.\n"
    )
