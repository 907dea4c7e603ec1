"""Looks into every file that can be read, and for those that somebody's end may leave behind."""

import os
import resource
import signal
import stat

from report import name_of, say

MOST_FILES = 200_000
MOST_OF_A_FILE = 64 << 20
# Of the kernel's own, these: the rest tells of devices.
OF_PROC = (
    "keys", "key-users", "cmdline", "mounts", "modules", "kallsyms", "kcore", "kmsg", "sysrq-trigger", "version",
    "net/unix", "net/tcp", "sysvipc/shm", "sysvipc/sem", "sysvipc/msg", "sys/kernel/core_pattern", "1/root/etc/shadow",
)  # fmt: skip
OF_DEV = ("mem", "kmem", "port", "kmsg", "sda", "vda", "nvme0n1", "fuse", "kvm", "net/tun")


class Files:
    def __init__(self, needles, tally, deadline):
        self.needles, self.tally, self.deadline = needles, tally, deadline
        self.read, self.bytes = 0, 0

    def walk(self, root):
        device = {os.lstat(path).st_dev for path in ("/proc", "/sys") if os.path.exists(path)}
        stack = [root]
        while stack and not self.deadline.is_over() and self.read < MOST_FILES:
            folder = stack.pop()
            try:
                entries = list(os.scandir(folder))
                self.tally.add("folder", "ok")
            except OSError as error:
                self.tally.add("folder", name_of(error))
                say("closed", folder=folder, why=name_of(error))
                continue
            for entry in entries:
                stack.extend(self.visit(entry, device))

    def visit(self, entry, left_out):
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            self.tally.add("file", name_of(error))
            return []
        self.needles.look(os.fsencode(entry.path), "name", entry.path)
        if stat.S_ISLNK(status.st_mode):
            self.needles.look(os.fsencode(os.readlink(entry.path)), "link", entry.path)
        if stat.S_ISDIR(status.st_mode) and status.st_dev not in left_out:
            return [entry.path]
        if stat.S_ISREG(status.st_mode):
            self.file(entry.path)
        return []

    def file(self, path):
        try:
            with open(path, "rb", buffering=0) as file:
                self.bytes += self.needles.look_through(file.read, "file", path, MOST_OF_A_FILE)
            self.read += 1
            self.tally.add("file", "ok")
        except OSError as error:
            self.tally.add("file", name_of(error))
            if len(path) < 300 and "/python" not in path:
                say("unread", file=path, why=name_of(error))


def devices(needles, tally):
    for name in [f"/proc/{name}" for name in OF_PROC] + [f"/dev/{name}" for name in OF_DEV]:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK)
            try:
                needles.look(os.read(fd, 1 << 20), "kernel", name)
            finally:
                os.close(fd)
            got = "ok"
        except OSError as error:
            got = name_of(error)
        tally.add("kernel", got)
        say("kernel", file=name, got=got)


def core_dumps(tally):
    """Whether somebody's memory may come to lie in a file."""
    say("cores", limit=resource.getrlimit(resource.RLIMIT_CORE))
    before = cores()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    left = sorted(cores() - before)
    tally.add("core", "left" if left or os.WCOREDUMP(status) else "none")
    say("core", signal=os.WTERMSIG(status), dumped=os.WCOREDUMP(status), left=left)


def cores():
    found = set()
    for folder in (".", "/tmp", "/state", "/var/the0", "/"):
        try:
            found |= {os.path.join(folder, name) for name in os.listdir(folder) if name.startswith("core")}
        except OSError:
            pass
    return found


def look(needles, tally, deadline):
    devices(needles, tally)
    core_dumps(tally)
    files = Files(needles, tally, deadline)
    files.walk("/")
    say("files", read=files.read, bytes=files.bytes)
