"""Looks for secrets everywhere, and says how far it could see.

A secret of its own making lies where it can be found, by the same means: what of that is missed was not looked at.
"""

import files
import links
import planted
import processes
from needles import Needles
from report import Deadline, Tally, say


def run(config):
    needles, tally = Needles(config.get("needles", [])), Tally()
    deadline = Deadline(config.get("seconds", 120))
    say("needles", names=needles.names())
    with planted.Plant(needles) as plant:
        told = processes.look(needles, tally, deadline)[plant.child.pid]
        files.look(needles, tally, deadline)
        links.look(needles, tally)
        tally.say()
        found = needles.found.pop(planted.NAME, {})
        # What is closed to everybody, also to the parent of its own child.
        closed = {kind: told[kind] for kind in plant.places if told.get(kind, "ok") != "ok"}
        missed = sorted(set(plant.places) - set(found) - set(closed))
        say("control", found=sorted(found), closed=closed, missed=missed)
    return {"found": needles.found, "late": deadline.is_over()}
