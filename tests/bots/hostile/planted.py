"""A secret that is there to be found: a child that holds it in all the ways a careless program would."""

import os
import secrets
import subprocess
import sys
import tempfile

NAME = "planted"

# Its memory, an open file that has no name any more, a socket that tells whoever asks.
CHILD = """
import os, socket, sys, tempfile
secret = os.environ["PLANTED"]
file = tempfile.TemporaryFile()
file.write(secret.encode())
file.flush()
server = socket.socket(socket.AF_UNIX)
server.bind("\\0the0-hostile-" + str(os.getpid()))
server.listen()
web = socket.socket()
web.bind(("127.0.0.1", 0))
web.listen()
print("ready", flush=True)
import threading
def tell(server):
    while True:
        with server.accept()[0] as peer:
            peer.sendall(secret.encode())
for one in (server, web):
    threading.Thread(target=tell, args=(one,), daemon=True).start()
sys.stdin.read()
"""


class Plant:
    # Kinds of places, as hits name them.
    places = ("environ", "cmdline", "mem", "vm", "fd", "file", "socket", "port")

    def __init__(self, needles):
        self.secret = secrets.token_hex(16)
        needles.add(NAME, self.secret.encode())

    def __enter__(self):
        self.file = tempfile.NamedTemporaryFile("w", dir="/tmp", suffix=".planted")
        self.file.write(self.secret)
        self.file.flush()
        command = [sys.executable, "-c", CHILD, self.secret]
        env = {"PATH": os.environ.get("PATH", ""), "PLANTED": self.secret}
        pipe = subprocess.PIPE
        self.child = subprocess.Popen(command, env=env, stdin=pipe, stdout=pipe)
        self.child.stdout.readline()
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        self.child.wait(10)
        self.file.close()
