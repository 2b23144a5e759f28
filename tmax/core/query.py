"""Read-only access to the scheduler's state.

The controller answers clients from here.  No code outside ``tmax.core`` holds the state itself, and what this module returns
(frozen tasks, workers as a read-only protocol, read-only mappings) cannot be used to change it.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Protocol

from tmax.core import nesting
from tmax.core.model import LifeRecord, Task, TaskState, WorkerState
from tmax.core.snapshot import Latency
from tmax.core.state import SchedulerState
from tmax.core.waiting_reasons import why_waiting


class WorkerFacts(Protocol):
    """One worker process (a life), read-only."""

    @property
    def id(self) -> int:
        """Number of the life."""

    @property
    def name(self) -> str:
        """Name of the worker: ``w1``..., or ``pool-LIFE``."""

    @property
    def number(self) -> int:
        """Number of its slot, for sorting."""

    @property
    def pooled(self) -> bool:
        """Whether it is in the pool."""

    @property
    def record(self) -> LifeRecord:
        """Its record in the store."""

    @property
    def state(self) -> WorkerState:
        """Its state."""

    @property
    def running(self) -> int:
        """The task that it runs; 0: none known."""

    @property
    def held(self) -> Mapping[int, int]:
        """Leased tasks in the order sent: task -> attempt."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Modules that it could not preload, each with the reason."""

    @property
    def last_message_at(self) -> float:
        """When it sent its last message, in monotonic seconds."""

    @property
    def tasks_failed(self) -> int:
        """Tasks that failed in this process."""


class SwarmQuery:
    """Queries about tasks and workers.  Results are valid until the scheduler's next turn."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state
        self._tasks = MappingProxyType(state.ledger.tasks)
        self._counts = MappingProxyType(state.ledger.counts)

    # -- the swarm ---------------------------------------------------------------------------------

    @property
    def is_held(self) -> bool:
        """Whether the queue starts nothing until it is resumed."""
        return self._state.held

    @property
    def is_leaving(self) -> bool:
        """Whether the swarm is going down."""
        return self._state.leaving is not None

    @property
    def is_leaving_now(self) -> bool:
        """Whether it is going down without waiting for running tasks."""
        return self._state.leaving is not None and self._state.leaving.now

    @property
    def is_stopping(self) -> bool:
        """Whether this controller ends after this turn."""
        return self._state.stopping

    @property
    def is_ready(self) -> bool:
        """Whether all wanted workers have been ready at once."""
        return self._state.roster.ready_once

    @property
    def has_given_up(self) -> bool:
        """Whether so many workers died before they were ready that no more are started."""
        return self._state.roster.gave_up

    @property
    def last_death(self) -> str:
        """The cause of the last death of a worker, as the kernel reported it."""
        return self._state.roster.last_cause

    @property
    def deaths(self) -> int:
        """Unexpected deaths of workers since this controller started."""
        return self._state.roster.deaths

    @property
    def workers_wanted(self) -> int:
        """How many workers there should be, without nested and pooled ones."""
        return self._state.roster.workers_wanted

    @property
    def may_deadlock(self) -> bool:
        """Whether any unfinished task was submitted by another task; usually False, and cheap to check."""
        return bool(self._state.ledger.task_tree.children)

    def deadlock(self) -> str:
        """Return in one line why running tasks and the tasks that they submitted wait for each other for good; empty when they do not."""
        return nesting.deadlock(self._state)

    # -- tasks -------------------------------------------------------------------------------------

    @property
    def tasks(self) -> Mapping[int, Task]:
        """Every task that has not ended, by number."""
        return self._tasks

    @property
    def counts(self) -> Mapping[str, int]:
        """Tasks in each state, ended ones included."""
        return self._counts

    @property
    def last_task(self) -> int:
        """The highest task number so far; 0: none."""
        return self._state.ledger.next_task - 1

    def accepts_child_of(self, parent: int) -> bool:
        """Return whether a task that task ``parent`` submits now would still run while the swarm is going down."""
        return nesting.accepts_child_of(self._state, parent)

    def why_waiting(self, task: Task, ahead: int | None = None) -> str:
        """Return in one line why this task has not started; empty when it has.  ``ahead``: tasks before it; None: they are counted."""
        return why_waiting(self._state, task, ahead)

    def started(self) -> list[Task]:
        """Return the tasks that have started, in the order of their numbers."""
        tasks = self._tasks
        return sorted((tasks[life.running] for life in self.workers() if life.running in tasks), key=lambda task: task.id)

    def unstarted(self) -> Iterator[tuple[Task, str]]:
        """Yield the tasks that have not started, the next one first, each with the reason.

        The iteration may continue over several turns: each task is yielded as it is when it is reached, and not at all once it has ended.
        """
        state, tasks = self._state, self._tasks
        sent = [number for life in self.workers() for number in life.held if tasks[number].state is TaskState.SENT]
        ahead, seen = 0, set[int]()
        for number in itertools.chain(sent, state.ready.in_order(), _paused(state.delayed.copy())):
            task = tasks.get(number)
            if task is not None and number not in seen:
                seen.add(number)
                yield task, why_waiting(state, task, ahead)
                ahead += task.state is TaskState.READY

    # -- workers -----------------------------------------------------------------------------------

    def workers(self) -> list[WorkerFacts]:
        """Return every worker process that is not known to be dead."""
        return list(self._state.roster.lives.values())

    def worker(self, life: int) -> WorkerFacts | None:
        """Return the worker process of this number."""
        return self._state.roster.lives.get(life)

    def worker_named(self, name: str) -> WorkerFacts | None:
        """Return the worker process of this name; a pooled one has the name ``pool-LIFE``."""
        return next((life for life in self._state.roster.lives.values() if life.name == name), None)

    def is_nested(self, life: int) -> bool:
        """Return whether this worker was started above the number, for tasks that running tasks submitted."""
        found = self._state.roster.lives.get(life)
        return found is not None and self._state.roster.is_nested(found)

    # -- figures -----------------------------------------------------------------------------------

    def ended_per_second(self, now: float) -> tuple[int, ...]:
        """Return how many tasks ended in each of the last 60 whole seconds, oldest first."""
        return self._state.stats.per_second(now)

    def latency(self) -> Latency:
        """Return quantiles of the seconds from submission to end of the last tasks."""
        return self._state.stats.latency()

    def commit_p50_s(self) -> float | None:
        """Return the median seconds of the last commits; None before the first."""
        return self._state.stats.commit_p50_s()


def _paused(delayed: list[tuple[float, int]]) -> Iterator[int]:
    """Yield the tasks that pause before a retry, the earliest retry first; empties the list."""
    while delayed:
        yield heapq.heappop(delayed)[1]
