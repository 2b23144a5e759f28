"""``hold``: start no more tasks."""

from __future__ import annotations

from tmax.cli import output
from tmax.cli.declaration import Verb
from tmax.cli.held_queue import set_held


def hold(common: output.Common) -> int:
    """Hold the queue.  Raises NoSwarm."""
    return set_held(common, "hold")


VERB = Verb(
    "hold",
    hold,
    help="""Hold the queue: start no more tasks until tmax resume.

    Running tasks continue.""",
    examples=(("tmax hold", "start no more tasks; running ones continue"),),
)
