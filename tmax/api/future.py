"""The future of a task: a real ``concurrent.futures.Future`` that knows its task's number and can take the task back."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from tmax.api import unobserved_failures
from tmax.control.protocol import BulkTask

T = TypeVar("T")


class Withdraws(Protocol):
    """Who can take tasks back."""

    def withdraw(self, futures: list[TaskFuture[Any]], /) -> int:
        """Cancel those whose tasks have not begun; return for how many the swarm did not answer."""

    def abandon_results(self, futures: list[TaskFuture[Any]], /) -> None:
        """Cancel those whose tasks have not begun, without waiting."""


class TaskFuture(Future[T]):
    """A ``concurrent.futures.Future`` of a task.

    ``task_id``: its number in the swarm once that is known, for ``tmax result``, ``logs`` and ``attach``.  ``running()`` is always
    False: the controller reports ends, not starts.
    """

    task_id: int | None = None
    bulk_task: BulkTask | None = None
    """What to send again; forgotten once accepted."""
    tally: unobserved_failures.Tally | None = None
    """Where its failure is counted until the program looks at it."""

    taken_back = False
    """To be cancelled as soon as it is accepted: its result was abandoned."""

    def __init__(self, channel: Withdraws, kind: str) -> None:
        super().__init__()
        self.channel = channel
        self.kind = kind

    def result(self, timeout: float | None = None) -> T:
        """Return what the task returned, or raise what it raised; TimeoutError when it has not ended in ``timeout`` seconds."""
        try:
            return super().result(timeout)
        finally:
            if self.tally is not None:
                unobserved_failures.looked_at(self)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the task raised, None when it returned; TimeoutError when it has not ended in ``timeout`` seconds."""
        try:
            return super().exception(timeout)
        finally:
            if self.tally is not None:
                unobserved_failures.looked_at(self)

    def cancel(self) -> bool:
        """Take the task back when it has not begun; return whether it is cancelled.

        Waits for the swarm's answer.  What has begun is left alone, as every executor does (``tmax cancel`` ends it), and
        so is a Python call that an idle worker was given, whose first steps are known to that worker only.
        """
        if not self.done():
            self.channel.withdraw([self])
        return self.cancelled()

    @staticmethod
    def withdraw_all(futures: list[TaskFuture[Any]]) -> int:
        """Cancel many at once, as ``cancel`` does one; return for how many the swarm did not answer."""
        return futures[0].channel.withdraw([future for future in futures if not future.done()]) if futures else 0

    def fulfil(self, value: T) -> None:
        """Set the result, unless this future has ended already (called by the channel's owner)."""
        if not self.done():
            self.set_result(value)

    def fail(self, error: BaseException) -> None:
        """Set the exception, unless this future has ended already."""
        if not self.done():
            self.set_exception(error)

    def orphaned(self, error: BaseException) -> None:
        """In a forked child: end this copy of the parent's future.

        Nothing here would ever end it; its locks may be held by threads that do not exist here, and its callbacks and waiters are
        the parent's.  ``concurrent.futures`` has no public way to do that.
        """
        self._condition = threading.Condition()
        self._waiters = []
        self._done_callbacks: list[object] = []
        self.fail(error)

    def cancelled_by_swarm(self) -> None:
        """Become cancelled, and notify ``wait`` and ``as_completed``."""
        if super().cancel():
            self.set_running_or_notify_cancel()
