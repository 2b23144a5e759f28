"""Turns events into decisions: what to record, and what to do.  No other code changes the swarm's state.

    handle(events, now, wall) -> Turn(changes, actions, wake_at)

The caller commits the changes, then carries out the actions, then calls again: decide, commit, act.
So whatever a worker or a client receives is on disk before it is sent.  After a crash the same loop starts with
the rows of the store; there is no second recovery path: lives are adopted as silent, and each sends Hello (tasks that it does
not hold are sent again) or is found dead (tasks that it held are redelivered).

``now`` is monotonic and used for decisions; ``wall`` is UTC epoch seconds and is only recorded.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tmax.core import contexts, nesting, placement, worker_lifecycle, worker_messages
from tmax.core.events import (
    Accepted,
    CancelAnswered,
    CancelRequested,
    Event,
    HoldSet,
    Leaving,
    LifeConnected,
    LifeEnded,
    LifeMessage,
    LifePaneless,
    LifeSilent,
    LifeStarted,
    SendMessages,
    Stopping,
    Submitted,
    SwarmEmpty,
    SwarmReady,
    TasksEnded,
    Tick,
    Turn,
)
from tmax.core.ledger import Ledger
from tmax.core.model import Lease, LifeRecord, NewTask, Task, TaskState, WorkerState
from tmax.core.query import SwarmQuery
from tmax.core.queue import Key
from tmax.core.retry_policy import UNRUN, outcome_of
from tmax.core.roster import Life, Roster
from tmax.core.settings import Settings
from tmax.core.state import SchedulerState
from tmax_pipes.jobs import kind_of
from tmax_pipes.messages import Failure, Go

S = TaskState

SHUTDOWN_S = 10.0
"""A worker that died at most so long before its controller received SIGTERM is taken to have died in the same shutdown."""


class Scheduler:
    """All rules of the swarm.  Pure: it uses no clock, file or process."""

    def __init__(
        self,
        settings: Settings,
        *,
        workers: int,
        pool: int,
        tasks: Iterable[Task] = (),
        lives: Iterable[LifeRecord] = (),
        ended: dict[str, int] | None = None,
        next_task: int = 1,
        next_life: int = 1,
        held: bool = False,
        meta: Mapping[str, str] | None = None,
        now: float = 0.0,
    ) -> None:
        """``tasks`` (not ended), ``lives`` (not known dead), ``ended`` (counts by state): what the store holds.

        ``meta``: values of this controller that the first turn writes.
        """
        roster = Roster(
            workers=workers,
            pool=pool,
            restart_delay_s=settings.worker.restart_delay_s,
            deaths_limit=settings.worker.deaths_limit,
            next_life=next_life,
        )
        self._state = SchedulerState(settings, Ledger(tasks, ended, next_task), roster)
        self._state.held = held
        self._state.now = now
        for key, value in (meta or {}).items():
            self._state.ledger.meta(key, value)
        self.query = SwarmQuery(self._state)
        """Read-only access to the state."""
        self._empty_reported = False
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            Submitted: self._on_submitted,
            CancelRequested: self._on_cancel,
            HoldSet: self._on_hold,
            Leaving: self._on_leaving,
            Stopping: self._on_stopping,
            LifeStarted: lambda event: worker_lifecycle.on_started_life(self._state, event),
            LifeConnected: lambda event: worker_lifecycle.on_connected(self._state, event),
            LifeMessage: self._on_message,
            LifeSilent: lambda event: worker_lifecycle.on_silent(self._state, event),
            LifePaneless: lambda event: worker_lifecycle.on_paneless(self._state, event),
            LifeEnded: lambda event: worker_lifecycle.on_ended_life(self._state, event),
            Tick: lambda _: None,
        }
        self._restore(lives)

    def handle(self, events: Sequence[Event], now: float, wall: float) -> Turn:
        """Apply events; return what to commit, what to do after that, and when to call again without an event."""
        state = self._state
        state.begin_turn(now, wall)
        for event in events:
            self._handlers[type(event)](event)
        self._apply_timers()
        self._update_workers()
        self._dispatch()
        self._rebalance()
        changes, ended = state.ledger.take_changes()
        for task in ended:
            state.stats.ended(now, max(0.0, wall - task.submitted_at))
        if ended:
            state.actions.append(TasksEnded(tasks=ended))
        outgoing = tuple(
            SendMessages(life=life, messages=tuple(messages), connection=state.connection_of(life))
            for life, messages in state.outgoing.items()
        )
        return Turn(changes=changes, actions=(*state.actions, *outgoing), wake_at=self._wake_at())

    def committed(self, seconds: float) -> None:
        """Record how long the commit of the last turn took, for the figures."""
        self._state.stats.committed(seconds)

    def _restore(self, lives: Iterable[LifeRecord]) -> None:
        state = self._state
        for record in lives:
            worker_lifecycle.watch_silence(state, state.roster.adopt(record))
        leased = sorted((task.lease.sent_at, task.id, task.lease) for task in state.ledger.tasks.values() if task.lease)
        for _, number, lease in leased:
            self._restore_lease(state.ledger.tasks[number], lease)
        for task in state.ledger.tasks.values():
            if task.state is S.READY:
                state.ready.add(task)
            elif task.state is S.WAITING:
                heapq.heappush(state.delayed, (0.0, task.id))  # its pause was measured on the earlier controller's clock

    def _restore_lease(self, task: Task, lease: Lease) -> None:
        state = self._state
        life = state.roster.lives.get(lease.life)
        if life is None:
            # tmax never writes this state, as a death and its consequences share a transaction; but no lease may name a missing life.
            if task.state is S.RUNNING and task.delivery == "at-most-once":
                state.end(task, S.INTERRUPTED, outcome_of(Failure(kind="signal", message="its worker is not in the store any more")))
            elif task.cancelling:
                state.end(task, S.CANCELLED, outcome_of(UNRUN))
            else:
                state.ledger.move(task, S.READY, lease=None)
            return
        life.held[task.id] = task.attempt
        life.link.sent(state.run_message(task))
        if task.state is S.RUNNING:
            life.running = task.id
        if task.cancelling:
            state.stop_task(task)  # without Go, for which it may still wait
        elif task.state is S.RUNNING:
            life.link.sent(Go(task=task.id, attempt=task.attempt))
        if task.solo:
            state.solo[life.id] = task.id

    # -- requests ----------------------------------------------------------------------------------

    def _on_submitted(self, event: Submitted) -> None:
        ids = tuple(self._known(new, event) or self._accept(new) for new in event.tasks)
        self._state.actions.append(Accepted(token=event.token, ids=ids))

    def _known(self, new: NewTask, event: Submitted) -> int:
        """Return the task that this request made earlier, or 0."""
        if not new.request_id:
            return 0
        return self._state.ledger.requests.get(new.request_id) or event.known.get(new.request_id, 0)

    def _accept(self, new: NewTask) -> int:
        task = Task(
            id=self._state.ledger.next_task,
            job=new.job,
            kind=kind_of(new.job),
            options=new.options,
            request_id=new.request_id,
            submitted_at=self._state.wall,
        )
        self._state.ledger.add(task)
        self._state.ready.add(task)
        return task.id

    def _on_cancel(self, event: CancelRequested) -> None:
        results = tuple((number, self._cancel(number, begun=event.begun)) for number in event.tasks)
        self._state.actions.append(CancelAnswered(token=event.token, results=results))

    def _cancel(self, number: int, *, begun: bool) -> str:
        state = self._state
        task = state.ledger.tasks.get(number)
        if task is None:
            return "unknown"
        if task.state in (S.READY, S.WAITING):
            state.ready.discard(number)
            state.end(task, S.CANCELLED, outcome_of(UNRUN))
            return "cancelled"
        if not begun and (task.state is S.RUNNING or task.delivery == "at-least-once"):
            return self._withdraw(task)
        if not task.cancelling:  # also a task that waits for its Go and so has not begun
            state.stop_task(state.ledger.note(task, cancelling=True))
        return "ending"

    def _withdraw(self, task: Task) -> str:
        """Cancel a leased task unless it has begun, which only its worker knows for certain.

        The first task that a worker holds counts as begun, as in a process pool: else a race would decide whether it runs.
        """
        assert task.lease is not None, "a leased task has a lease"
        life = self._state.roster.lives[task.lease.life]
        if task.state is S.RUNNING or task.cancelling or next(iter(life.held)) == task.id:
            return "ending" if task.cancelling else "running"
        life.withdrawn.add(task.id)
        if task.id not in life.recalled:
            self._state.recall(life, task.id)
        return "ending"

    def _on_hold(self, event: HoldSet) -> None:
        self._state.held = event.held
        self._state.ledger.meta("held", "1" if event.held else "")
        self._state.roster.reset_backoff()

    def _on_leaving(self, event: Leaving) -> None:
        self._state.leaving = event
        for life in self._state.roster.lives.values():
            if event.now or not self._state.roster.is_nested(life):  # nested ones are retired when no running task needs them any more
                self._state.retire(life, now=event.now)

    def _on_stopping(self, _: Stopping) -> None:
        """Remove the charges for recent deaths: what ends the controller may have ended its workers a moment before."""
        state = self._state
        state.stopping = True
        for task in list(state.ledger.tasks.values()):
            kept = tuple(crash for crash in task.crashes if crash.at < state.wall - SHUTDOWN_S)
            if kept != task.crashes:
                state.ledger.note(task, crashes=kept, solo=bool(kept) and task.solo)

    def _on_message(self, event: LifeMessage) -> None:
        life = self._state.roster.lives.get(event.life)
        if life is not None:
            worker_messages.on_message(self._state, life, event.message)

    # -- time --------------------------------------------------------------------------------------

    def _apply_timers(self) -> None:
        state = self._state
        while state.delayed and state.delayed[0][0] <= state.now:
            task = state.ledger.tasks.get(heapq.heappop(state.delayed)[1])
            if task is not None and task.state is S.WAITING:
                state.ready.add(state.ledger.move(task, S.READY, keep=False))
        while state.deadlines and state.deadlines[0][0] <= state.now:
            _, number, key, why = heapq.heappop(state.deadlines)
            if not number:
                worker_lifecycle.on_deadline(state, key, why)
                continue
            task = state.ledger.tasks.get(number)
            if task is not None and task.attempt == key and task.lease is not None:
                state.kill(task.lease.life, why)

    def _wake_at(self) -> float | None:
        state = self._state
        times = [heap[0][0] for heap in (state.delayed, state.deadlines) if heap]
        if state.roster.not_before > state.now:
            times.append(state.roster.not_before)
        times += [at for at in (contexts.wake_at(state), nesting.wake_at(state)) if at is not None]
        recall = placement.recall_wake(self._spreading())
        if recall is not None and not len(state.ready):
            times.append(max(recall, state.now + 0.001))
        return min(times, default=None)

    # -- workers and placement ---------------------------------------------------------------------

    def _update_workers(self) -> None:
        state = self._state
        if state.stopping:
            return
        if not state.roster.ready_once and state.roster.all_ready():
            state.roster.ready_once = True
            state.actions.append(SwarmReady())
        if state.leaving is None or not state.leaving.now:
            worker_lifecycle.keep_workers(state)
        if state.leaving is not None and not state.roster.lives and not self._empty_reported:
            self._empty_reported = True
            state.actions.append(SwarmEmpty())

    def _dispatch(self) -> None:
        state = self._state
        if state.held or state.stopping or state.leaving is not None or not len(state.ready):
            if state.waiting_since:
                contexts.release_kept(state, ())
            if not state.stopping:
                self._serve_nested()
            return
        while True:
            waiting = [key[2] for key in self._place()]
            self._serve_nested()
            heads = sorted(head for part in waiting if (head := state.ready.head(part)) is not None)
            if not contexts.switch(state, heads):
                return
            # The new worker may come ready from the pool, and take a task in this turn.
            worker_lifecycle.keep_workers(state)

    def _place(self) -> list[Key]:
        """Lease ready tasks, best first, while workers can take them; return the first task of each part that found no worker."""
        state = self._state
        slots = placement.FreeSlots(self._candidates(), state.settings.worker.prefetch, frozenset(state.solo), state.now)
        heads, waiting = state.ready.heads(), list[Key]()
        index: contexts.WorkerIndex | None = None
        while heads:
            _, number, part = heads[0]
            task = state.ledger.tasks[number]
            life = slots.take(part, alone=task.solo)
            if life is None:
                if contexts.note_unplaced(state, heads[0]):
                    index = index or contexts.WorkerIndex(state)
                    contexts.keep_worker_for(state, heads[0], index)
                waiting.append(heapq.heappop(heads))
                continue
            state.ready.take(part)
            self._lease(task, life, part)
            index = None
            following = state.ready.head(part)
            if following is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, following)
        return waiting

    def _candidates(self) -> Iterable[Life]:
        """Return the workers that any task may be sent to: not nested ones, nor those whose task may be waiting for its children."""
        state, lives = self._state, self._state.roster.lives.values()
        if not state.ledger.task_tree.children and not state.roster.nested:
            return lives  # the usual case, and this runs in each turn
        return [life for life in lives if not state.roster.is_nested(life) and not nesting.waits(state, life)]

    def _serve_nested(self) -> None:
        while nesting.serve(self._state, self._lease) and self._state.may_start:
            worker_lifecycle.keep_workers(self._state)

    def _lease(self, task: Task, life: Life, part: str) -> None:
        state = self._state
        lease = Lease(life=life.id, worker=life.name, sent_at=state.wall)
        task = state.ledger.move(task, S.SENT, attempt=task.attempt + 1, lease=lease)
        if not life.held:
            life.last_message_at = life.progress_at = state.now
        life.held[task.id] = task.attempt
        life.state = WorkerState.BUSY
        contexts.assign(state, life, task.id, part)
        if task.solo:
            state.solo[life.id] = task.id
        state.send(life.id, state.run_message(task))

    def _rebalance(self) -> None:
        state = self._state
        if len(state.ready) or state.stopping or state.leaving is not None:
            return
        for life, tasks in placement.to_recall(self._spreading(), state.now):
            for number in tasks:
                state.recall(life, number)

    def _spreading(self) -> list[Life]:
        """Return the workers among which tasks are balanced: an idle nested one is no reason to recall a task."""
        roster = self._state.roster
        if not roster.nested:
            return list(roster.lives.values())
        return [life for life in roster.lives.values() if not roster.is_nested(life) or life.held]

    def check_invariants(self) -> None:
        """Raise AssertionError when tasks, leases and lives contradict each other.  Tests call it after every turn."""
        state = self._state
        state.ledger.check_invariants()
        held = {(number, attempt, life.id) for life in state.roster.lives.values() for number, attempt in life.held.items()}
        leased = {(task.id, task.attempt, task.lease.life) for task in state.ledger.tasks.values() if task.lease}
        assert held == leased, f"lives hold {held - leased} without lease; leases {leased - held} without holder"
        for task in state.ledger.tasks.values():
            queued = task.id in state.ready
            assert (task.state is S.READY) == queued, f"task {task.id} is {task.state}; queued: {queued}"
        for life_id, number in state.solo.items():
            assert number in state.roster.lives[life_id].held, f"solo task {number} is not held by life {life_id}"
