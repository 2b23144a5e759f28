"""Asking again: after a controller ended, by starting another; and when one has come while its store was to be read."""

from __future__ import annotations

import os

from tmax.cli import say
from tmax.cli.ask import ask
from tmax.errors import NoSwarm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

TRIES = 20
"""How many controllers may end under one command before it gives up."""

READ_S = 10.0
"""So long a verb waits until it may read the store of a swarm that is down."""


def ask_again(common: say.Common, verb: str, silence_s: float | None = None, **fields: Any) -> dict[str, Any]:
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


def ask_or_read(asked: Callable[[], T], read: Callable[[NoSwarm], T]) -> T:
    """Return what a controller answers, or, where none runs, what the store says.

    Others that read the store are waited for, and a controller that has come meanwhile is asked.  Raises LockHeld when whoever
    has the store keeps it for READ_S.
    """
    end_s = 0.0
    while True:
        try:
            return asked()
        except NoSwarm as missing:
            from time import monotonic

            from tmax.storage.lock import LockHeld, pause

            end_s = end_s or monotonic() + READ_S
            try:
                return read(missing)
            except LockHeld:
                if monotonic() >= end_s:
                    raise
            pause()


def revive(common: say.Common) -> None:
    """Start a controller where one is missing; raises NoSwarm when there never was a swarm, or when it was taken down."""
    layout = common.layout
    if not os.path.exists(layout.settings):
        raise NoSwarm(layout.swarm, "was never started")
    from tmax.launch import ensure_controller

    ensure_controller(layout)
