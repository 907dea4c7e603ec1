"""Tries ways out: what a bot is, what it can write, become, mount, trace, kill and reach.

`connect` in the config are addresses to try, "host:port" each; with `kill` set it also tries to end the programs that
keep it.
"""

import ctypes
import errno
import os
import resource
import signal
import socket
import stat
import time

import neighbours
import system
from report import attempt, name_of, say

FOLDERS = (
    "/", "/usr", "/usr/bin", "/etc", "/opt", "/opt/the0/bin", "/opt/the0/wrappers", "/var", "/var/the0", "/var/the0/logs",
    "/run", "/dev", "/dev/shm", "/proc", "/sys", "/sys/fs/cgroup", "/home", "/root", "/query", "/tmp", "/bot", "/state",
)  # fmt: skip
SETTINGS = (
    "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/overcommit_memory",
    "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/yama/ptrace_scope", "/proc/sysrq-trigger", "/proc/1/oom_score_adj",
    "/proc/self/oom_score_adj", "/proc/acpi", "/proc/self/uid_map", "/proc/self/setgroups", "/sys/kernel/mm/ksm/run",
)  # fmt: skip
CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWNET, CLONE_NEWPID = 0x10000000, 0x20000, 0x40000000, 0x20000000


def who(config):
    status = dict(line.split(":\t", 1) for line in open("/proc/self/status", encoding="utf-8").read().splitlines())
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Uid", "Gid", "Groups")
    say("who", **{name: " ".join(status.get(name, "").split()) for name in names})
    limits = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in ("NOFILE", "CORE", "NPROC", "MEMLOCK")}
    say("limits", **limits)
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            before, after = line.rstrip("\n").split(" - ")
            _, _, _, _, at, options = before.split(" ")[:6]
            kind, _, more = after.split(" ")[:3]
            say("mount", at=at, options=options, kind=kind, more=more[:200])
    say("cgroup", lines=open("/proc/self/cgroup", encoding="utf-8").read().splitlines()[:20])
    attempt("interfaces", lambda: [name for _, name in socket.if_nameindex()])


def write(path, flags=os.O_WRONLY | os.O_CREAT | os.O_EXCL, text=b"hostile"):
    fd = os.open(path, flags, 0o644)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)


def create_and_remove(folder):
    path = f"{folder.rstrip('/')}/.hostile"
    write(path)
    os.unlink(path)


def writing(config):
    for folder in FOLDERS:
        attempt(f"write in {folder}", lambda folder=folder: create_and_remove(folder))
    for path in ("/opt/the0/bin/sync", "/opt/the0/wrappers/python.py", "/etc/passwd", "/etc/hosts", "/etc/resolv.conf"):
        attempt(f"change {path}", lambda path=path: write(path, os.O_WRONLY | os.O_APPEND))
        attempt(f"rename {path}", lambda path=path: os.rename(path, path + ".hostile"))
    for path in ("/var/the0/done", "/var/the0/status.json", "/var/the0/synced.json", "/var/the0/runs.jsonl", "/var/the0/logs/bot.log"):
        attempt(f"change {path}", lambda path=path: write(path, os.O_WRONLY, b""))
    attempt("lower oom_score_adj", lambda: write("/proc/self/oom_score_adj", os.O_WRONLY, b"-1000"))
    for path in SETTINGS:
        attempt(f"set {path}", lambda path=path: set_again(path))


def set_again(path):
    """What would be changed is written as it is."""
    try:
        with open(path, "rb") as file:
            now = file.read(4096)
    except OSError:
        now = b"0"
    write(path, os.O_WRONLY, now)


def in_a_child(act):
    """What changes the process itself is done by another."""
    child = os.fork()
    if child == 0:
        code = 0
        try:
            act()
        except OSError as error:
            code = error.errno or 255
        except ValueError:  # as Python says that a limit may not be raised
            code = errno.EPERM
        except BaseException:  # the child must not go on as the bot
            code = 255
        os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code:
        raise OSError(code, os.strerror(code) if code > 0 else f"signal {-code}")


