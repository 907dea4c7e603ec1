"""Tries what is beside it: the programs that keep it, other bots, the machine."""

import os
import signal
import socket
import time

from processes import pids, text
from report import attempt, name_of, say, within


def look(config):
    attempt("raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close())
    attempt("packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close())
    attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close())
    attempt("listen on port 80", lambda: socket.create_server(("0.0.0.0", 80)).close())
    attempt("bind /var/the0/s", lambda: socket.socket(socket.AF_UNIX).bind("/var/the0/s"))
    for place in config.get("connect", []):
        connect(place)


def connect(place):
    """Says how far it got with an address, and what came back."""
    host, port = place.rsplit(":", 1)
    said = ""
    try:
        with within(6), socket.create_connection((host, int(port)), 3) as peer:
            got = "connected"
            peer.sendall(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
            said = peer.recv(200).decode(errors="replace")
    except TimeoutError:
        got = "late"
    except OSError as error:
        got = name_of(error)
    say("connect", place=place, got=got, said=said)


def keepers():
    """Processes that are not the bot's own: by id, with name and time of start."""
    own = {os.getpid(), *children()}
    found = {}
    for pid in pids():
        fields = text(f"/proc/{pid}/stat").decode(errors="replace").rpartition(")")[2].split()
        if pid not in own and fields:
            found[pid] = (text(f"/proc/{pid}/comm").decode().strip(), fields[19])
    return found


def children():
    return [int(pid) for pid in text(f"/proc/self/task/{os.getpid()}/children").split()]


def kill_keepers():
    """Sends each what could end it; those that are still there as they were have not been ended."""
    before = keepers()
    say("keepers", there={pid: name for pid, (name, _) in before.items()})
    for pid, (name, _) in before.items():
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGKILL):
            attempt(f"{number.name} to {pid} {name}", lambda pid=pid, number=number: os.kill(pid, number))
    attempt("SIGKILL to all", kill_all)
    time.sleep(2)
    after = keepers()
    gone = {pid: name for pid, (name, began) in before.items() if after.get(pid, ("", ""))[1] != began}
    say("killed", gone=gone, there=len(before) - len(gone))


def kill_all():
    """Everything it may signal but itself: its own children are none it needs."""
    os.kill(-1, signal.SIGKILL)
