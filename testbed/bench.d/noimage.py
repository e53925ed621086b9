"""(c) Jobs without an image: what the plugin costs those who do not use it."""

import time
from contextlib import contextmanager

from cluster import Shell, no_jobs, note, wait_until
from procevents import Processes
from stats import Estimate, differences, percentile
from table import extremes, plain, signed, table

NODE = "c2"
STACK = "/etc/slurm/plugstack.conf"
HEADER = ["", "empty plugstack", "with the plugin: more [95 %]", "min..max", "empty again: more", "budget", ""]


class Stack:
    """plugstack.conf of the login node and of one compute node, now with and now without the
    plugin. slurmd keeps what it loaded at its start; srun and every slurmstepd read it anew."""

    def __init__(self, shells):
        self.shells = shells

    def empty(self):
        self.put("")

    def plugin(self):
        self.put("required shifter.so")

    def put(self, line):
        for shell in self.shells:
            shell.text(f"echo '{line}' >{STACK}.new && mv {STACK}.new {STACK}")


@contextmanager
def plugstack():
    with Shell.on("ctl") as login, Shell.on(NODE) as node:
        for shell in (login, node):
            shell.text(f"grep -q shifter.so {STACK} && cp -p {STACK} {STACK}.bench")
        try:
            yield Stack([login, node])
        finally:
            for shell in (login, node):
                shell.text(f"mv {STACK}.bench {STACK}")


def row(title, unit, empty, plugin, again, budget=None, digits=1):
    more = Estimate.of(differences(empty, plugin, again))
    noise = Estimate.of([a - b for b, a in zip(empty, again)])
    return [
        f"{title}, {unit}", plain(Estimate.of(empty), digits), signed(more, digits), extremes(more, digits),
        signed(noise, digits), f"≤ +{budget:g}" if budget is not None else "none",
        more.verdict(budget) if budget is not None else ("within noise" if more.low <= 0 <= more.high else "differs"),
    ]


def rounds_of(stack, rounds, once):
    """empty, plugin, empty: three lists."""
    samples = []
    for _ in range(rounds):
        stack.empty()
        before = once()
        stack.plugin()
        with_plugin = once()
        stack.empty()
        samples.append((before, with_plugin, once()))
    return [list(column) for column in zip(*samples)]


def steps(stack, alice, rounds):
    rows = []
    with Shell.as_user("alice", "salloc", "-Q", "-N1", "-n64", "-w", NODE, "bash") as job:
        for ranks in (1, 64):
            note(f"steps without image, {ranks} ranks: {rounds} rounds")
            true = f"srun -n{ranks} /bin/true"
            job.time(true)
            rows.append(row(f"further step, {ranks} rank{'s' if ranks > 1 else ''}", "ms",
                            *rounds_of(stack, rounds, lambda: job.time(true))))

    def job_alone():
        no_jobs(alice, NODE)
        return alice.time(f"srun -Q -N1 -w {NODE} -n1 /bin/true")

    note(f"first steps without image: {rounds} rounds")
    rows.append(row("first step of a job, 1 rank", "ms", *rounds_of(stack, rounds, job_alone)))
    no_jobs(alice, NODE)
    return rows


def memory(stack, rounds):
    """Private memory of the slurmstepd of a running step."""
    with Shell.as_user("alice", "salloc", "-Q", "-N1", "-n1", "-w", NODE, "bash") as job, Shell.on(NODE) as node:
        number = job.text("echo $SLURM_JOB_ID")

        # The oldest of that name: the task is its child, and has the name until it execs.
        find = f"pgrep -of '^slurmstepd: \\[{number}\\.[0-9]+\\]' || true"

        def once():
            wait_until("the last step gone", lambda: not node.text(find))
            job.text("(srun -n1 sleep 60 >/dev/null 2>&1 &)")
            wait_until("the step started", lambda: node.text("pgrep -f '^/?.*sleep 60$' || true"))
            time.sleep(0.2)  # let its threads settle
            text = node.text(f"tail -n +2 /proc/$({find})/smaps_rollup")
            job.text(f"scancel {number}.$(squeue -h -s -j {number} -o %i | sed -n 's/.*\\.\\([0-9][0-9]*\\)$/\\1/p')")
            kilobytes = {name: int(value.split()[0]) for name, value in (line.split(":") for line in text.splitlines())}
            return kilobytes["Private_Dirty"] + kilobytes["Private_Clean"], kilobytes["Private_Dirty"], kilobytes["Pss"]

        note(f"memory of slurmstepd: {rounds} rounds")
        empty, plugin, again = rounds_of(stack, rounds, once)

        def column(i):
            return [[sample[i] for sample in samples] for samples in (empty, plugin, again)]

        return [
            row("slurmstepd: written private memory", "kB", *column(1), budget=1024, digits=0),
            row("slurmstepd: all private memory", "kB", *column(0), digits=0),
            row("slurmstepd: proportional share (Pss)", "kB", *column(2), digits=0),
        ]


