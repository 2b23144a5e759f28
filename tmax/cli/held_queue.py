"""Holding the queue and releasing it."""

from __future__ import annotations

from tmax.cli import output
from tmax.cli.request import request


def set_held(common: output.Common, verb: str) -> int:
    """Send ``hold`` or ``resume``, and print whether the queue is held now.  Raises NoSwarm."""
    held = bool(request(common.layout, verb)["held"])
    if common.json:
        output.write_json({"schema_version": output.SCHEMA_VERSION, "held": held})
    elif not common.quiet:
        output.write("queue held: queued tasks stay queued until tmax resume\n" if held else "queue resumed: tasks are started again\n")
    return 0
