"""(d) shifterimg pull against what a site would type without us."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from cluster import NAME, BenchError, Shell, image_file, note, store_on_host
from table import table

TOOLS = ["skopeo", "umoci", "squashfs-tools"]

# Runs a command and prints what the kernel has counted for it and all its children.
COUNT = """
import json, os, sys, time
begin = time.monotonic()
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ,
    file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)])
_, status, used = os.wait4(child, 0)
print(json.dumps({"code": os.waitstatus_to_exitcode(status), "wall": time.monotonic() - begin,
    "cpu": used.ru_utime + used.ru_stime, "rss": used.ru_maxrss / 1024, "written": used.ru_oublock * 512 / 1e6}))
"""


def counted(text, what):
    used = json.loads(text.splitlines()[-1])
    if used["code"] != 0:
        raise BenchError(f"{what} failed:\n{text}")
    return used


def need_tools():
    missing = [package for package in TOOLS if subprocess.run(
        ["dpkg", "-s", package], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode]
    if missing:
        note(f"installing {' '.join(missing)}")
        subprocess.run(["apt-get", "install", "-qqy", "--no-install-recommends", *missing],
                       stdout=subprocess.DEVNULL, check=True)


def registry():
    address = subprocess.run(
        ["docker", "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", f"{NAME}-registry"],
        capture_output=True, text=True, check=True).stdout.strip()
    return f"{address}:5000"


def by_hand(image):
    """skopeo, umoci, mksquashfs zstd-3: one file from the same registry, on the same disk."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="bench-pull-") as where:
        script = (
            f"set -e; cd {where}; "
            f"skopeo copy -q --src-tls-verify=false docker://{registry()}/{image} oci:layout:image; "
            "umoci unpack --image layout:image bundle; "
            "mksquashfs bundle/rootfs image.sqsh -comp zstd -Xcompression-level 3 -quiet -no-progress"
        )
        out = subprocess.run(["python3", "-c", COUNT, "sh", "-c", script], capture_output=True, text=True)
        used = counted(out.stdout + out.stderr if out.returncode else out.stdout, "skopeo, umoci, mksquashfs")
        used["kept"] = (Path(where) / "image.sqsh").stat().st_size / 1e6
        return used


def forget(image, layers):
    """As if nobody had ever pulled it; its layers only if asked for."""
    store = store_on_host()
    repository, tag = image.split(":")
    ref = store / "refs/docker.io/library" / repository / f":{tag}"
    if ref.exists():
        digest = json.loads(ref.read_text())["platforms"]["linux/amd64"]["digest"].removeprefix("sha256:")
        file = store / image_file(image)
        ref.unlink()
        (store / "manifests" / digest[:2] / digest).unlink(missing_ok=True)
        file.unlink(missing_ok=True)
    if layers:
        for entry in (store / "layers").glob("*"):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def ours(alice, image, layers_cached):
    forget(image, layers=not layers_cached)
    used = counted(alice.text(f"python3 -c '{COUNT}' shifterimg pull docker:{image}"), "shifterimg pull")
    used["kept"] = (store_on_host() / image_file(image)).stat().st_size / 1e6
    return used


def row(title, runs, baseline=None):
    def cell(key, digits=0):
        values = [run[key] for run in runs]
        text = f"{min(values):.{digits}f}"
        return text if len(values) == 1 else f"{text}..{max(values):.{digits}f}"

    ratio = "" if baseline is None else " ".join(f"{r['wall'] / b['wall']:.2f}" for r, b in zip(runs, baseline))
    return [title, cell("wall", 1), ratio, cell("cpu", 1), cell("rss"), cell("written"), cell("kept")]


def measure(image, quick=False):
    need_tools()
    rounds = 1 if quick else 2
    hand, cold, warm = [], [], []
    with Shell.as_user("alice") as alice:
        # Both find the registry's blobs in the page cache.
        for number in range(rounds):
            note(f"pulling {image}, round {number + 1} of {rounds}: by hand, then shifterimg")
            hand.append(by_hand(image))
            cold.append(ours(alice, image, layers_cached=False))
            if any((store_on_host() / "layers").glob("*")):
                warm.append(ours(alice, image, layers_cached=True))
    rows = [row("skopeo + umoci + mksquashfs zstd-3", hand), row("shifterimg pull", cold, hand)]
    if warm:
        rows.append(row("shifterimg pull, layers cached", warm, hand))
    header = ["", "wall s", "of the same round's by hand", "CPU s", "peak MiB of one process", "MB written", "MB kept as image"]
    return (
        f"## (d) Pulling {image}\n\n"
        f"{rounds} rounds in turn; the registry's blobs are in the page cache. Written: what the kernel counts for the command and its children.\n\n"
        + table(header, rows)
        + "\n" + budgets(hand, cold) + "\n"
    )


def budgets(hand, cold):
    """By the worst round: there are too few for an interval."""
    def said(met):
        return "met" if met else "missed"

    ratio = max(c["wall"] / h["wall"] for c, h in zip(cold, hand))
    peak = max(c["rss"] for c in cold)
    # File system metadata and the small JSON files are a little more than the image.
    more = max(c["written"] - c["kept"] for c in cold)
    return (
        f"Budgets, by the worst round: wall ≤ 1/3 of by hand: {said(ratio <= 1 / 3)}; memory ≤ 256 MiB: {said(peak <= 256)}; "
        f"no byte written but the image (and cached layers): {more:+.1f} MB."
    )
