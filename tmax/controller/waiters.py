"""Who waits for what: answers to submits and cancels, ends of tasks, readiness, the end of the swarm."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec

from tmax.control.protocol import BulkEnd, BulkEnded, BulkNotice
from tmax.control.server import ClientConnection, Request
from tmax.controller.chunked_reply import ChunkedReply
from tmax.controller.slices import Steps
from tmax.controller.views import task_view
from tmax.core.events import Accepted, CancelAnswered, HoldSet, TasksEnded
from tmax.core.model import Task, TaskState
from tmax.errors import TmaxError, WaitTimedOut, WorkerLost
from tmax.reactor import Timer

if TYPE_CHECKING:
    from tmax.controller.loop import Controller

WIDE = 100
"""Tasks above which a waiter is not noted beside each of them."""
NAMED = 10
"""Numbers that a message names."""
LOOKED_AT = 100
"""Entries between two looks at the time."""


def bulk_end(task: Task) -> BulkEnd:
    """Return how a task ended, as the Python API is told."""
    outcome = task.outcome
    state = cast("Any", task.state.value)
    if outcome is None:
        return BulkEnd(id=task.id, state=state, crashes=task.crashes, worker=task.ran_on)
    return BulkEnd(
        id=task.id,
        state=state,
        result=outcome.result,
        form=outcome.form,
        failure=outcome.failure,
        report=outcome.report,
        crashes=task.crashes,
        worker=task.ran_on,
    )


class Waiter:
    """One ``wait``: answers once, when all its tasks have ended, when one failed (``fail_fast``), or when its time is over."""

    def __init__(self, house: Controller, ask: Request, ids: Sequence[int], timeout_s: float | None, *, fail_fast: bool) -> None:
        """``timeout_s``: from now; None: no limit."""
        self.ask = ask
        self.ids = ids
        self.open: set[int] = set()
        """Those of its tasks that are under way, as far as they were looked up."""
        self.fail_fast = fail_fast
        self.answered = False
        self._house = house
        self._end_s = None if timeout_s is None else house.reactor.now() + timeout_s
        self._timer: Timer | None = None
        self._complete = False
        self._views: dict[int, bytes] = {}

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for its answer."""
        return not self.answered and self.ask.peer.alive

    def take_task(self, task: Task) -> None:
        """Note the end of one of its tasks."""
        self.take(task.id, msgspec.json.encode(task_view(task)), succeeded=task.state is TaskState.DONE)

    def take(self, number: int, view: bytes, *, succeeded: bool) -> None:
        """Note how a task ended, and answer when that was what it waited for; ``view``: its line, as JSON (a task may hold a large result)."""
        self.open.discard(number)
        self._views[number] = view
        if (self._complete and not self.open) or (self.fail_fast and not succeeded):
            self.answer()

    def complete(self) -> None:
        """All its tasks were looked up.  Only now its time may be over: before, nobody knew whether they had ended."""
        self._complete = True
        if not self.open:
            self.answer()
        elif self._end_s is not None:
            self._timer = self._house.reactor.at(self._end_s, self.expire)

    def answer(self) -> None:
        """Send the list, once."""
        if not self.answered:
            self._house.clients.forget(self)
            self._house.slicer.run(self._answer(), self.ask.fail_if_open, lambda: self.ask.peer.alive)

    def _answer(self) -> Steps[None]:
        pieces = ChunkedReply(self.ask, "tasks")
        for number in self.ids:
            view = self._views.get(number)
            if view is not None:
                pieces.value(view)
                yield from pieces.flow()
        pieces.end()

    def close(self) -> None:
        """No answer any more, or none besides the one that is given now."""
        self.answered = True
        if self._timer is not None:
            self._timer.cancel()

    def expire(self) -> None:
        """Send the time-out, once."""
        if not self.answered:
            first = heapq.nsmallest(NAMED, self.open)
            named = ", ".join(map(str, first)) + (", ..." if len(self.open) > NAMED else "")
            self.refuse(WaitTimedOut(f"{len(self.open)} of {len(self.ids)} tasks have not ended: {named}", hint="they go on; wait again"))

    def refuse(self, error: TmaxError) -> None:
        """Send an error, once."""
        if not self.answered:
            self._house.clients.forget(self)
            self.ask.fail(error)


