"""sessions.py DOCUMENT…: runs every session that the documents show, and says where they are wrong.

A session is a block marked `console`. Its lines are commands, by their prompt, and what they print:

    $ COMMAND       as alice on the login node        # COMMAND       as root there
    c1# COMMAND     as root on that node              > MORE          the command goes on

`$ cat FILE` makes FILE as shown, if there is none. `…` stands for the rest of a line, or, alone, for one
line or more. That a job had to wait for a moment is not told. What differs from machine to machine (digests, sizes, times, job ids) need not be the same.
"""

import re
import subprocess
import sys
from pathlib import Path

TESTBED = Path(__file__).resolve().parents[1]
PROMPT = re.compile(r"^(\$|#|c\d+#|>) (.*)$")
WAITED = re.compile(r"srun: job \d+ (queued and waiting for|has been allocated) resources")
VARIES = [
    (r"Debian GNU/Linux (\d+ \(\w+\)|\w+/sid)", "DEBIAN"),
    # The nodes'; 3.x is that of an image.
    (r"MPICH Version: *[4-9]\.[0-9.]+", "MPICH VERSION"),
    (r"\b[0-9a-f]{64}\b", "HEX"),
    (r"\b[0-9a-f]{12}\b", "HEX"),
    (r"\b[0-9.]+ ?[kMG]?B\b", "SIZE"),
    (r"\b[0-9.]+ (s|seconds|minutes|hours|days)\b", "TIME"),
    (r"(batch job|job|JobId=) ?\d+", r"\1 N"),
    (r"^\d+\|", "N|"),
    (r"mnt:\[\d+\]", "mnt:N"),
    (r"[ \t]+", " "),
]


def commands(text):
    """(line number, who, command, expected lines) of each command; a block that starts anew says so."""
    block, found = False, []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            block = line.strip() == "```console"
            continue
        if not block:
            continue
        prompt = PROMPT.match(line)
        if prompt and prompt[1] == ">" and found:
            found[-1][2] += "\n" + prompt[2]
        elif prompt:
            found.append([number, prompt[1], prompt[2], []])
        elif found:
            found[-1][3].append(line)
    return found


def plain(line):
    for pattern, name in VARIES:
        line = re.sub(pattern, name, line)
    return line.strip()


def matches(expected, actual):
    """Whether the lines are as shown."""
    pattern = ""
    for line in expected:
        if line.strip() == "…":
            pattern += r"(?:.*\n)+?"
        else:
            pattern += re.escape(plain(line)).replace("…", ".*") + "\n"
    return re.fullmatch(pattern, "".join(plain(line) + "\n" for line in actual)) is not None


def run(who, command, directory):
    if who == "$":
        arguments = ["as", "alice", "bash", "-c", f"cd {directory} && exec 2>&1\n{command}"]
    else:
        arguments = ["on", "ctl" if who == "#" else who.rstrip("#"), "bash", "-c", f"exec 2>&1\n{command}"]
    done = subprocess.run([TESTBED / arguments[0], *arguments[1:]], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return [line for line in done.stdout.splitlines() if not WAITED.fullmatch(line)]


def check(document):
    directory = f"/home/alice/sessions-{document.stem}"
    run("$", f"rm -rf {directory}; mkdir {directory}", "/home/alice")
    wrong, count = 0, 0
    for number, who, command, expected in commands(document.read_text()):
        count += 1
        file = re.fullmatch(r"cat ([\w.-]+)", command)
        if who == "$" and file:
            content = "\n".join(expected)
            run("$", f"[[ -e {file[1]} ]] || cat >{file[1]} <<'SHOWN'\n{content}\nSHOWN\nchmod +x {file[1]}", directory)
        actual = run(who, command, directory)
        if not matches(expected, actual):
            wrong += 1
            print(f"{document.name}:{number}: {command}", *(f"  said: {line}" for line in actual),
                  *(f"  not:  {line}" for line in expected), sep="\n")
    run("$", f"rm -rf {directory}", "/home/alice")
    print(f"{document.name}: {count} commands, {wrong} wrong")
    return wrong or not count


if __name__ == "__main__":
    sys.exit(1 if sum(check(Path(name)) for name in sys.argv[1:]) else 0)
