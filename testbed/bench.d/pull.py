"""(d) Importing: shifterimg pull against what a site would type without us."""

from bulk import in_registry
from cluster import Shell, note
from pullers import OTHERS, forget, layers_kept, need_packages, ours, registry_with_tls, theirs
from stats import ratios
from table import table

IMAGES = ["debian:12", "sci:1", "odd:1", "many:1", "bulk:1"]
# 5 GB take minutes.
QUICK = IMAGES[:-1]
# What takes minutes varies less, from round to round.
LONG = ["many:1", "bulk:1"]
OURS, CACHED = "shifterimg pull", "shifterimg pull, layers cached"
BY_HAND, DOCKER = "skopeo + umoci + mksquashfs zstd-3", "docker pull"


def rounds_of(alice, image, rounds):
    """Each tool's runs, in turn; a tool that cannot do it has none."""
    runs = {OURS: [], CACHED: [], **{tool: [] for tool in OTHERS}}
    # All find the registry's blobs in the page cache: the first pull of all is not counted.
    ours(alice, image, layers_cached=False)
    for number in range(rounds):
        note(f"{image}: round {number + 1} of {rounds}")
        runs[OURS].append(ours(alice, image, layers_cached=False))
        with layers_kept() as known:
            if known:
                ours(alice, image, layers_cached=False)
                runs[CACHED].append(ours(alice, image, layers_cached=True))
        for tool in OTHERS:
            # Once is enough to know that it cannot.
            if number == 0 or runs[tool]:
                used = theirs(tool, image)
                runs[tool] += [used] if used else []
    return {tool: all_of_it for tool, all_of_it in runs.items() if all_of_it or tool in OTHERS}


def row(tool, runs, subject):
    if not runs:
        return [tool, "cannot", *[""] * 6]

    def cell(key, digits=0):
        values = [f"{run[key]:.{digits}f}" for run in runs]
        least, most = min(values, key=float), max(values, key=float)
        return least if least == most else f"{least}..{most}"

    ratio = spread([1 / r for r in ratios([r["wall"] for r in subject], [r["wall"] for r in runs])]) if runs is not subject else ""
    return [tool, cell("wall", 1), ratio, cell("cpu", 1), cell("memory"), cell("written"), cell("disk"), cell("kept")]


def spread(values):
    least, most = f"{min(values):.2f}", f"{max(values):.2f}"
    return least if least == most else f"{least}..{most}"


def budgets(runs):
    """By the worst round: there are too few for an interval."""
    def said(met):
        return "met" if met else "missed"

    cold = runs[OURS]
    parts = []
    if hand := runs[BY_HAND]:
        parts.append(f"wall ≤ 1/3 of by hand: {said(max(c['wall'] / h['wall'] for c, h in zip(cold, hand)) <= 1 / 3)}")
        parts.append(f"size ≤ 1.03 of mksquashfs's: {said(max(c['kept'] / h['kept'] for c, h in zip(cold, hand)) <= 1.03)}"
                     f" ({max(c['kept'] / h['kept'] for c, h in zip(cold, hand)):.3f})")
    if docker := runs[DOCKER]:
        parts.append(f"below docker pull: {said(all(c['wall'] < d['wall'] for c, d in zip(cold, docker)))}")
    parts.append(f"memory ≤ 256 MiB: {said(max(c['memory'] for c in cold) <= 256)}")
    # File system metadata and the small JSON files are a little more than the image.
    parts.append(f"on the disk at most the image and {max(c['disk'] - c['kept'] for c in cold):+.1f} MB")
    return "Budgets, by the worst round: " + "; ".join(parts) + ".\n"


def measure(image, quick=False):
    need_packages()
    images = QUICK if quick else IMAGES
    sections = []
    with Shell.as_user("alice") as alice, registry_with_tls():
        for name in images:
            with in_registry(name):
                runs = rounds_of(alice, name, 1 if quick or name in LONG else 3)
                if name in LONG:
                    forget(name, layers=False)
            header = [name, "wall s", "ours of it", "CPU s", "peak MiB, all processes", "MB written", "peak MB on disk", "MB kept"]
            rows = [row(tool, used, runs[OURS]) for tool, used in runs.items()]
            sections.append(table(header, rows) + "\n" + budgets(runs))
            note("\n" + sections[-1])
    return (
        f"## (d) Importing\n\n"
        f"{'One round' if quick else 'Three rounds (of many:1 and bulk:1 one)'} in turn, least and most; the registry's blobs are in the page cache. many:1 has 100,000 small files, bulk:1 5 GB in five layers. "
        "Peak MiB: anonymous memory of all processes of the command together, the daemon's for docker. Written: what the kernel counts for them. "
        "On disk: by how much the file system had less room. docker's CPU includes the start of its daemon, its wall does not; "
        "podman, docker and ch-image keep unpacked files, and no image that nodes could mount.\n\n"
        + "\n".join(sections)
    )