def changes(config):
    """Attempts that change who it is or what it sees."""
    mount = lambda kind, at, flags=0: system.call("mount", b"none", at, kind, ctypes.c_ulong(flags), None)
    acts = {
        "mount tmpfs": lambda: mount(b"tmpfs", b"/tmp"),
        "mount proc": lambda: mount(b"proc", b"/tmp"),
        "remount / for writing": lambda: mount(b"", b"/", 0x20),
        "umount /proc": lambda: system.call("umount2", b"/proc", 2),
        "unshare user": lambda: system.call("unshare", CLONE_NEWUSER),
        "unshare mounts": lambda: system.call("unshare", CLONE_NEWNS),
        "unshare network": lambda: system.call("unshare", CLONE_NEWNET),
        "unshare pids": lambda: system.call("unshare", CLONE_NEWPID),
        "join namespaces of 1": lambda: system.call("setns", os.open("/proc/1/ns/mnt", os.O_RDONLY), 0),
        "chroot": lambda: os.chroot("/tmp"),
        "become root": lambda: os.setuid(0),
        "become group root": lambda: os.setgid(0),
        "leave groups": lambda: os.setgroups([]),
        "set hostname": lambda: socket.sethostname("hostile"),
        "set clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
        "reboot": lambda: system.call("reboot", 0xCAD),
        "load module": lambda: system.call("syscall", ctypes.c_long(175), None, 0, b""),
        "open by handle": lambda: system.call("open_by_handle_at", -100, b"\0" * 32, 0),
        "bpf": lambda: system.syscall("bpf", 0, 0, 0),
        "perf events": lambda: system.syscall("perf_event_open", 0, 0, -1, -1, 0),
        "io_uring": lambda: system.syscall("io_uring_setup", 1, ctypes.addressof(ctypes.create_string_buffer(256))),
        "personality": lambda: system.call("personality", 0x0040000),
        "raise nofile": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20)),
        "raise cores": lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)),
        "raise priority": lambda: os.nice(-5),
        "real-time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
        "kernel log": lambda: system.call("klogctl", 3, ctypes.create_string_buffer(64), 64),
    }
    for what, act in acts.items():
        attempt(what, lambda act=act: in_a_child(act))


def devices(config):
    for path in ("/tmp/null", "/bot/null", "/dev/hostile"):
        attempt(f"mknod {path}", lambda path=path: os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3)))
    for path in ("/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/fuse", "/dev/net/tun", "/proc/kcore"):
        attempt(f"open {path}", lambda path=path: os.close(os.open(path, os.O_RDONLY)))
    say("devices", names=sorted(os.listdir("/dev")))


def privileged_files(config):
    """Programs that give whoever runs them more than he has."""
    found = []
    root = os.stat("/").st_dev
    for folder, folders, names in os.walk("/"):
        folders[:] = [name for name in folders if is_on(os.path.join(folder, name), root)]
        for name in names:
            path = os.path.join(folder, name)
            try:
                mode = os.lstat(path).st_mode
                if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID) or os.getxattr(path, "security.capability"):
                    found.append(path)
            except OSError:
                pass
    say("setuid", files=found[:50])
    attempt("make a setuid program", make_setuid)


def is_on(path, device):
    try:
        return os.lstat(path).st_dev == device
    except OSError:
        return False


def make_setuid():
    write("/tmp/setuid", os.O_WRONLY | os.O_CREAT)
    os.chown("/tmp/setuid", 0, 0)


def executing(config):
    """Whether what it writes can be run."""
    for folder in ("/tmp", "/dev/shm", "/state", "/bot", "/query"):
        attempt(f"run a program in {folder}", lambda folder=folder: run_in(folder))


def run_in(folder):
    path = f"{folder}/.hostile.sh"
    with open(path, "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\nexit 0\n")
    try:
        os.chmod(path, 0o755)
        in_a_child(lambda: os.execv(path, [path]))
    finally:
        os.unlink(path)


def run(config):
    for part in (who, writing, changes, devices, privileged_files, executing):
        try:
            part(config)
        except Exception as error:  # one that cannot be tried leaves the others
            say("broken", part=part.__name__, why=name_of(error), text=str(error)[:200])
    neighbours.look(config)
    if config.get("kill"):
        neighbours.kill_keepers()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return {}
