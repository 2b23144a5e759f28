"""Asking again after a controller ended, by starting another: for verbs that began while there was one, or may begin one."""

from __future__ import annotations

import os

from tmax.cli import output
from tmax.cli.ask import ask
from tmax.errors import NoSwarm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TRIES = 20
"""How many controllers may end under one command before it gives up."""


def ask_again(common: output.Common, verb: str, silence_s: float | None = None, **fields: Any) -> dict[str, Any]:
    """Ask; when no controller answers, or it ended before it did, start one and ask again.

    What is asked must be harmless twice.  Raises NoSwarm when there never was a swarm, when it was taken down,
    or when controllers keep ending.
    """
    for _ in range(TRIES - 1):
        try:
            return ask(common.layout, verb, silence_s, **fields)
        except NoSwarm:
            revive(common)
    return ask(common.layout, verb, silence_s, **fields)


def revive(common: output.Common) -> None:
    """Start a controller where one is missing; raises NoSwarm when there never was a swarm, or when it was taken down."""
    layout = common.layout
    if not os.path.exists(layout.settings):
        raise NoSwarm(layout.swarm, "was never started")
    from tmax.launch import ensure_controller

    ensure_controller(layout)
