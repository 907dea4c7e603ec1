"""What is looked for, and where it was found.

`needles` in the config is a list of {"name": .., "masked": ..}, where `masked` is the hexadecimal text of the secret's
bytes, each xor 0x5a: so neither the config nor what is made of it has the secret, and only what somebody leaks is found.
Each is looked for as it is, in UTF-16, in hexadecimal, in Base64 and percent-encoded.
"""

import base64
import binascii
import urllib.parse

from report import say

SHORTEST = 6
PIECE = 1 << 20


def mask(secret):
    return bytes(b ^ 0x5A for b in secret)


def in_base64(secret):
    """Whatever stands before it, but for the characters that its neighbours have a part in."""
    for before, start in ((0, 0), (1, 2), (2, 3)):
        text = base64.b64encode(bytes(before) + secret).rstrip(b"=")
        end = len(text) - ((len(secret) + before) % 3 != 0)
        yield text[start:end]
        yield text[start:end].replace(b"+", b"-").replace(b"/", b"_")


def variants(secret):
    text = secret.decode("latin-1")
    yield "plain", secret
    yield "utf-16", text.encode("utf-16-le")
    yield "hex", binascii.hexlify(secret)
    yield "hex", binascii.hexlify(secret).upper()
    yield "percent", urllib.parse.quote(text, safe="").encode()
    for form in in_base64(secret):
        yield "base64", form


class Needles:
    def __init__(self, given):
        self.forms = {}
        self.longest = SHORTEST
        # How many of each were found in which kind of place.
        self.found = {}
        self.told = set()
        for needle in given:
            self.add(needle["name"], mask(bytes.fromhex(needle["masked"])))

    def add(self, name, secret):
        if len(secret) < SHORTEST:
            raise ValueError(f"{name} is too short to look for")
        for how, form in variants(secret):
            self.forms.setdefault(form, (name, how))
            self.longest = max(self.longest, len(form))

    def names(self):
        return sorted({name for name, _ in self.forms.values()})

    def look(self, data, kind, where, **more):
        """Says what of it is in `data`."""
        for form, (name, how) in self.forms.items():
            at = data.find(form)
            if at >= 0:
                self.hit(name, how, kind, where, **more)

    def hit(self, name, how, kind, where, **more):
        self.found.setdefault(name, {}).setdefault(kind, 0)
        self.found[name][kind] += 1
        if (name, kind, where) not in self.told and len(self.told) < 500:
            self.told.add((name, kind, where))
            say("hit", needle=name, how=how, kind=kind, where=where, **more)

    def look_through(self, read, kind, where, most):
        """Says what of it is in what `read` gives piece by piece; gives how much that was."""
        before, size = b"", 0
        while size < most:
            piece = read(PIECE)
            if not piece:
                break
            size += len(piece)
            self.look(before + piece, kind, where)
            before = piece[-self.longest :]
        return size
