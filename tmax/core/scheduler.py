"""The only thing that moves state: events and the time in; what to record and what to do out.

    handle(events, now, wall) -> Turn(changes, actions, wake_at)

The caller commits the changes, then carries out the actions, then calls again: decide, commit, act.
Everything a worker or a client is told is therefore true on disk first.  After a crash the same loop starts with
the rows of the store; there is no second recovery path: lives are adopted silent, each greets (and what it does
not hold is sent again) or is found dead (and what it held is redelivered).

``now`` is monotonic and decides; ``wall`` is UTC epoch seconds and is only recorded.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tmax.core import attendance, contexts, hearing, nesting, placement
from tmax.core.desk import Desk
from tmax.core.endings import UNRUN, outcome_of
from tmax.core.events import (
    Accepted,
    CancelAnswered,
    CancelAsked,
    Empty,
    Event,
    HoldSet,
    Leaving,
    LifeEnded,
    LifeGreeted,
    LifePaneless,
    LifeSaid,
    LifeSilent,
    LifeStarted,
    Ready,
    Say,
    Stopping,
    Submitted,
    TasksEnded,
    Tick,
    Turn,
)
from tmax.core.ledger import Ledger
from tmax.core.model import DELIVERY_OF_KIND, Lease, LifeRecord, NewTask, Task, TaskState, WorkerState
from tmax.core.queue import Key
from tmax.core.roster import Life, Roster
from tmax.core.settings import Settings
from tmax_pipes.jobs import kind_of
from tmax_pipes.messages import Failure, Go

S = TaskState

SHUTDOWN_S = 10.0
"""A worker that died so shortly before its controller was asked to end died in the same shutdown."""


class Scheduler:
    """All rules of the swarm behind one door.  Pure: it knows no clock, no file and no process."""

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
        now: float = 0.0,
    ) -> None:
        """``tasks`` (not ended), ``lives`` (not known dead), ``ended`` (counts by state): what the store holds."""
        roster = Roster(
            workers=workers,
            pool=pool,
            restart_delay_s=settings.worker.restart_delay_s,
            deaths_limit=settings.worker.deaths_limit,
            next_life=next_life,
        )
        self.desk = Desk(settings, Ledger(tasks, ended, next_task), roster)
        self.desk.held = held
        self.desk.now = now
        self._empty_told = False
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            Submitted: self._on_submitted,
            CancelAsked: self._on_cancel,
            HoldSet: self._on_hold,
            Leaving: self._on_leaving,
            Stopping: self._on_stopping,
            LifeStarted: lambda event: attendance.on_started_life(self.desk, event),
            LifeGreeted: lambda event: attendance.on_greeted(self.desk, event),
            LifeSaid: self._on_said,
            LifeSilent: lambda event: attendance.on_silent(self.desk, event),
            LifePaneless: lambda event: attendance.on_paneless(self.desk, event),
            LifeEnded: lambda event: attendance.on_ended_life(self.desk, event),
            Tick: lambda _: None,
        }
        self._restore(lives)

    def handle(self, events: Sequence[Event], now: float, wall: float) -> Turn:
        """Take in what happened and return what to commit, what to do then, and when to call again without an event."""
        desk = self.desk
        desk.begin_turn(now, wall)
        for event in events:
            self._handlers[type(event)](event)
        self._keep_time()
        self._keep_workers()
        self._dispatch()
        self._rebalance()
        changes, ended = desk.ledger.take_changes()
        for task in ended:
            desk.stats.ended(now, max(0.0, wall - task.submitted_at))
        if ended:
            desk.actions.append(TasksEnded(tasks=ended))
        said = tuple(Say(life=life, messages=tuple(messages), connection=desk.connection_of(life)) for life, messages in desk.say.items())
        return Turn(changes=changes, actions=(*desk.actions, *said), wake_at=self._wake_at())

    def _restore(self, lives: Iterable[LifeRecord]) -> None:
        desk = self.desk
        for record in lives:
            attendance.watch_silence(desk, desk.roster.adopt(record))
        leased = sorted((task.lease.sent_at, task.id, task.lease) for task in desk.ledger.tasks.values() if task.lease)
        for _, number, lease in leased:
            self._restore_lease(desk.ledger.tasks[number], lease)
        for task in desk.ledger.tasks.values():
            if task.state is S.READY:
                desk.ready.add(task)
            elif task.state is S.WAITING:
                heapq.heappush(desk.delayed, (0.0, task.id))  # its pause was measured on a clock that is gone

    def _restore_lease(self, task: Task, lease: Lease) -> None:
        desk = self.desk
        life = desk.roster.lives.get(lease.life)
        if life is None:
            # A death and what follows from it share a transaction, so this is no state we write; but nothing may stay leased to nobody.
            if task.state is S.RUNNING and task.delivery == "at-most-once":
                desk.end(task, S.INTERRUPTED, outcome_of(Failure(kind="signal", message="its worker is not known any more")))
            elif task.cancelling:
                desk.end(task, S.CANCELLED, outcome_of(UNRUN))
            else:
                desk.ledger.move(task, S.READY, lease=None)
            return
        life.held[task.id] = task.attempt
        life.link.sent(desk.run_message(task))
        if task.state is S.RUNNING:
            life.running = task.id
        if task.cancelling:
            desk.stop_task(task)  # and no Go: it may still wait for that
        elif task.state is S.RUNNING:
            life.link.sent(Go(task=task.id, attempt=task.attempt))
        if task.solo:
            desk.solo[life.id] = task.id

    # -- people ------------------------------------------------------------------------------------

    def _on_submitted(self, event: Submitted) -> None:
        ids = tuple(self._known(new, event) or self._accept(new) for new in event.tasks)
        self.desk.actions.append(Accepted(token=event.token, ids=ids))

    def _known(self, new: NewTask, event: Submitted) -> int:
        """Return the task that this request made earlier, or 0."""
        if not new.request_id:
            return 0
        return self.desk.ledger.requests.get(new.request_id) or event.known.get(new.request_id, 0)

    def _accept(self, new: NewTask) -> int:
        kind = kind_of(new.job)
        task = Task(
            id=self.desk.ledger.next_task,
            job=new.job,
            kind=kind,
            name=new.name,
            request_id=new.request_id,
            priority=new.priority,
            delivery=new.delivery or DELIVERY_OF_KIND[kind],
            timeout_s=new.timeout_s,
            retries=new.retries,
            deliveries=new.deliveries,
            grace_s=new.grace_s,
            submitted_at=self.desk.wall,
        )
        self.desk.ledger.add(task)
        self.desk.ready.add(task)
        return task.id

    def _on_cancel(self, event: CancelAsked) -> None:
        results = tuple((number, self._cancel(number, begun=event.begun)) for number in event.tasks)
        self.desk.actions.append(CancelAnswered(token=event.token, results=results))

    def _cancel(self, number: int, *, begun: bool) -> str:
        desk = self.desk
        task = desk.ledger.tasks.get(number)
        if task is None:
            return "unknown"
        if task.state in (S.READY, S.WAITING):
            desk.ready.discard(number)
            desk.end(task, S.CANCELLED, outcome_of(UNRUN))
            return "cancelled"
        if not begun and (task.state is S.RUNNING or task.delivery == "at-least-once"):
            return self._withdraw(task)
        if not task.cancelling:  # also what waits for its Go: that has not begun
            desk.stop_task(desk.ledger.note(task, cancelling=True))
        return "ending"

    def _withdraw(self, task: Task) -> str:
        """Have a leased task cancelled unless it has begun, which only its worker knows for sure.

        What a worker was given first counts as begun, as in a process pool: else whether a task runs would hang on who is quicker.
        """
        assert task.lease is not None, "a leased task has a lease"
        life = self.desk.roster.lives[task.lease.life]
        if task.state is S.RUNNING or task.cancelling or next(iter(life.held)) == task.id:
            return "ending" if task.cancelling else "running"
        life.withdrawn.add(task.id)
        if task.id not in life.recalled:
            self.desk.ask_back(life, task.id)
        return "ending"

    def _on_hold(self, event: HoldSet) -> None:
        self.desk.held = event.held
        self.desk.ledger.meta("held", "1" if event.held else "")
        self.desk.roster.forgive()

    def _on_leaving(self, event: Leaving) -> None:
        self.desk.leaving = event
        for life in self.desk.roster.lives.values():
            if event.now or not self.desk.roster.is_nested(life):  # these leave when no running task needs them any more
                self.desk.retire(life, now=event.now)

    def _on_stopping(self, _: Stopping) -> None:
        """Whoever ends the controller may have ended the workers a moment before: those deaths are no task's fault."""
        desk = self.desk
        desk.stopping = True
        for task in list(desk.ledger.tasks.values()):
            kept = tuple(crash for crash in task.crashes if crash.at < desk.wall - SHUTDOWN_S)
            if kept != task.crashes:
                desk.ledger.note(task, crashes=kept, solo=bool(kept) and task.solo)

    def _on_said(self, event: LifeSaid) -> None:
        life = self.desk.roster.lives.get(event.life)
        if life is not None:
            hearing.on_said(self.desk, life, event.message)

    # -- time --------------------------------------------------------------------------------------

    def _keep_time(self) -> None:
        desk = self.desk
        while desk.delayed and desk.delayed[0][0] <= desk.now:
            task = desk.ledger.tasks.get(heapq.heappop(desk.delayed)[1])
            if task is not None and task.state is S.WAITING:
                desk.ready.add(desk.ledger.move(task, S.READY, keep=False))
        while desk.deadlines and desk.deadlines[0][0] <= desk.now:
            _, number, key, why = heapq.heappop(desk.deadlines)
            if not number:
                attendance.overdue(desk, key, why)
                continue
            task = desk.ledger.tasks.get(number)
            if task is not None and task.attempt == key and task.lease is not None:
                desk.kill(task.lease.life, why)

    def _wake_at(self) -> float | None:
        desk = self.desk
        times = [heap[0][0] for heap in (desk.delayed, desk.deadlines) if heap]
        if desk.roster.not_before > desk.now:
            times.append(desk.roster.not_before)
        times += [at for at in (contexts.wake_at(desk), nesting.wake_at(desk)) if at is not None]
        recall = placement.recall_wake(self._spreading())
        if recall is not None and not len(desk.ready):
            times.append(max(recall, desk.now + 0.001))
        return min(times, default=None)

    # -- keeping the house full, and the work spread -----------------------------------------------

    def _keep_workers(self) -> None:
        desk = self.desk
        if desk.stopping:
            return
        if not desk.roster.ready_once and desk.roster.all_ready():
            desk.roster.ready_once = True
            desk.actions.append(Ready())
        if desk.leaving is None or not desk.leaving.now:
            attendance.keep_workers(desk)
        if desk.leaving is not None and not desk.roster.lives and not self._empty_told:
            self._empty_told = True
            desk.actions.append(Empty())

    def _dispatch(self) -> None:
        desk = self.desk
        if desk.held or desk.stopping or desk.leaving is not None or not len(desk.ready):
            if desk.waiting_since:
                contexts.give_up_kept(desk, ())
            if not desk.stopping:
                self._serve_nested()
            return
        while True:
            waiting = [key[2] for key in self._place()]
            self._serve_nested()
            heads = sorted(head for part in waiting if (head := desk.ready.head(part)) is not None)
            if not contexts.switch(desk, heads):
                return
            # What was replaced may have been replaced by a warm worker of the pool.
            attendance.keep_workers(desk)

    def _place(self) -> list[Key]:
        """Lease ready tasks, best first, as long as there are places; return the first task of each part that found none."""
        desk = self.desk
        seats = placement.Seats(self._places(), desk.settings.worker.prefetch, frozenset(desk.solo), desk.now)
        heads, waiting = desk.ready.heads(), list[Key]()
        overview: contexts.Overview | None = None
        while heads:
            _, number, part = heads[0]
            task = desk.ledger.tasks[number]
            life = seats.take(part, alone=task.solo)
            if life is None:
                if contexts.wait(desk, heads[0]):
                    overview = overview or contexts.Overview(desk)
                    contexts.keep_one(desk, heads[0], overview)
                waiting.append(heapq.heappop(heads))
                continue
            desk.ready.take(part)
            self._lease(task, life, part)
            overview = None
            following = desk.ready.head(part)
            if following is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, following)
        return waiting

    def _places(self) -> Iterable[Life]:
        """Return the workers that any task may go to: neither nested ones nor those whose task may be waiting for one that is ready."""
        desk, lives = self.desk, self.desk.roster.lives.values()
        if not desk.ledger.family.children and not desk.roster.nested:
            return lives  # nearly always
        return [life for life in lives if not desk.roster.is_nested(life) and not nesting.waits(desk, life)]

    def _serve_nested(self) -> None:
        while nesting.serve(self.desk, self._lease) and self.desk.starts:
            attendance.keep_workers(self.desk)

    def _lease(self, task: Task, life: Life, part: str) -> None:
        desk = self.desk
        lease = Lease(life=life.id, worker=life.name, sent_at=desk.wall)
        task = desk.ledger.move(task, S.SENT, attempt=task.attempt + 1, lease=lease)
        if not life.held:
            life.heard_at = life.progress_at = desk.now
        life.held[task.id] = task.attempt
        life.state = WorkerState.BUSY
        contexts.assign(desk, life, task.id, part)
        if task.solo:
            desk.solo[life.id] = task.id
        desk.tell(life.id, desk.run_message(task))

    def _rebalance(self) -> None:
        desk = self.desk
        if len(desk.ready) or desk.stopping or desk.leaving is not None:
            return
        for life, tasks in placement.to_recall(self._spreading(), desk.now):
            for number in tasks:
                desk.ask_back(life, number)

    def _spreading(self) -> list[Life]:
        """Return the workers among which work is spread: an idle nested one is no reason to ask anything back."""
        roster = self.desk.roster
        if not roster.nested:
            return list(roster.lives.values())
        return [life for life in roster.lives.values() if not roster.is_nested(life) or life.held]

    def check_invariants(self) -> None:
        """Raise AssertionError when tasks, leases and lives contradict each other; called by tests after every turn."""
        desk = self.desk
        desk.ledger.check_invariants()
        held = {(number, attempt, life.id) for life in desk.roster.lives.values() for number, attempt in life.held.items()}
        leased = {(task.id, task.attempt, task.lease.life) for task in desk.ledger.tasks.values() if task.lease}
        assert held == leased, f"lives hold {held - leased} without lease; leases {leased - held} without holder"
        for task in desk.ledger.tasks.values():
            assert (task.state is S.READY) == (task.id in desk.ready), f"task {task.id} is {task.state}; queued: {task.id in desk.ready}"
        for life_id, number in desk.solo.items():
            assert number in desk.roster.lives[life_id].held, f"solo task {number} is not held by life {life_id}"
