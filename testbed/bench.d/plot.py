"""Draws what an image adds to a step from the tables of docs/benchmarks.md: docs/benchmarks.svg."""

import re
from html import escape
from math import copysign, log10

LEFT, RIGHT, ROW, TOP, WIDTH = 190, 30, 30, 74, 760
TICKS = [-100, -10, 0, 10, 100, 1000, 10000]
OURS, NOISE, SHIFTER, PYXIS = "#0b6e4f", "#c9ced6", "#b5541c", "#5b3f9c"
NUMBER = r"[-+]?\d+(?:\.\d+)?"
ESTIMATE = re.compile(rf"({NUMBER}) \[({NUMBER}), ({NUMBER})\]")
PEER = re.compile(rf"(Shifter|pyxis) \+({NUMBER})(?:\.\.({NUMBER}))?")


def rows(markdown):
    """(title, ours, noise, peers): ours and noise are (middle, low, high) in ms."""
    found = []
    for section, kind in (("### Further steps of a job", "further step"), ("### First step of a job", "first step")):
        text = markdown.split(section, 1)[1].split("\n#", 1)[0]
        for line in text.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if len(cells) != 8 or "--image=none" in cells[0] or cells[0].startswith("private"):
                continue
            ours, noise = ESTIMATE.match(cells[2]), ESTIMATE.match(cells[4])
            if ours and noise:
                peers = [(name, float(low), float(high or low)) for name, low, high in PEER.findall(cells[7])]
                found.append((f"{kind}, {cells[0]}", *(tuple(map(float, m.groups())) for m in (ours, noise)), peers))
    return found


def place(ms):
    """Milliseconds to pixels: logarithmic to both sides of zero, even within a millisecond of it."""
    scaled = copysign(log10(1 + abs(ms)), ms)
    low, high = (copysign(log10(1 + abs(t)), t) for t in (TICKS[0], TICKS[-1] * 2))
    return LEFT + (scaled - low) / (high - low) * (WIDTH - LEFT - RIGHT)


def draw(markdown):
    """The picture as SVG."""
    data = rows(markdown)
    if not data:
        raise ValueError("no table of steps to draw")
    bottom = TOP + ROW * len(data)
    out = []

    def text(x, y, words, size=12, anchor="start", colour="#222"):
        out.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>')

    def bar(low, high, y, colour, height):
        start, end = place(low), place(high)
        out.append(f'<rect x="{start:.1f}" y="{y - height / 2:.1f}" width="{max(end - start, 1.5):.1f}" height="{height}" rx="2" fill="{colour}"/>')

    text(12, 24, "What a container image adds to a Slurm step (milliseconds over bare srun)", 15)
    legend = [(OURS, "this, 95 % interval"), (NOISE, "noise: bare srun against itself"),
              (SHIFTER, "Shifter, in an earlier run"), (PYXIS, "pyxis + enroot, the same")]
    x = 12
    for colour, words in legend:
        out.append(f'<rect x="{x}" y="37" width="12" height="10" rx="2" fill="{colour}"/>')
        text(x + 17, 46, words)
        x += 32 + 5.9 * len(words)
    for tick in TICKS:
        out.append(f'<line x1="{place(tick):.1f}" x2="{place(tick):.1f}" y1="{TOP - 8}" y2="{bottom}" stroke="{"#888" if tick == 0 else "#e6e6e6"}"/>')
        text(place(tick), TOP - 12, f"{tick:+,}" if tick else "0", 11, "middle", "#666")
    for number, (title, ours, noise, peers) in enumerate(data):
        y = TOP + ROW * (number + 0.5)
        text(LEFT - 10, y + 4, title.replace(" step", ""), 12, "end")
        bar(noise[1], noise[2], y, NOISE, 18)
        bar(ours[1], ours[2], y, OURS, 6)
        out.append(f'<circle cx="{place(ours[0]):.1f}" cy="{y}" r="4.5" fill="{OURS}"/>')
        for name, low, high in peers:
            colour = SHIFTER if name == "Shifter" else PYXIS
            bar(low, high, y, colour, 6)
            out.append(f'<circle cx="{place(low):.1f}" cy="{y}" r="4" fill="white" stroke="{colour}" stroke-width="2"/>')
    body = "\n".join(out)
    height = bottom + 14
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )
