"""What is said, and attempts whose outcome is said."""

import contextlib
import errno
import json
import signal
import sys
import time

# A line of a log may be cut when it is longer than 256 KiB.
LONGEST = 8_000
quiet = False


def say(kind, /, **more):
    if quiet:
        return
    line = json.dumps({"hostile": kind, **more}, default=str)
    if len(line) > LONGEST:
        line = json.dumps({"hostile": kind, "cut": line[:LONGEST]})
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def name_of(error):
    """The kernel's name of an error."""
    number = getattr(error, "errno", None)
    return errno.errorcode.get(number, type(error).__name__)


class Late(Exception):
    pass


@contextlib.contextmanager
def within(seconds):
    """Ends what hangs. Not to be nested."""

    def late(*_):
        raise Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def attempt(what, act, seconds=5):
    """Tries `act` and says what came of it: done, or the error."""
    try:
        with within(seconds):
            value = act()
    except Late:
        return say("attempt", what=what, got="late")
    except Exception as error:  # whatever stops it is the answer
        return say("attempt", what=what, got="refused", why=name_of(error), text=str(error)[:200])
    return say("attempt", what=what, got="done", value=value)


class Tally:
    """How often something could be looked at, and what stopped it otherwise."""

    def __init__(self):
        self.counts = {}

    def add(self, what, outcome):
        at = self.counts.setdefault(what, {})
        at[outcome] = at.get(outcome, 0) + 1

    def say(self):
        for what, outcomes in sorted(self.counts.items()):
            say("looked", at=what, **outcomes)


class Deadline:
    def __init__(self, seconds):
        self.end = time.monotonic() + seconds

    def is_over(self):
        return time.monotonic() >= self.end
