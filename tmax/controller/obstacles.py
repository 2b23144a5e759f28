"""Says aloud that running tasks and the tasks that they submitted wait for each other, once it has been so for a moment."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tmax.core import nesting

if TYPE_CHECKING:
    from tmax.controller.loop import Controller
    from tmax.reactor import Timer

LOG = logging.getLogger("tmax.controller")

TELL_S = 1.0
"""A worker may be on its way, or a task about to end: what is so for a shorter time is nothing to tell."""


class Obstacles:
    """Looks after each turn; tells each obstacle once, and again only when it was gone meanwhile."""

    def __init__(self, house: Controller) -> None:
        self._house = house
        self._timer: Timer | None = None
        self._told = False

    def tell_again(self) -> None:
        """Somebody else is there to be told."""
        self._told = False

    def look(self) -> None:
        """A turn has ended."""
        state = self._house.scheduler.state
        if not (state.ledger.family.children or self._told or self._timer):
            return  # nearly always
        if not nesting.obstacle(state):
            self._told = False
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None and not self._told:
            self._timer = self._house.reactor.after(TELL_S, self._tell)

    def _tell(self) -> None:
        self._timer = None
        state = self._house.scheduler.state
        text = nesting.obstacle(state)
        if text:
            self._told = True
            LOG.warning("%s", text)
            held = [number for life in state.roster.lives.values() for number in life.held]
            self._house.clients.on_obstacle(text, held)
