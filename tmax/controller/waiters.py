"""The verb ``wait``: which requests wait for which tasks."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import msgspec

from tmax.control.server import ClientConnection, Request
from tmax.controller.chunked_reply import ChunkedReply
from tmax.controller.slices import Slicer, Steps
from tmax.controller.views import task_view
from tmax.core.model import Task, TaskState
from tmax.errors import TmaxError, WaitTimedOut
from tmax.reactor import Reactor, Timer

INDEXED_AT_MOST = 100
"""Tasks above which a waiter is not indexed by each of them."""
NAMED_AT_MOST = 10
"""Task numbers that a message lists."""


class Waiter:
    """One ``wait``: answers once, when all its tasks have ended, when one failed (``fail_fast``), or when its time limit passes."""

    def __init__(self, request: Request, ids: Sequence[int], end_s: float | None, *, fail_fast: bool) -> None:
        """``end_s``: monotonic seconds of the time limit; None: no limit."""
        self.request = request
        self.ids = ids
        self.open: set[int] = set()
        """Its tasks that have not ended, of those looked up so far."""
        self.end_s = end_s
        self.timer: Timer | None = None
        self.answered = False
        self._fail_fast = fail_fast
        self._complete = False
        self._views: dict[int, bytes] = {}

    @property
    def wanted(self) -> bool:
        """Whether its client still waits for the answer."""
        return not self.answered and self.request.client.alive

    def note_end(self, number: int, view: bytes, *, succeeded: bool) -> bool:
        """Record how a task ended; return whether the reply is due.  ``view``: its row as JSON (the task itself may hold a large result)."""
        self.open.discard(number)
        self._views[number] = view
        return (self._complete and not self.open) or (self._fail_fast and not succeeded)

    def complete(self) -> None:
        """Record that all its tasks were looked up.  The time limit applies from now: before, they may have ended already."""
        self._complete = True

    def steps(self) -> Steps[None]:
        """Send the list of its ended tasks."""
        reply = ChunkedReply(self.request, "tasks")
        for number in self.ids:
            view = self._views.get(number)
            if view is not None:
                reply.value(view)
                yield from reply.flow()
        reply.end()

    def timed_out(self) -> WaitTimedOut:
        """Return the error for a time limit that has passed."""
        first = heapq.nsmallest(NAMED_AT_MOST, self.open)
        named = ", ".join(map(str, first)) + (", ..." if len(self.open) > NAMED_AT_MOST else "")
        return WaitTimedOut(
            f"wait timed out: {len(self.open)} of {len(self.ids)} tasks have not ended: {named}", hint="they stay in the swarm; wait again"
        )


class Waiters:
    """All waiters, by task and by connection."""

    def __init__(self, slicer: Slicer, reactor: Reactor) -> None:
        self._slicer = slicer
        self._reactor = reactor
        self._by_task: dict[int, set[Waiter]] = {}
        self._many: set[Waiter] = set()
        """Waiters for very many tasks; each is compared with the tasks that end in a turn."""
        self._by_client: dict[ClientConnection, Waiter] = {}

    def add(self, waiter: Waiter) -> None:
        """Add a waiter; ``expect`` adds its tasks."""
        self._by_client[waiter.request.client] = waiter
        if len(waiter.ids) > INDEXED_AT_MOST:
            self._many.add(waiter)

    def expect(self, waiter: Waiter, numbers: Sequence[int]) -> None:
        """Report the ends of these tasks, which have not ended, to this waiter."""
        waiter.open.update(numbers)
        if waiter not in self._many:
            for number in numbers:
                self._by_task.setdefault(number, set()).add(waiter)

    def note_end(self, waiter: Waiter, number: int, view: bytes, *, succeeded: bool) -> None:
        """Record how one of its tasks ended, and answer when the reply is due."""
        if waiter.note_end(number, view, succeeded=succeeded):
            self._answer(waiter)

    def complete(self, waiter: Waiter) -> None:
        """All its tasks were looked up: answer, or start its time limit."""
        waiter.complete()
        if not waiter.open:
            self._answer(waiter)
        elif waiter.end_s is not None:
            waiter.timer = self._reactor.at(waiter.end_s, lambda: self.refuse(waiter, waiter.timed_out()))

    def refuse(self, waiter: Waiter, error: TmaxError) -> None:
        """Answer with an error, unless it has been answered."""
        if not waiter.answered:
            self._forget(waiter)
            waiter.request.fail(error)

    def on_ended(self, tasks: Sequence[Task]) -> None:
        """Report tasks that ended and are committed."""
        for task in tasks:
            for waiter in self._by_task.pop(task.id, ()):
                self._note_task(waiter, task)
        if self._many:
            ended = {task.id: task for task in tasks}
            for waiter in list(self._many):
                for number in waiter.open.intersection(ended):
                    self._note_task(waiter, ended[number])

    def on_closed(self, client: ClientConnection) -> None:
        """Forget the waiter of a connection that ended."""
        waiter = self._by_client.get(client)
        if waiter is not None:
            self._forget(waiter)

    def _note_task(self, waiter: Waiter, task: Task) -> None:
        self.note_end(waiter, task.id, msgspec.json.encode(task_view(task)), succeeded=task.state is TaskState.DONE)

    def _answer(self, waiter: Waiter) -> None:
        if not waiter.answered:
            self._forget(waiter)
            self._slicer.run(waiter.steps(), waiter.request.fail_if_open, _alive(waiter.request.client))

    def _forget(self, waiter: Waiter) -> None:
        waiter.answered = True
        if waiter.timer is not None:
            waiter.timer.cancel()
        if self._by_client.get(waiter.request.client) is waiter:
            del self._by_client[waiter.request.client]
        if waiter in self._many:
            self._many.discard(waiter)
            return
        for number in waiter.open:
            waiting = self._by_task.get(number)
            if waiting is not None:
                waiting.discard(waiter)
                if not waiting:
                    del self._by_task[number]


def _alive(client: ClientConnection) -> Callable[[], bool]:
    return lambda: client.alive
