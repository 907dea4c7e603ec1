"""System calls that Python has no function for."""

import ctypes
import os
import platform

libc = ctypes.CDLL(None, use_errno=True)

# The numbers of calls that differ, and of those of all newer architectures.
NUMBERS = {"x86_64": {"keyctl": 250, "perf_event_open": 298, "bpf": 321}, "aarch64": {"keyctl": 219, "perf_event_open": 241, "bpf": 280}}
COMMON = {"pidfd_open": 434, "pidfd_getfd": 438, "io_uring_setup": 425}

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_PEEKDATA, PTRACE_ATTACH = 17, 0x4206, 2, 16


def check(value):
    if value < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return value


# What gives a long; all others give an int.
LONG = ("syscall", "ptrace", "process_vm_readv")


def call(name, *arguments):
    """A function of the C library that gives a negative number for an error."""
    function = getattr(libc, name)
    function.restype = ctypes.c_long if name in LONG else ctypes.c_int
    return check(function(*arguments))


def syscall(name, *arguments):
    number = COMMON.get(name) or NUMBERS[platform.machine()][name]
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return call("syscall", ctypes.c_long(number), *wide)


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def vm_read(pid, address, length):
    """Memory of another process."""
    buffer = ctypes.create_string_buffer(length)
    local, remote = Iovec(ctypes.addressof(buffer), length), Iovec(address, length)
    one = ctypes.c_ulong(1)
    read = call("process_vm_readv", pid, ctypes.byref(local), one, ctypes.byref(remote), one, ctypes.c_ulong(0))
    return buffer.raw[:read]


def trace(pid):
    """Becomes the tracer of another process, and lets it go."""
    call("ptrace", ctypes.c_long(PTRACE_SEIZE), pid, None, None)
    # Only a process that stands still can be let go; whether it was taken is all that is asked here.
    libc.ptrace(ctypes.c_long(PTRACE_DETACH), pid, None, None)
