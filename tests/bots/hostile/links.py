"""Looks at what can be talked to: sockets, the daemon's, ports of this machine; and at the kernel's keyrings."""

import ctypes
import os
import socket

import system
from report import name_of, say

WAIT = 1.0
DAEMONS = ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock")
QUESTIONS = ("/", "/_status", "/_metrics", "/environment", "/debug", "/../../etc/passwd")
# Keyrings by the kernel's numbers for them.
KEYRINGS = {"thread": -1, "process": -2, "session": -3, "user": -4, "user session": -5}
KEYCTL_READ = 11
MOST = 128


def hear(peer, needles, kind, where):
    peer.settimeout(WAIT)
    data = b""
    try:
        while len(data) < 1 << 20 and (piece := peer.recv(65536)):
            data += piece
    except OSError:
        pass
    needles.look(data, kind, where)
    return len(data)


def unix_sockets(needles, tally):
    names = set(DAEMONS)
    try:
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as file:
            names |= {line.split()[7] for line in file.readlines()[1:] if len(line.split()) > 7}
    except OSError as error:
        tally.add("sockets", name_of(error))
    for name in sorted(names)[:MOST]:
        address = "\0" + name[1:] if name.startswith("@") else name
        try:
            with socket.socket(socket.AF_UNIX) as peer:
                peer.settimeout(WAIT)
                peer.connect(address)
                if name in DAEMONS:
                    peer.sendall(b"GET /containers/json?all=1 HTTP/1.0\r\nHost: d\r\n\r\n")
                hear(peer, needles, "socket", name)
            got = "ok"
        except OSError as error:
            got = name_of(error)
        tally.add("sockets", got)
        say("socket", name=name, got=got)


def listening():
    """Ports that somebody listens on, by the kernel's tables."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as file:
                rows = [line.split() for line in file.readlines()[1:]]
        except OSError:
            continue
        found |= {int(row[1].rsplit(":", 1)[1], 16) for row in rows if row[3] == "0A"}
    return sorted(found)


def ports(needles, tally):
    for port in listening()[:MOST]:
        heard = sum(ask(port, path, needles, tally) for path in QUESTIONS)
        say("port", port=port, heard=heard)


def ask(port, path, needles, tally):
    try:
        with socket.create_connection(("127.0.0.1", port), WAIT) as peer:
            peer.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            heard = hear(peer, needles, "port", f"127.0.0.1:{port}{path}")
        tally.add("ports", "ok")
        return heard
    except OSError as error:
        tally.add("ports", name_of(error))
        return 0


def keyrings(needles, tally):
    for name, number in KEYRINGS.items():
        try:
            read_keyring(needles, name, number)
            got = "ok"
        except OSError as error:
            got = name_of(error)
        tally.add("keyring", got)
        say("keyring", name=name, got=got)


def read_keyring(needles, name, number):
    """A keyring's content is the numbers of its keys, and these may have one."""
    content = read_key(number)
    needles.look(content, "keyring", name)
    for at in range(0, len(content) - 3, 4):
        key = int.from_bytes(content[at : at + 4], "little", signed=True)
        try:
            needles.look(read_key(key), "keyring", f"{name}: key {key}")
        except OSError:
            pass


def read_key(number):
    buffer = ctypes.create_string_buffer(65536)
    size = system.syscall("keyctl", KEYCTL_READ, number, ctypes.addressof(buffer), len(buffer))
    return buffer.raw[: min(size, len(buffer))]


def own_environment(needles, tally):
    for name, value in os.environb.items():
        needles.look(name + b"=" + value, "environment", name.decode(errors="replace"))
        tally.add("environment", "ok")
    say("environment", names=sorted(os.environ))


def look(needles, tally):
    own_environment(needles, tally)
    unix_sockets(needles, tally)
    ports(needles, tally)
    keyrings(needles, tally)
