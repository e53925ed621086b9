"""What a command and all that it starts cost."""

import json
import os
import threading
import time

from cluster import BenchError

# Runs a command and prints what the kernel has counted for it and all its children; what they
# have in memory together (without the page cache) is looked at all the time.
COUNT = """
import json, os, sys, threading, time
def below(pid):
    found = [pid]
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, task)) as children:
                for child in children.read().split():
                    found += below(int(child))
    except OSError:
        pass
    return found
def kib(pid):
    try:
        with open("/proc/%d/status" % pid) as status:
            return sum(int(line.split()[1]) for line in status if line.startswith(("RssAnon:", "RssShmem:")))
    except OSError:
        return 0
peak = 0
def look():
    global peak
    while not over.wait(0.03):
        peak = max(peak, sum(kib(pid) for pid in below(child)))
over = threading.Event()
begin = time.monotonic()
child = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ,
    file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)])
looker = threading.Thread(target=look)
looker.start()
_, status, used = os.wait4(child, 0)
wall = time.monotonic() - begin
over.set()
looker.join()
print(json.dumps({"code": os.waitstatus_to_exitcode(status), "wall": wall,
    "cpu": used.ru_utime + used.ru_stime, "memory": peak / 1024, "written": used.ru_oublock * 512 / 1e6}))
"""


def counted(text, what):
    """What COUNT has printed, last."""
    used = json.loads(text.splitlines()[-1])
    if used["code"] != 0:
        raise BenchError(f"{what} failed:\n{text}")
    return used


class DiskPeak:
    """How much less room a file system had at most, in MB, while something was done."""

    def __init__(self, path):
        self.path, self.least, self.over = path, None, threading.Event()

    def room(self):
        status = os.statvfs(self.path)
        return status.f_bfree * status.f_frsize

    def look(self):
        while not self.over.wait(0.05):
            self.least = min(self.least, self.room())

    def __enter__(self):
        # What was written before and is not on the disk yet has its place now.
        os.sync()
        time.sleep(0.1)
        self.begin = self.least = self.room()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.least = min(self.least, self.room())
        self.over.set()
        self.thread.join()

    @property
    def megabytes(self):
        return (self.begin - self.least) / 1e6
