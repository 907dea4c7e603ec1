"""Counts, with the platform's SDK: the count goes on where the last run ended."""

import signal
import sys
import time

from the0 import state


def main(id, config):
    count = state.get("count", 0)
    print(f"bot {id} counts {config['symbol']} from {count}")

    def end(number, frame):
        print(f"bot {id} ends at {count}")
        sys.exit(7)

    signal.signal(signal.SIGTERM, end)
    while True:
        count += 1
        state.set("count", count)
        time.sleep(0.1)
