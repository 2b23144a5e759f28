"""``resume``: start tasks again."""

from __future__ import annotations

from tmax.cli import output
from tmax.cli.declaration import Verb
from tmax.cli.held_queue import set_held


def resume(common: output.Common) -> int:
    """Release the queue.  Raises NoSwarm."""
    return set_held(common, "resume")


VERB = Verb(
    "resume",
    resume,
    help="""Resume a held queue: start tasks again.

    After a reboot the queue is held, too.""",
    examples=(("tmax resume", "after tmax hold, or after a reboot"),),
)
