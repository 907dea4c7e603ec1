"""Looks into every process that can be seen."""

import ctypes
import os
import re
import stat

import system
from report import Late, name_of, say, within

SMALL = 4 << 20
MOST_MEMORY = 256 << 20
TEXTS = ("environ", "cmdline", "comm", "status", "stat", "auxv", "maps", "mountinfo", "cgroup", "stack", "syscall", "io")
MOST_FDS = 64
# Pipes that are not read: a line of its own that it took back would reach nobody.
OUTPUT = [os.fstat(fd) for fd in (1, 2)]


def pids():
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def text(path):
    try:
        with open(path, "rb") as file:
            return file.read(SMALL)
    except OSError:
        return b""


def outcome(act):
    """`ok`, or the name of what stopped it."""
    try:
        with within(10):
            act()
        return "ok"
    except (OSError, ValueError, Late) as error:
        return name_of(error)


class Process:
    def __init__(self, pid, needles, tally):
        self.pid, self.needles, self.tally = pid, needles, tally
        self.root = f"/proc/{pid}"
        self.is_own = pid == os.getpid()
        self.told = {}

    def try_(self, what, act):
        got = outcome(act)
        self.tally.add(what, got)
        self.told[what] = got

    def look(self):
        for name in TEXTS:
            self.try_(name, lambda name=name: self.text(name, self.root))
        self.try_("tasks", self.tasks)
        self.try_("fds", self.fds)
        for name in ("root", "cwd", "exe"):
            self.try_(name, lambda name=name: os.stat(f"{self.root}/{name}"))
        if not self.is_own:
            self.try_("mem", self.memory)
            self.try_("vm", self.vm)
            self.try_("ptrace", lambda: system.trace(self.pid))
            self.try_("pidfd", self.pidfd)
        comm = text(f"{self.root}/comm").decode(errors="replace").strip()
        uid = re.search(rb"^Uid:\s+(\d+)", text(f"{self.root}/status"), re.M)
        say("process", pid=self.pid, name=comm, uid=int(uid[1]) if uid else None, own=self.is_own, got=self.told)
        return self.told

    def text(self, name, folder):
        with open(f"{folder}/{name}", "rb") as file:
            data = file.read(SMALL)
        where = f"{folder}/{name}"
        if name != "environ":
            return self.needles.look(data, name, where)
        for variable in data.split(b"\0"):
            key = variable.partition(b"=")[0].decode(errors="replace")[:100]
            self.needles.look(variable, name, where, variable=key)

    def tasks(self):
        for task in os.listdir(f"{self.root}/task")[:32]:
            for name in ("environ", "cmdline", "comm"):
                self.text(name, f"{self.root}/task/{task}")

    def fds(self):
        folder = f"{self.root}/fd"
        for name in os.listdir(folder)[:MOST_FDS]:
            self.tally.add("fd", outcome(lambda name=name: self.fd(f"{folder}/{name}")))

    def fd(self, path):
        status = os.stat(path)
        is_output = any(os.path.samestat(status, own) for own in OUTPUT)
        if stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode) and not is_output:
            self.read_open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), path)

    def read_open(self, fd, where):
        with open(fd, "rb", buffering=0) as file:
            if file.seekable():
                file.seek(0)
            self.needles.look_through(lambda size: file.read(size), "fd", where, SMALL)

    def ranges(self):
        for line in text(f"{self.root}/maps").splitlines():
            span, rights = line.split()[:2]
            start, end = (int(part, 16) for part in span.split(b"-"))
            if rights.startswith(b"r") and b"[vvar]" not in line and b"[vsyscall]" not in line:
                yield start, end

    def memory(self):
        left = MOST_MEMORY
        with open(f"{self.root}/mem", "rb", buffering=0) as file:
            for start, end in self.ranges():
                left -= self.span(file, start, min(end, start + max(left, 0)))
        self.tally.add("mem bytes", str(MOST_MEMORY - left))

    def span(self, file, start, end):
        file.seek(start)
        try:
            return self.needles.look_through(
                lambda size: file.read(min(size, end - file.tell())), "mem", f"{self.root}/mem", end - start
            )
        except OSError:  # a hole
            return 0

    def vm(self):
        # Somewhere in its memory if it can be known where, else where programs are by default.
        for start, end in list(self.ranges()) or [(0x400000, 0x401000)]:
            data = system.vm_read(self.pid, start, min(end - start, SMALL))
            self.needles.look(data, "vm", f"process_vm_readv of {self.pid}")

    def pidfd(self):
        """Takes its open files over, one by one."""
        handle = system.syscall("pidfd_open", self.pid, 0)
        try:
            first = None
            for number in range(32):
                try:
                    self.read_open(system.syscall("pidfd_getfd", handle, number, 0), f"descriptor {number} of {self.pid}")
                except OSError as error:
                    first = first or error
            if first and name_of(first) in ("EPERM", "EACCES", "ENOSYS"):
                raise first
        finally:
            os.close(handle)


def own_input(needles, tally):
    """What came on standard input, if it is not the end at once."""

    def read():
        os.set_blocking(0, False)
        needles.look(os.read(0, SMALL) or b"", "stdin", "standard input")

    tally.add("stdin", outcome(read))
    say("stdin", target=os.readlink("/proc/self/fd/0"))


def look(needles, tally, deadline):
    """Gives what came of each attempt, by process."""
    own_input(needles, tally)
    # Anybody may trace this one, which nobody else's permission may hang on.
    system.libc.prctl(ctypes.c_int(0x59616D61), ctypes.c_ulong(0xFFFFFFFF), 0, 0, 0)
    return {pid: Process(pid, needles, tally).look() for pid in pids() if not deadline.is_over()}
