"""A bot that means harm. `mode` in its config says which:

look   looks for secrets wherever a process can look: needles.py says how they are given
probe  tries ways out of the container and at its neighbours
fill   uses up one thing until it is refused: `what` is tmp, memory, pids, files, log, state, code or entries
stay   does nothing, as somebody else's bot would

What it finds are JSON lines on standard output with the key "hostile". The last one is {"hostile": "end", ..}, unless
something ended it before. With `stay` set it then waits to be told to end; without, it ends.
All of it is bounded in time and number.
"""

import signal
import time

import fill
import look
import probe
from report import say

MODES = {"look": look.run, "probe": probe.run, "fill": fill.run, "stay": lambda config: {}}


def wait_for_term():
    signal.sigwait({signal.SIGTERM})
    say("term")


def main(bot_id, config):
    mode = config["mode"]
    if config.get("stay") or mode == "stay":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    began = time.monotonic()
    say("begin", mode=mode, bot=bot_id)
    told = MODES[mode](config)
    say("end", mode=mode, seconds=round(time.monotonic() - began, 1), **told)
    if config.get("stay") or mode == "stay":
        wait_for_term()
