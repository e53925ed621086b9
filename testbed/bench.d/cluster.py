"""The running testbed: shells on its nodes that stay open, so that a measurement contains the
command and nothing of `docker exec`."""

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

TESTBED = Path(__file__).resolve().parent.parent
TOP = TESTBED.parent
# The prefix of the testbed's containers and volumes.
NAME = os.environ.get("TESTBED_NAME", "shifter")
MARK = "@@bench@@"


class BenchError(Exception):
    """Something that makes a figure impossible; said to the user as it is."""


def note(text):
    print(f"testbed/bench: {text}", flush=True, file=sys.stderr)


def prefer(node, nice=-10):
    """Sets the priority of everything that runs on a node, so that other work on this machine
    (compilers, tests) disturbs baseline and subject less. Children inherit it."""
    top = subprocess.run(["docker", "top", f"{NAME}-{node}", "-eo", "pid"], capture_output=True, text=True)
    for pid in top.stdout.split()[1:]:
        with suppress(OSError):  # it may have ended
            for thread in os.listdir(f"/proc/{pid}/task"):
                os.setpriority(os.PRIO_PROCESS, int(thread), nice)


class Shell:
    """A bash that takes one command at a time."""

    def __init__(self, node, *argv):
        self.container = f"{NAME}-{node}"
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.text("true")
        prefer(node)

    @classmethod
    def as_user(cls, user, *argv):
        return cls("ctl", str(TESTBED / "as"), user, *(argv or ("bash",)))

    @classmethod
    def on(cls, node):
        return cls(node, str(TESTBED / "on"), node, "bash")

    def attempt(self, command):
        """Seconds on the node's own clock, exit code, and what the command printed."""
        self.process.stdin.write(
            f"__out=$(__s=$EPOCHREALTIME; {{ {command}\n}} </dev/null 2>&1; "
            f'__rc=$?; echo; echo "{MARK} $__rc $__s $EPOCHREALTIME"); echo "$__out"\n'
        )
        self.process.stdin.flush()
        output = []
        for line in self.process.stdout:
            if line.startswith(MARK):
                code, begin, end = line.split()[1:]
                return float(end) - float(begin), int(code), "".join(output).strip()
            output.append(line)
        raise BenchError(f"the shell ended during: {command}\n{''.join(output)}")

    def time(self, command):
        """Milliseconds; the command must succeed."""
        seconds, code, output = self.attempt(command)
        if code != 0:
            raise BenchError(f"exit code {code} from: {command}\n{output}")
        return seconds * 1000

    def text(self, command):
        """What a command prints; it must succeed."""
        _, code, output = self.attempt(command)
        if code != 0:
            raise BenchError(f"exit code {code} from: {command}\n{output}")
        return output

    def close(self):
        self.process.stdin.close()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def wait_until(what, condition, seconds=60):
    """Polls; a testbed that does not come to rest gives no figures."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise BenchError(f"{what}: not after {seconds} s")
        time.sleep(0.01)


def no_jobs(shell, node):
    """Waits until no job, not even a completing one, is on the node."""
    wait_until(f"{node} without jobs", lambda: not shell.text(f"squeue -h -w {node}"))


def store_on_host():
    """The shared store as this machine sees it."""
    mount = subprocess.run(
        ["docker", "volume", "inspect", "-f", "{{.Mountpoint}}", f"{NAME}-shared"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()
    return Path(mount) / "shifter"


def image_file(name):
    """The file of docker:NAME:TAG in the store, relative to it; None if it is not there."""
    repository, tag = name.split(":")
    store = store_on_host()
    ref = store / "refs/docker.io/library" / repository / f":{tag}"
    if not ref.exists():
        return None
    digest = json.loads(ref.read_text())["platforms"]["linux/amd64"]["digest"].removeprefix("sha256:")
    manifest = store / "manifests" / digest[:2] / digest
    for packed in json.loads(manifest.read_text())["files"].values():
        ident = packed["id"].removeprefix("sha256:")
        return Path("images") / ident[:2] / f"{ident}.{packed['format']}"
    return None


def usable_image(wanted):
    """The image asked for, pulled if need be."""
    if image_file(wanted) is None:
        note(f"pulling {wanted}")
        with Shell.as_user("alice") as alice:
            alice.text(f"shifterimg pull docker:{wanted}")
    if image_file(wanted) is None:
        raise BenchError(f"{wanted} is not in the store after a pull")
    return wanted


@contextmanager
def linger(node, seconds):
    """How long image mounts stay on a node, for the time of a measurement."""
    config = "/etc/shifter/shifter.toml"
    with Shell.on(node) as root:
        root.text(f"cp -p {config} {config}.bench && cp -p {config} {config}.new"
                  f" && sed -i 's/^image_linger = .*/image_linger = {seconds}/' {config}.new"
                  f" && grep -q '^image_linger = {seconds}$' {config}.new && mv {config}.new {config}")
        try:
            yield
        finally:
            root.text(f"mv {config}.bench {config}")


def binary(*cargo):
    """Builds a program of the workspace in release and returns its path."""
    out = subprocess.run(
        ["cargo", "build", "-q", "--release", "--message-format=json-render-diagnostics", *cargo],
        cwd=TOP, stdout=subprocess.PIPE, text=True, check=True,
        env={**os.environ, "PATH": os.environ["PATH"] + ":" + str(Path.home() / ".cargo/bin")},
    ).stdout
    found = [m["executable"] for m in map(json.loads, out.splitlines()) if m.get("executable")]
    if len(found) != 1:
        raise BenchError(f"cargo build {' '.join(cargo)} made {len(found)} programs")
    return found[0]
