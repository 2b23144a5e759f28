"""The scheduler's state, and the transitions that several rules use.

Rules are functions over this state: ``worker_messages.py`` (messages from workers), ``worker_lifecycle.py`` (workers start,
disconnect, end), ``contexts.py``, ``nesting.py`` and ``scheduler.py`` (requests, timers, placement).  Nothing else changes it.
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
from tmax.core.retry_policy import LOST, outcome_of
from tmax.core.roster import Life, Roster
from tmax.core.settings import Settings
from tmax.core.stats import Stats
from tmax_pipes.jobs import PythonJob
from tmax_pipes.messages import Message, Recall, Run, Stop, Stored, ToWorker

READINESS_PROBE = PythonJob(call=b"[[], {}]", label="ready?", target="builtins:bool")
"""The no-op whose result must arrive before a worker is ready; it runs as task 0 and is never recorded."""

KILL_MARGIN_S = 5.0
"""How much longer than a task's grace the controller waits before it ends the worker itself."""

SILENT_LIMIT_S = 60.0
"""A live process that has no task and no connection for so long is ended and replaced."""


class SchedulerState:
    """Tasks, lives, queue, deadlines, and the actions of this turn so far."""

    def __init__(self, settings: Settings, ledger: Ledger, roster: Roster) -> None:
        self.settings = settings
        self.ledger = ledger
        self.roster = roster
        self.ready = ReadyQueue(settings.tasks.age_step_s)
        self.stats = Stats()
        self.held = False
        self.leaving: Leaving | None = None
        self.stopping = False
        """This controller ends after this turn: it starts nothing any more."""
        self.now = 0.0
        self.wall = 0.0
        self.delayed: list[tuple[float, int]] = []
        """(when, task): pauses before a retry."""
        self.deadlines: list[tuple[float, int, int, str]] = []
        """(when, task or 0, attempt or life, why): when the controller ends a worker itself."""
        self.reserved: dict[str, str] = {}
        """Name of a slot that is about to be filled -> the part of the queue that its worker is for."""
        self.waiting_since: dict[str, float] = {}
        """Part of the queue -> since when its first task has found no worker."""
        self.solo: dict[int, int] = {}
        """Life -> the task that it runs alone."""
        self.outgoing: dict[int, list[ToWorker]] = {}
        self.actions: list[Action] = []

    def begin_turn(self, now: float, wall: float) -> None:
        """Set the time and start with no actions."""
        self.now, self.wall = now, wall
        self.actions, self.outgoing = [], {}

    def send(self, life: int, message: ToWorker) -> None:
        """Send a message to a worker, and keep it until the worker acknowledges it."""
        self.outgoing.setdefault(life, []).append(message)
        if life in self.roster.lives:
            self.roster.lives[life].link.sent(message)

    def resend(self, life: Life, messages: Iterable[Message]) -> None:
        """Send messages that the link keeps already."""
        self.outgoing.setdefault(life.id, []).extend(cast("Iterable[ToWorker]", messages))

    def connection_of(self, life: int) -> int:
        """Return the connection of this life's last Hello that was handled; 0: none."""
        known = self.roster.lives.get(life)
        return known.connection if known is not None else 0

    @property
    def may_start(self) -> bool:
        """Whether tasks may start: any queued task, or, while the swarm goes down, only children of running tasks."""
        return not self.held and not self.stopping and not (self.leaving is not None and self.leaving.now)

    def acknowledge(self, life: Life, key: tuple[int, int]) -> None:
        """Send the acknowledgement of a result; successive ones share one message."""
        outgoing = self.outgoing.setdefault(life.id, [])
        if outgoing and isinstance(outgoing[-1], Stored):
            outgoing[-1] = Stored(keys=(*outgoing[-1].keys, key))
        else:
            outgoing.append(Stored(keys=(key,)))

    def run_message(self, task: Task) -> Run:
        """Return the message that leases this task to a worker."""
        return Run(
            task=task.id,
            attempt=task.attempt,
            job=task.job,
            needs_go=task.delivery == "at-most-once",
            options=task.options,
            tries=1 + task.failures + len(task.crashes),
        )

    def release_task(self, life: Life, task: Task) -> None:
        """Remove a task from the life that held it."""
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
                self._set_exit_deadline(life)

    def end(self, task: Task, to: TaskState, outcome: Outcome) -> None:
        """Record the end of a task."""
        ran_on = task.lease.worker if task.lease else task.ran_on
        self.ledger.move(task, to, lease=None, outcome=outcome, ended_at=self.wall, ran_on=ran_on)

    def requeue(self, task: Task, **changes: Any) -> None:
        """Put a task back into the queue, without its lease and with these changes; one that is being cancelled ends instead."""
        if task.cancelling:
            self.end(task, TaskState.CANCELLED, outcome_of(LOST))
        else:
            self.ready.add(self.ledger.move(task, TaskState.READY, lease=None, **changes))

    def recall(self, life: Life, number: int) -> None:
        """Recall a task from its worker, which returns it unless the task has begun."""
        life.recalled.add(number)
        self.send(life.id, Recall(task=number, attempt=life.held[number]))

    def stop_task(self, task: Task) -> None:
        """Order a worker to end a leased task; end the worker itself if that takes too long."""
        assert task.lease is not None, "a task being ended has a lease"
        self.send(task.lease.life, Stop(task=task.id, attempt=task.attempt, why="cancel", grace_s=task.options.grace_s))
        self.set_deadline(task, self.now + task.options.grace_s + KILL_MARGIN_S, "cancel")

    def set_deadline(self, task: Task, at: float, why: str) -> None:
        """End the worker itself when this attempt is still leased at ``at``."""
        heapq.heappush(self.deadlines, (at, task.id, task.attempt, why))

    def retire(self, life: Life, *, now: bool) -> None:
        """Order a worker to end: after what it runs, or at once."""
        life.retiring = True
        if life.state is not WorkerState.SILENT:
            life.state = WorkerState.DRAINING
        grace_s = self.settings.tasks.grace_s
        self.send(life.id, Stop(why="now" if now else "drain", grace_s=grace_s))
        if now or not life.held:
            self._set_exit_deadline(life, grace_s if life.held else 0.0)

    def _set_exit_deadline(self, life: Life, grace_s: float = 0.0) -> None:
        """End a retiring worker itself when it still lives ``grace_s`` and KILL_MARGIN_S from now."""
        heapq.heappush(self.deadlines, (self.now + grace_s + KILL_MARGIN_S, 0, life.id, "drain"))

    def kill(self, number: int, why: str) -> None:
        """Kill a worker's process; its tasks are redelivered or ended when it is confirmed dead."""
        life = self.roster.lives.get(number)
        if life is not None and not life.killed:
            life.killed = why
            self.actions.append(KillLife(life=number, why=why))

    def move_life(self, life: Life, **changes: object) -> None:
        """Change a life's record, and write it in this turn."""
        life.record = replace(life.record, **changes)
        self.ledger.life(life.record)
