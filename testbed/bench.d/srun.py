"""(b) srun of /bin/true in an image against bare srun."""

import subprocess
from contextlib import nullcontext

from cluster import Shell, binary, image_file, linger, no_jobs, note, store_on_host, wait_until
from stage import run_json
from stats import Estimate, differences
from statistics import median
from table import extremes, plain, signed, table

NODE = "c1"
OTHER = "c2"
STEP_BUDGET = {1: 1.0, 64: 4.0}
FIRST_BUDGET = 3.0
# Milliseconds over bare srun, measured elsewhere (reference figures, not of this machine).
PEERS = {
    "step": {1: "Shifter +2, pyxis +275", 16: "Shifter +4, pyxis +276", 64: "Shifter +6, pyxis +257..300"},
    "shared": {1: "Shifter +161, pyxis +275", 16: "Shifter +1218, pyxis +276", 64: "Shifter +4825, pyxis +257..300"},
    "first": {1: "Shifter +205, pyxis +274..18255", 64: "pyxis +259..292"},
}
HEADER = ["", "bare ms", "in the image: extra ms [95 %]", "min..max", "bare again: extra ms", "budget", "", "others"]


def row(title, bare, image, again, budget, others):
    extra = Estimate.of(differences(bare, image, again))
    noise = Estimate.of([a - b for b, a in zip(bare, again)])
    return [
        title, plain(Estimate.of(bare)), signed(extra), extremes(extra), signed(noise),
        f"≤ +{budget:g}" if budget else "", extra.verdict(budget) if budget else "", others,
    ]


def further_steps(image, rounds):
    """Steps of a job whose image is staged, bare ones in a job without image beside it."""
    rows = []
    for mode, flags, nodes in [("exclusive", "--exclusive", (NODE, OTHER)), ("shared", "", (NODE, NODE))]:
        salloc = ["salloc", "-Q", "-N1", "-n64", *flags.split()]
        with Shell.as_user("alice", *salloc, "-w", nodes[0], f"--image={image}", "bash") as with_image, \
                Shell.as_user("alice", *salloc, "-w", nodes[1], "bash") as without:
            # What is compared must be what it is called.
            with_image.text("srun -n1 test -e /.shifter/image.json")
            without.text("! srun -n1 test -e /.shifter/image.json")
            with_image.text("! srun -n1 --image=none test -e /.shifter/image.json")
            for ranks in (1, 16, 64):
                # Short steps need more rounds: their budget is smaller, and they cost less.
                count = 3 * rounds if ranks == 1 else rounds
                note(f"further steps, {mode} node, {ranks} ranks: {count} rounds")
                true = f"srun -n{ranks} /bin/true"
                # The first, which stages and reads libc, is not what is measured here.
                for shell in (with_image, without):
                    shell.time(true)
                samples = [(without.time(true), with_image.time(true),
                            with_image.time(f"srun --image=none -n{ranks} /bin/true"), without.time(true))
                           for _ in range(count)]
                bare, inside, none, again = (list(column) for column in zip(*samples))
                title = f"{mode}, {ranks} rank{'s' if ranks > 1 else ''}"
                others = PEERS["step" if mode == "exclusive" else "shared"][ranks]
                rows.append(row(title, bare, inside, again, STEP_BUDGET.get(ranks), others))
                rows.append(row(f"{title}, --image=none", bare, none, again, None, ""))
            if mode == "shared":
                note("a step with another image than its job")
                true = "srun -n1 /bin/true"
                other = f"srun -n1 --image={image} /bin/true"
                samples = [(without.time(true), without.time(other), without.time(true)) for _ in range(2 * rounds)]
                bare, private, again = (list(column) for column in zip(*samples))
                rows.append(row("private UDI (image of the step alone), 1 rank", bare, private, again, None, ""))
    return "### Further steps of a job\n\n" + table(HEADER, rows)


def drop_image(shell, path):
    """No loop device holds the image, and nothing of it is in the page cache."""
    # Loop devices are the host's, and a path within the store names the file on every node.
    held = f"grep -l {path.name} /sys/block/loop*/loop/backing_file 2>/dev/null || true"
    wait_until("the image mount dropped", lambda: not shell.text(held))
    shell.text(f"dd if=/shared/shifter/{path} iflag=nocache count=0 status=none")


def first_floor(floor, image, kind):
    """What no implementation can avoid of a first step, in ms: the floor's staging of the same
    image, and what its /bin/true takes longer than the host's."""
    path = store_on_host() / image_file(image)
    drop = ["--drop-cache"] if kind == "cold" else []
    data = run_json(floor, "--json", "--image", path, "--binds", 5, "--repeat", 20, "--exec", "/bin/true", *drop)
    program = "exec_first_us" if kind == "cold" else "exec_second_us"
    stage = median(data[f"stage_{kind}_us"]) + median(data["enter_us"])
    return (stage + median(data[program]) - median(data["exec_host_us"])) / 1000


def first_steps(image, rounds):
    rows = []
    floor = binary("-p", "floor")
    path = image_file(image)
    for kind in ("cold", "warm"):
        least = first_floor(floor, image, kind)
        with Shell.as_user("alice") as alice, (linger(NODE, 60) if kind == "warm" else nullcontext()):
            for mode, flags in (("exclusive", "--exclusive"), ("shared", "")):
                # What many ranks add is seen above; here once, on the node that others use too.
                for ranks in (1,) if mode == "exclusive" else (1, 64):
                    note(f"first step, {kind} image, {mode} node, {ranks} ranks: {rounds} rounds")
                    srun = f"srun -Q -N1 -w {NODE} -n{ranks} {flags}"

                    def once(image_option):
                        no_jobs(alice, NODE)
                        if kind == "cold" and image_option:
                            drop_image(alice, path)
                        return alice.time(f"{srun} {image_option} /bin/true")

                    once("")
                    once(f"--image={image}")
                    samples = [(once(""), once(f"--image={image}"), once("")) for _ in range(rounds)]
                    bare, inside, again = (list(column) for column in zip(*samples))
                    entry = row(f"{kind}, {mode}, {ranks} rank{'s' if ranks > 1 else ''}",
                                bare, inside, again, least + FIRST_BUDGET, PEERS["first"][ranks])
                    entry[5] = f"≤ +{least + FIRST_BUDGET:.1f}"
                    rows.append(entry)
            no_jobs(alice, NODE)
    return (
        "### First step of a job\n\n"
        f"Budget: the floor of the same image (staging, setns, and what its `/bin/true` takes longer than the host's) + {FIRST_BUDGET:g} ms. "
        "cold: no mount of the image on the node, and nothing of its file in the page cache; warm: the mount of the job before is still there (`image_linger = 60`).\n\n"
        + table(HEADER, rows)
    )


def measure(image, quick=False):
    rounds = 6 if quick else 15
    return (
        "## (b) srun of /bin/true in an image, against bare srun\n\n"
        f"Image {image}; rounds of bare, image, bare; the extra is of each round, against the mean of its two bare runs.\n"
        "\"bare again\" is the second bare run less the first: differences of its size are noise.\n"
        "Figures of others are of an earlier run on another machine of this kind: for orientation, not a comparison in the same run.\n\n"
        + further_steps(image, rounds) + "\n" + first_steps(image, rounds)
    )
