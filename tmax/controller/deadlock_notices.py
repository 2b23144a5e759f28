"""Reports that running tasks and the tasks that they submitted wait for each other, once it has been so for a moment."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from tmax.core.query import SwarmQuery
from tmax.reactor import Reactor, Timer

LOG = logging.getLogger("tmax.controller")

SETTLED_S = 1.0
"""A deadlock is reported only when it lasts so long: a worker may be starting, or a task about to end."""


class DeadlockNotices:
    """Checks for a deadlock after each turn; reports it once, and again only when it was resolved meanwhile."""

    def __init__(self, query: SwarmQuery, reactor: Reactor, report: Callable[[str, Sequence[int]], None]) -> None:
        """``report``: takes the line, and the tasks that workers hold."""
        self._query = query
        self._reactor = reactor
        self._report = report
        self._timer: Timer | None = None
        self._is_reported = False

    def report_again(self) -> None:
        """Report the deadlock again, to a client that has not received it."""
        self._is_reported = False

    def after_turn(self) -> None:
        """Check after a turn."""
        if not (self._query.may_deadlock or self._is_reported or self._timer):
            return  # the usual case
        if not self._query.deadlock():
            self._is_reported = False
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None and not self._is_reported:
            self._timer = self._reactor.after(SETTLED_S, self._check)

    def _check(self) -> None:
        self._timer = None
        text = self._query.deadlock()
        if text:
            self._is_reported = True
            LOG.warning("%s", text)
            self._report(text, [number for worker in self._query.workers() for number in worker.held])
