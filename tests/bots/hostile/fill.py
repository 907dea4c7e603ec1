"""Uses up one thing until it is refused: says how much it got and what stopped it.

`what` in the config says what; `most` bounds it, in bytes or a number.
"""

import os
import resource
import signal
import time

from report import Deadline, name_of, say

MIB = 1 << 20
SECONDS = 120
PLACES = {"tmp": "/tmp", "code": "/bot", "query": "/query", "var": "/var/the0"}


def state_folder():
    folder = os.environ["STATE_DIR"]
    os.makedirs(folder, exist_ok=True)
    return folder


def fill_folder(folder, most):
    """Writes a file in pieces that no file system can make smaller."""
    piece, size, deadline = os.urandom(MIB), 0, Deadline(SECONDS)
    try:
        with open(f"{folder}/hostile.fill", "wb", buffering=0) as file:
            while size < most and not deadline.is_over():
                size += file.write(piece)
                if size % (16 * MIB) == 0:
                    say("filling", amount=size)
    except OSError as error:
        return name_of(error), size
    return "late" if deadline.is_over() else "most", size


def fill_entries(folder, most):
    os.makedirs(f"{folder}/hostile", exist_ok=True)
    deadline = Deadline(SECONDS)
    for number in range(most):
        try:
            os.close(os.open(f"{folder}/hostile/{number}", os.O_CREAT | os.O_WRONLY))
        except OSError as error:
            return name_of(error), number
        if deadline.is_over():
            return "late", number
    return "most", most


def fill_memory(most):
    held = []
    while len(held) * 4 * MIB < most:
        try:
            # Memory counts when it is written to.
            held.append(bytearray(os.urandom(4096) * 1024))
        except MemoryError:
            return "MemoryError", len(held) * 4 * MIB
        if len(held) % 4 == 0:
            say("filling", amount=len(held) * 4 * MIB)
    return "most", len(held) * 4 * MIB


def fill_pids(most):
    """Each waits for the end of a pipe, and so for ours."""
    reading, writing = os.pipe()
    children, stopped = [], "most"
    try:
        while len(children) < most:
            pid = os.fork()
            if pid == 0:
                os.close(writing)
                os.read(reading, 1)
                os._exit(0)
            children.append(pid)
    except OSError as error:
        stopped = name_of(error)
    os.close(writing)
    for pid in children:
        os.waitpid(pid, 0)
    return stopped, len(children)


def fill_files(most):
    held, stopped = [], "most"
    try:
        while len(held) < most:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        stopped = name_of(error)
    for fd in held:
        os.close(fd)
    return stopped, len(held)


def fill_log(config):
    """So many lines of such a length, as quickly as they are taken; then one that is too long."""
    lines, length = config.get("lines", 100_000), config.get("length", 1_000)
    deadline = Deadline(SECONDS)
    for number in range(lines):
        text = f"flood {number} "
        print(text + "x" * (length - len(text)))
        if deadline.is_over():
            return "late", number
    print("long " + "y" * config.get("longest", 1 << 20))
    # What a slow reader has no room for is left out for him: the report comes when he has caught up.
    time.sleep(3)
    return "most", lines


def in_a_child(act):
    """Done by a child, so that the bot can say what ended it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        stopped, amount = act()
        os.write(writing, f"{stopped} {amount}".encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read().decode().split()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return (told[0], int(told[1])) if told else (f"signal {-code}", None)


def stays_until_told(seconds):
    """Waits to be ended, as whoever has filled too much is."""
    got = signal.sigtimedwait({signal.SIGTERM}, seconds)
    return "SIGTERM" if got else "nobody"


def fill(config):
    what, most = config["what"], config.get("most")
    if what in PLACES:
        return fill_folder(PLACES[what], most or 8 << 30)
    acts = {
        "state": lambda: fill_folder(state_folder(), most or 64 * MIB),
        "entries": lambda: fill_entries(config.get("folder", "/tmp"), most or 300_000),
        "memory": lambda: fill_memory(most or 8 << 30),
        "pids": lambda: fill_pids(most or 4_000),
        "files": lambda: fill_files(most or 100_000),
        "log": lambda: fill_log(config),
    }
    return acts[what]()


def run(config):
    what, began = config["what"], time.monotonic()
    if config.get("wait"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    say("limits", files=resource.getrlimit(resource.RLIMIT_NOFILE), processes=resource.getrlimit(resource.RLIMIT_NPROC))
    stopped, amount = in_a_child(lambda: fill(config)) if config.get("in_child") else fill(config)
    say("filled", what=what, stopped=stopped, amount=amount, seconds=round(time.monotonic() - began, 1))
    if config.get("wait"):
        say("ended", by=stays_until_told(config["wait"]))
    return {"what": what, "stopped": stopped, "amount": amount}
