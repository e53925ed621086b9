"""Life times of short processes, from the kernel's own process events (connector(7)): a poll
would miss them and strace would slow them down."""

import os
import select
import socket
import struct
import threading
from contextlib import suppress

NETLINK_CONNECTOR = 11
CN_IDX_PROC = 1
LISTEN, IGNORE = 1, 2
EXEC, EXIT = 0x2, 0x80000000
HEADER = struct.Struct("=IHHII IIIIHH")  # nlmsghdr, cn_msg
EVENT = struct.Struct("=IIQ")  # what, cpu, nanoseconds


class Processes:
    """While open, records every process whose command line is accepted: (arguments, ms)."""

    def __init__(self, accept):
        self.accept = accept
        self.begun = {}
        self.ended = []
        self.missed = 0
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_CONNECTOR)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind((0, CN_IDX_PROC))
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.listen, daemon=True)

    def ask(self, what):
        payload = struct.pack("=I", what)
        size = HEADER.size + len(payload)
        self.socket.send(HEADER.pack(size, 3, 0, 0, os.getpid(), CN_IDX_PROC, 1, 0, 0, len(payload), 0) + payload)

    def listen(self):
        # The arguments can be read only while the process lives, which is two milliseconds.
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        while not self.stop.is_set():
            if not select.select([self.socket], [], [], 0.1)[0]:
                continue
            data = self.socket.recv(4096)
            what, _, stamp = EVENT.unpack_from(data, HEADER.size)
            pid, group = struct.unpack_from("=II", data, HEADER.size + EVENT.size)
            if pid != group:
                continue
            if what == EXEC:
                try:
                    with open(f"/proc/{pid}/cmdline", "rb") as file:
                        arguments = file.read().decode(errors="replace").split("\0")
                except OSError:
                    self.missed += 1
                    continue
                if self.accept(arguments):
                    self.begun[pid] = (arguments, stamp)
            elif what == EXIT and pid in self.begun:
                arguments, begin = self.begun.pop(pid)
                self.ended.append((arguments, (stamp - begin) / 1e6))

    def __enter__(self):
        self.ask(LISTEN)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        self.ask(IGNORE)
        self.socket.close()
