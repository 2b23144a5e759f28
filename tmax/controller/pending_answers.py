"""Replies to submissions and cancellations that wait for their commit, by token."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from tmax.core.events import Accepted, CancelAnswered


class PendingAnswers:
    """Callbacks by token.  A token is used once: the event carries it to the scheduler, the action returns it after the commit."""

    def __init__(self) -> None:
        self._tokens = itertools.count(1)
        self._accepted: dict[int, Callable[[tuple[int, ...]], None]] = {}
        self._cancelled: dict[int, Callable[[tuple[tuple[int, str], ...]], None]] = {}

    def expect_accepted(self, call: Callable[[tuple[int, ...]], None]) -> int:
        """Return a token; ``call`` gets the task numbers once they are committed."""
        token = next(self._tokens)
        self._accepted[token] = call
        return token

    def on_accepted(self, action: Accepted) -> None:
        """Pass on the numbers of committed tasks."""
        self._accepted.pop(action.token)(action.ids)

    def expect_cancelled(self, call: Callable[[tuple[tuple[int, str], ...]], None]) -> int:
        """Return a token; ``call`` gets the result for each task."""
        token = next(self._tokens)
        self._cancelled[token] = call
        return token

    def on_cancel_answered(self, action: CancelAnswered) -> None:
        """Pass on the results of a committed cancellation."""
        self._cancelled.pop(action.token)(action.results)
