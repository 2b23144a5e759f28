"""The scheduler's state, and the small transitions that every rule uses.

Rules are functions over this state: ``worker_messages.py`` (messages from workers), ``worker_lifecycle.py`` (workers start, fall
silent, end) and ``scheduler.py`` (requests, time, placement).  Nothing else changes it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any, cast

from msgspec.structs import replace

from tmax.core.events import Action, KillLife, Leaving
from tmax.core.ledger import Ledger
from tmax.core.model import Outcome, Task, TaskState, WorkerState
from tmax.core.queue import ReadyQueue
from tmax.core.retry_policy import GIVEN_UP, outcome_of
from tmax.core.roster import Life, Roster
from tmax.core.settings import Settings
from tmax.core.stats import Stats
from tmax_pipes.jobs import PythonJob
from tmax_pipes.messages import Message, Recall, Run, Stop, Stored, ToWorker

PROOF = PythonJob(call=b"[[], {}]", label="ready?", target="builtins:bool")
"""The no-op that must return through a worker's FIFOs before it is ready; it runs as task 0 and is never recorded."""

KILL_MARGIN_S = 5.0
"""How much longer than a task's grace the controller waits before it ends the worker itself."""

SILENT_LIMIT_S = 60.0
"""A live process that holds no task and has had no connection for so long is of no use: it is ended and replaced."""


class SchedulerState:
    """Tasks, lives, queue, deadlines, and what this turn has ordered so far."""

    def __init__(self, settings: Settings, ledger: Ledger, roster: Roster) -> None:
        self.settings = settings
        self.ledger = ledger
        self.roster = roster
        self.ready = ReadyQueue(settings.tasks.age_step_s)
        self.stats = Stats()
        self.held = False
        self.leaving: Leaving | None = None
        self.stopping = False
        """This controller ends after this turn: nothing is begun any more."""
        self.late_duplicates = 0
        self.now = 0.0
        self.wall = 0.0
        self.delayed: list[tuple[float, int]] = []
        """(when, task): pauses before a retry."""
        self.deadlines: list[tuple[float, int, int, str]] = []
        """(when, task or 0, attempt or life, why): when the controller ends a worker itself."""
        self.reserved: dict[str, str] = {}
        """Name of a slot that is about to be filled -> the part of the queue its worker is for."""
        self.waiting_since: dict[str, float] = {}
        """Part of the queue -> since when its first task has found no place."""
        self.solo: dict[int, int] = {}
        """life -> the task it runs alone."""
        self.outgoing: dict[int, list[ToWorker]] = {}
        self.actions: list[Action] = []

    def begin_turn(self, now: float, wall: float) -> None:
        """Set the time and start with an empty list of orders."""
        self.now, self.wall = now, wall
        self.actions, self.outgoing = [], {}

    def send(self, life: int, message: ToWorker) -> None:
        """Order a message to a worker, and remember it until the worker acknowledges it."""
        self.outgoing.setdefault(life, []).append(message)
        if life in self.roster.lives:
            self.roster.lives[life].link.sent(message)

    def resend(self, life: Life, messages: Iterable[Message]) -> None:
        """Order messages that the link remembers already."""
        self.outgoing.setdefault(life.id, []).extend(cast("Iterable[ToWorker]", messages))

    def connection_of(self, life: int) -> int:
        """Return the connection on which this life greeted last, as far as we have heard."""
        known = self.roster.lives.get(life)
        return known.connection if known is not None else 0

    @property
    def starts(self) -> bool:
        """Whether anything may begin: all of the queue, or while running tasks are finished at ``down`` only what these have submitted."""
        return not self.held and not self.stopping and not (self.leaving is not None and self.leaving.now)

    def stored(self, life: Life, key: tuple[int, int]) -> None:
        """Order the acknowledgement of a result; neighbours share one message."""
        outgoing = self.outgoing.setdefault(life.id, [])
        if outgoing and isinstance(outgoing[-1], Stored):
            outgoing[-1] = Stored(keys=(*outgoing[-1].keys, key))
        else:
            outgoing.append(Stored(keys=(key,)))

    def run_message(self, task: Task) -> Run:
        """Return the message that sends this task."""
        return Run(
            task=task.id,
            attempt=task.attempt,
            job=task.job,
            needs_go=task.delivery == "at-most-once",
            options=task.options,
            tries=1 + task.failures + len(task.crashes),
        )

    def leave(self, life: Life, task: Task) -> None:
        """This life does not have the task any more."""
        life.link.forget((task.id, task.attempt))
        del life.held[task.id]
        life.recalled.discard(task.id)
        life.withdrawn.discard(task.id)
        if life.running == task.id:
            life.running = 0
        if self.solo.get(life.id) == task.id:
            del self.solo[life.id]
        if not life.held:
            if life.state is WorkerState.BUSY:
                life.state = WorkerState.IDLE
            elif life.retiring:
                self._end_if_it_stays(life)

    def end(self, task: Task, to: TaskState, outcome: Outcome) -> None:
        """Record the task's end."""
        ran_on = task.lease.worker if task.lease else task.ran_on
        self.ledger.move(task, to, lease=None, outcome=outcome, ended_at=self.wall, ran_on=ran_on)

    def requeue(self, task: Task, **changes: Any) -> None:
        """Put a task that is leased no more back into the queue, with these changes; one that is to be cancelled ends instead."""
        if task.cancelling:
            self.end(task, TaskState.CANCELLED, outcome_of(GIVEN_UP))
        else:
            self.ready.add(self.ledger.move(task, TaskState.READY, lease=None, **changes))

    def recall(self, life: Life, number: int) -> None:
        """Order a task that was sent ahead back from its worker, which gives it back unless it has begun it."""
        life.recalled.add(number)
        self.send(life.id, Recall(task=number, attempt=life.held[number]))

    def stop_task(self, task: Task) -> None:
        """Order the end of a leased task, and stand behind the order."""
        assert task.lease is not None, "a task being ended has a lease"
        self.send(task.lease.life, Stop(task=task.id, attempt=task.attempt, why="cancel", grace_s=task.options.grace_s))
        self.backstop(task, self.now + task.options.grace_s + KILL_MARGIN_S, "cancel")

    def backstop(self, task: Task, at: float, why: str) -> None:
        """End the worker itself when this attempt is still leased at ``at``."""
        heapq.heappush(self.deadlines, (at, task.id, task.attempt, why))

    def retire(self, life: Life, *, now: bool) -> None:
        """Ask a worker to leave: after what it runs, or at once."""
        life.retiring = True
        if life.state is not WorkerState.SILENT:
            life.state = WorkerState.DRAINING
        grace_s = self.settings.tasks.grace_s
        self.send(life.id, Stop(why="now" if now else "drain", grace_s=grace_s))
        if now or not life.held:
            self._end_if_it_stays(life, grace_s if life.held else 0.0)

    def _end_if_it_stays(self, life: Life, grace_s: float = 0.0) -> None:
        """It was asked to leave, and has nothing to do, or only ``grace_s`` for it."""
        heapq.heappush(self.deadlines, (self.now + grace_s + KILL_MARGIN_S, 0, life.id, "drain"))

    def kill(self, number: int, why: str) -> None:
        """Order the end of a worker's process; what it held is decided when it is confirmed dead."""
        life = self.roster.lives.get(number)
        if life is not None and not life.killed:
            life.killed = why
            self.actions.append(KillLife(life=number, why=why))

    def move_life(self, life: Life, **changes: object) -> None:
        """Change a life's record, and write it in this turn."""
        life.record = replace(life.record, **changes)
        self.ledger.life(life.record)