class Waiters:
    """All that is owed to connections."""

    def __init__(self, house: Controller) -> None:
        self._house = house
        self._tokens = itertools.count(1)
        self._accepted: dict[int, Callable[[tuple[int, ...]], None]] = {}
        self._cancelled: dict[int, Callable[[tuple[tuple[int, str], ...]], None]] = {}
        self._waiters: dict[int, set[Waiter]] = {}
        self._wide: set[Waiter] = set()
        """Waiters for very many tasks; at each turn they look whether some of theirs ended."""
        self._waiting: dict[ClientConnection, Waiter] = {}
        self._watching: dict[int, set[ClientConnection]] = {}
        self._watchers: set[ClientConnection] = set()
        self._told_held: set[ClientConnection] = set()
        self._phases: list[tuple[str, float]] = []
        self._ready: list[Request] = []
        self._down: list[Request] = []
        self.owners: set[ClientConnection] = set()

    # -- submits and cancels -----------------------------------------------------------------------

    def expect_accepted(self, call: Callable[[tuple[int, ...]], None]) -> int:
        """Return a token; ``call`` gets the ids once they are committed."""
        token = next(self._tokens)
        self._accepted[token] = call
        return token

    def on_accepted(self, action: Accepted) -> None:
        """The tasks are committed."""
        self._accepted.pop(action.token)(action.ids)

    def expect_cancelled(self, call: Callable[[tuple[tuple[int, str], ...]], None]) -> int:
        """Return a token; ``call`` gets what became of each task."""
        token = next(self._tokens)
        self._cancelled[token] = call
        return token

    def on_cancel_answered(self, action: CancelAnswered) -> None:
        """The cancel is committed."""
        self._cancelled.pop(action.token)(action.results)

    # -- ends --------------------------------------------------------------------------------------

    def wait(self, waiter: Waiter) -> None:
        """Take in a waiter; its tasks are told by ``expect``."""
        self._waiting[waiter.ask.peer] = waiter
        if len(waiter.ids) > WIDE:
            self._wide.add(waiter)

    def expect(self, waiter: Waiter, numbers: Sequence[int]) -> None:
        """Tell this waiter when these tasks end, which are under way."""
        waiter.open.update(numbers)
        if waiter not in self._wide:
            for number in numbers:
                self._waiters.setdefault(number, set()).add(waiter)

    def forget(self, waiter: Waiter) -> None:
        """It has its answer, or nobody waits for it any more."""
        waiter.close()
        if self._waiting.get(waiter.ask.peer) is waiter:
            del self._waiting[waiter.ask.peer]
        if waiter in self._wide:
            self._wide.discard(waiter)
            return
        for number in waiter.open:
            waiting = self._waiters.get(number)
            if waiting is not None:
                waiting.discard(waiter)
                if not waiting:
                    del self._waiters[number]

    def watch(self, peer: ClientConnection, ids: Iterable[int]) -> None:
        """Tell this bulk connection when these tasks end."""
        self._watchers.add(peer)
        for number in ids:
            self._watching.setdefault(number, set()).add(peer)

    def on_ended(self, action: TasksEnded) -> None:
        """Tasks ended and are committed: one message for each connection that watches some of them."""
        told: dict[ClientConnection, list[BulkEnd]] = {}
        for task in action.tasks:
            for waiter in self._waiters.pop(task.id, ()):
                waiter.take_task(task)
            peers = self._watching.pop(task.id, None)
            if peers:
                end = bulk_end(task)
                for peer in peers:
                    told.setdefault(peer, []).append(end)
        if self._wide:
            self._tell_wide({task.id: task for task in action.tasks})
        for peer, ends in told.items():
            peer.send_bulk([BulkEnded(ends=tuple(ends))])

    def _tell_wide(self, ended: dict[int, Task]) -> None:
        for waiter in list(self._wide):
            for number in waiter.open.intersection(ended):
                waiter.take_task(ended[number])

    # -- beginning and end of the swarm ------------------------------------------------------------

    def phase(self, name: str) -> None:
        """Note that a phase of starting is over, and tell those who watch it."""
        ms = 1000 * (self._house.reactor.now() - self._house.born)
        self._phases.append((name, ms))
        for ask in self._ready:
            ask.stream(phase=name, ms=ms)

    def want_ready(self, ask: Request, timeout_s: float) -> None:
        """Tell the phases so far and to come; answer when all workers are ready."""
        for name, ms in self._phases:
            ask.stream(phase=name, ms=ms)
        if self._house.scheduler.state.roster.ready_once:
            ask.answer(workers=self._house.workers)
            return
        if self._house.scheduler.state.roster.gave_up:
            self._house.emit(HoldSet(held=self._house.scheduler.state.held))  # somebody looks: it is tried again
        self._ready.append(ask)
        self._house.reactor.after(timeout_s, lambda: self._ready_late(ask))

    def _ready_late(self, ask: Request) -> None:
        if ask in self._ready:
            self._ready.remove(ask)
            ask.fail(WaitTimedOut("the workers are not ready yet", hint="tmax status; tmax logs w1"))

    def on_ready(self) -> None:
        """All workers are ready."""
        waiting, self._ready = self._ready, []
        for ask in waiting:
            ask.answer(workers=self._house.workers)

    def give_up(self, cause: str) -> None:
        """No worker can be started: say why to whoever waits for readiness."""
        waiting, self._ready = self._ready, []
        for ask in waiting:
            ask.fail(WorkerLost(f"workers end before they are ready: {cause}", hint=f"see {self._house.layout.log}; try: tmax doctor"))

    def note_if_held(self, peer: ClientConnection) -> None:
        """Tasks of this bulk connection were accepted: say it once when none is begun until somebody resumes the queue."""
        if self._house.scheduler.state.held and peer not in self._told_held:
            self._told_held.add(peer)
            peer.send_bulk([BulkNotice("the queue is held, tasks wait until somebody resumes it: tmax resume")])

    def on_held(self) -> None:
        """Somebody holds the queue, perhaps once more: those that submit meanwhile have not heard of it."""
        self._told_held.clear()

    def on_obstacle(self, text: str, numbers: Iterable[int]) -> None:
        """These running tasks wait for what cannot begin: tell the programs that wait for them, and whoever takes the swarm down."""
        for peer in {peer for number in numbers for peer in self._watching.get(number, ())}:
            peer.send_bulk([BulkNotice(text)])
        for ask in self._down:
            ask.stream(phase=text)

    def want_down(self, ask: Request) -> None:
        """Answer when the swarm is down."""
        self._down.append(ask)

    def on_down(self) -> None:
        """Everything has stopped."""
        counts = self._house.scheduler.state.ledger.counts
        for ask in self._down:
            ask.answer(queued=counts["ready"] + counts["waiting"], running=counts["sent"] + counts["running"])
        self._down.clear()

    def on_closed(self, peer: ClientConnection) -> None:
        """A connection is gone: nothing is owed to it."""
        waiter = self._waiting.get(peer)
        if waiter is not None:
            self.forget(waiter)
        if peer in self._watchers:
            self._watchers.discard(peer)
            self._house.slicer.run(self._unwatch(peer), lambda _: None)
        self._told_held.discard(peer)
        self._ready = [ask for ask in self._ready if ask.peer is not peer]
        self._down = [ask for ask in self._down if ask.peer is not peer]
        if peer in self.owners:
            self.owners.discard(peer)
            self._house.leave(now=True)

    def _unwatch(self, peer: ClientConnection) -> Steps[None]:
        """Take a connection that is gone out of all that it watched, which may be very much."""
        for place, number in enumerate(list(self._watching)):
            peers = self._watching.get(number)
            if peers is not None:
                peers.discard(peer)
                if not peers:
                    del self._watching[number]
            if place % LOOKED_AT == 0:
                yield None
