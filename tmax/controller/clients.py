"""Who waits for what: answers to submits and cancels, ends of tasks, readiness, the end of the swarm."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from tmax.control.protocol import BulkEnd, BulkEnded
from tmax.control.server import Ask, Peer
from tmax.controller.views import task_view, to_plain
from tmax.core.events import Accepted, CancelAnswered, HoldSet, TasksEnded
from tmax.core.model import Task, TaskState
from tmax.errors import WaitTimedOut, WorkerLost
from tmax.reactor import Timer

if TYPE_CHECKING:
    from tmax.controller.house import Controller

FAILED_ENDS = frozenset({TaskState.FAILED, TaskState.DEAD, TaskState.CANCELLED, TaskState.INTERRUPTED})


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

    def __init__(self, ask: Ask, ids: Iterable[int], *, fail_fast: bool) -> None:
        self.ask = ask
        self.ids = list(ids)
        self.open = set(self.ids)
        self.ended: dict[int, Task] = {}
        self.fail_fast = fail_fast
        self.timer: Timer | None = None
        self.answered = False

    def take(self, task: Task) -> None:
        """Note the end of one of its tasks, and answer when that was what it waited for."""
        self.open.discard(task.id)
        self.ended[task.id] = task
        if not self.open or (self.fail_fast and task.state in FAILED_ENDS):
            self.answer()

    def answer(self) -> None:
        """Send the list, once."""
        if not self.answered:
            self.close()
            self.ask.answer(tasks=[to_plain(task_view(self.ended[one])) for one in self.ids if one in self.ended])

    def expire(self) -> None:
        """Send the time-out, once."""
        if not self.answered:
            self.close()
            running = ", ".join(map(str, sorted(self.open)[:10]))
            self.ask.fail(
                WaitTimedOut(f"{len(self.open)} of {len(self.ids)} tasks have not ended: {running}", hint="they go on; wait again")
            )

    def close(self) -> None:
        """No answer any more."""
        self.answered = True
        if self.timer is not None:
            self.timer.cancel()


class Clients:
    """All that is owed to connections."""

    def __init__(self, house: Controller) -> None:
        self._house = house
        self._tokens = itertools.count(1)
        self._accepted: dict[int, Callable[[tuple[int, ...]], None]] = {}
        self._cancelled: dict[int, Callable[[tuple[tuple[int, str], ...]], None]] = {}
        self._waiters: dict[int, set[Waiter]] = {}
        self._watching: dict[int, set[Peer]] = {}
        self._phases: list[tuple[str, float]] = []
        self._ready: list[Ask] = []
        self._down: list[Ask] = []
        self.owners: set[Peer] = set()

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
        """Answer ``waiter`` when its open tasks have ended."""
        for number in waiter.open:
            self._waiters.setdefault(number, set()).add(waiter)

    def limit(self, waiter: Waiter, timeout_s: float | None) -> None:
        """Answer ``waiter`` with the time-out when it still waits after ``timeout_s`` (None: no limit; 0: one look)."""
        if timeout_s is not None and not waiter.answered:
            waiter.timer = self._house.reactor.after(timeout_s, lambda: self._expire(waiter))

    def _expire(self, waiter: Waiter) -> None:
        self._forget(waiter)
        waiter.expire()

    def _forget(self, waiter: Waiter) -> None:
        for number in waiter.ids:
            waiting = self._waiters.get(number)
            if waiting is not None:
                waiting.discard(waiter)
                if not waiting:
                    del self._waiters[number]

    def watch(self, peer: Peer, ids: Iterable[int]) -> None:
        """Tell this bulk connection when these tasks end."""
        for number in ids:
            self._watching.setdefault(number, set()).add(peer)

    def on_ended(self, action: TasksEnded) -> None:
        """Tasks ended and are committed: one message for each connection that watches some of them."""
        told: dict[Peer, list[BulkEnd]] = {}
        for task in action.tasks:
            for waiter in self._waiters.pop(task.id, ()):
                waiter.take(task)
            peers = self._watching.pop(task.id, None)
            if peers:
                end = bulk_end(task)
                for peer in peers:
                    told.setdefault(peer, []).append(end)
        for peer, ends in told.items():
            peer.send_bulk([BulkEnded(ends=tuple(ends))])

    # -- beginning and end of the swarm ------------------------------------------------------------

    def phase(self, name: str) -> None:
        """Note that a phase of starting is over, and tell those who watch it."""
        ms = 1000 * (self._house.reactor.now() - self._house.born)
        self._phases.append((name, ms))
        for ask in self._ready:
            ask.stream(phase=name, ms=ms)

    def want_ready(self, ask: Ask, timeout_s: float) -> None:
        """Tell the phases so far and to come; answer when all workers are ready."""
        for name, ms in self._phases:
            ask.stream(phase=name, ms=ms)
        if self._house.scheduler.desk.roster.ready_once:
            ask.answer(workers=self._house.workers)
            return
        if self._house.scheduler.desk.roster.gave_up:
            self._house.emit(HoldSet(held=self._house.scheduler.desk.held))  # somebody looks: it is tried again
        self._ready.append(ask)
        self._house.reactor.after(timeout_s, lambda: self._ready_late(ask))

    def _ready_late(self, ask: Ask) -> None:
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

    def want_down(self, ask: Ask) -> None:
        """Answer when the swarm is down."""
        self._down.append(ask)

    def on_down(self) -> None:
        """Everything has stopped."""
        counts = self._house.scheduler.desk.ledger.counts
        for ask in self._down:
            ask.answer(queued=counts["ready"] + counts["waiting"], running=counts["sent"] + counts["running"])
        self._down.clear()

    def on_closed(self, peer: Peer) -> None:
        """A connection is gone: nothing is owed to it."""
        for waiting in [waiter for waiters in list(self._waiters.values()) for waiter in waiters if waiter.ask.peer is peer]:
            waiting.close()
            self._forget(waiting)
        for number in [number for number, peers in self._watching.items() if peer in peers]:
            self._watching[number].discard(peer)
            if not self._watching[number]:
                del self._watching[number]
        self._ready = [ask for ask in self._ready if ask.peer is not peer]
        self._down = [ask for ask in self._down if ask.peer is not peer]
        if peer in self.owners:
            self.owners.discard(peer)
            self._house.leave(now=True)