# In a Python of its own each time: dlopen as Slurm does it, with Slurm's own library loaded.
DLOPEN = """
import ctypes, glob, time
slurm = [p for p in glob.glob("/usr/lib/*/slurm*/libslurmfull.so")][0]
ctypes.CDLL(slurm, mode=ctypes.RTLD_GLOBAL)
plugin = slurm.replace("libslurmfull.so", "shifter.so")
begin = time.perf_counter_ns()
ctypes.PyDLL(plugin, mode=1)
print((time.perf_counter_ns() - begin) / 1e6)
"""


def load_time(stack, alice, rounds):
    """`srun --help` loads the plugins, asks them for their options, prints and ends."""
    note(f"time to load: {rounds} rounds")

    def once():
        return alice.time("for i in 1 2 3 4 5 6 7 8 9 10; do srun --help >/dev/null; done") / 10

    rows = [row("srun --help (load, start, options)", "ms", *rounds_of(stack, rounds, once), budget=2, digits=2)]
    opened = [float(alice.text(f"python3 -c '{DLOPEN}'")) for _ in range(rounds)]
    estimate = Estimate.of(opened)
    rows.append(["dlopen alone, ms", "", plain(estimate, 2), extremes(estimate, 2), "", "≤ +2", estimate.verdict(2)])
    return rows


def hooks(alice, jobs):
    """What slurmd runs for the plugin at the ends of a job."""
    note(f"epilog process: {jobs} jobs")

    def is_hook(arguments):
        return len(arguments) > 2 and arguments[0].endswith("slurmstepd") and arguments[1] == "spank"

    try:
        with Processes(is_hook) as processes:
            for _ in range(jobs):
                alice.time(f"srun -Q -N1 -w {NODE} -n1 /bin/true")
                no_jobs(alice, NODE)
            time.sleep(0.3)
    except OSError as error:
        return f"The epilog process could not be observed here (process events: {error}).\n"
    # Other people's jobs count in neither number.
    text = []
    for kind in ("prolog", "epilog"):
        times = [ms for arguments, ms in processes.ended if arguments[2] == kind]
        per_job = len(times) / jobs
        if times:
            text.append(
                f"slurmd ran {per_job:.1f} `slurmstepd spank {kind}` per job of {jobs} jobs without an image: "
                f"{percentile(times, 50):.1f} ms (p50), {percentile(times, 90):.1f} ms (p90), {min(times):.1f}..{max(times):.1f} ms, "
                f"after the job's end where no rank waits for it."
            )
        else:
            text.append(f"slurmd ran no `slurmstepd spank {kind}`.")
    return " ".join(text) + "\n"


def measure(image, quick=False):
    rounds = 6 if quick else 15
    with Shell.as_user("alice") as alice:
        no_jobs(alice, NODE)
        with plugstack() as stack:
            rows = steps(stack, alice, rounds)
            rows += memory(stack, 6)
            rows += load_time(stack, alice, rounds)
        processes = hooks(alice, rounds)
    return (
        "## (c) Jobs without an image\n\n"
        f"{rounds} rounds of empty plugstack, plugin, empty plugstack on {NODE} (memory: 6). "
        "Steps read the plugstack anew; slurmd itself keeps the plugin throughout.\n\n"
        + table(HEADER, rows) + "\n" + processes
    )
