"""Counts, with the platform's SDK: the count goes on where the last run ended."""

import signal
import sys
import threading

from the0 import state


def main(id, config):
    count = state.get("count", 0)
    print(f"bot {id} counts {config['symbol']} from {count}")

    # An end inside the handler would come in the middle of a write too: the SDK writes in place, and what is half there
    # reads as nothing.
    ends = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: ends.set())
    while not ends.wait(0.1):
        count += 1
        state.set("count", count)
    print(f"bot {id} ends at {count}")
    sys.exit(7)
