"""(a) Staging and entering against the floor program, both on this machine."""

import json
import subprocess
from statistics import median

from cluster import binary, image_file, store_on_host, BenchError, note
from stats import Estimate, percentile, ratios
from table import extremes, plain, table

BUDGET = 1.5
# Entering is compared twice: with setns alone, as the budget says, and with setns and the calls
# that empty the capability sets, one for each of some forty, which no safe entering can omit.
KINDS = [
    ("stage_cold_us", "staging, cold image mount", lambda f: f["stage_cold_us"], BUDGET),
    ("stage_warm_us", "staging, warm image mount", lambda f: f["stage_warm_us"], BUDGET),
    ("enter_us", "entering, per rank: against setns alone", lambda f: f["enter_us"], BUDGET),
    (
        "enter_us",
        "entering, per rank: against setns and emptying capabilities",
        lambda f: [setns + rest for setns, rest in zip(f["enter_us"], f["renounce_us"])],
        None,
    ),
]


def run_json(*argv):
    result = subprocess.run([str(a) for a in argv], capture_output=True, text=True)
    if result.returncode != 0:
        raise BenchError(f"{argv[0]}: {result.stderr or result.stdout}")
    return json.loads(result.stdout)


def measure(image, quick=False):
    note("building floor and stage")
    floor = binary("-p", "floor")
    stage = binary("-p", "udi-mount", "--example", "stage")
    path = store_on_host() / image_file(image)
    blocks, repeat = (6, 5) if quick else (12, 15)
    note(f"staging {image}: {blocks} times floor and udi-mount in turn, {repeat} rounds each")
    ours = [run_json(stage, "--image", path, "--repeat", 2, "--ranks", 1)]
    binds = ours[0]["binds"]
    floors, ours = [], []
    for _ in range(blocks):
        options = ["--repeat", repeat, "--ranks", 8, "--image", path]
        floors.append(run_json(floor, "--json", "--binds", binds, *options))
        ours.append(run_json(stage, *options))
    rows = []
    for key, title, least, budget in KINDS:
        ratio = Estimate.of(ratios([median(least(f)) for f in floors], [median(o[key]) for o in ours]))
        all_floor = [v for f in floors for v in least(f)]
        all_ours = [v for o in ours for v in o[key]]
        rows.append([
            title,
            f"{percentile(all_floor, 50):.1f} / {percentile(all_floor, 90):.1f}",
            f"{percentile(all_ours, 50):.1f} / {percentile(all_ours, 90):.1f}",
            plain(ratio, 2),
            extremes(ratio, 2),
            f"≤ {budget}" if budget else "",
            ratio.verdict(budget) if budget else "",
        ])
    return (
        "## (a) Staging and entering, against the floor program\n\n"
        f"Image {image}, {binds} binds, {blocks} blocks of {repeat} rounds, floor and udi-mount in turn; "
        "µs are p50 / p90 of all rounds, the ratio is of the blocks' medians.\n"
        "`cargo run --release -p floor -- --image FILE` prints the floor's list of calls.\n\n"
        + table(["", "floor µs", "udi-mount µs", "ratio [95 %]", "min..max", "budget", ""], rows)
    )
