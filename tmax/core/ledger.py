"""Every task that has not ended, and what this turn must write about them.

A task changes its state only here, along the table MOVES.  A move that is not in the table is a defect of tmax; the error lists the
task's last moves.  Tasks are frozen: a move replaces the task, so a turn's changes are values too.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from tmax.core.events import Changes
from tmax.core.model import ENDS, LifeRecord, Task, TaskState
from tmax.core.task_tree import TaskTree

S = TaskState

MOVES: dict[TaskState, frozenset[TaskState]] = {
    S.WAITING: frozenset({S.READY, S.CANCELLED}),
    S.READY: frozenset({S.SENT, S.CANCELLED}),
    S.SENT: frozenset({S.RUNNING, S.READY, S.WAITING, S.DONE, S.FAILED, S.DEAD, S.CANCELLED, S.INTERRUPTED}),
    S.RUNNING: frozenset({S.READY, S.WAITING, S.DONE, S.FAILED, S.DEAD, S.CANCELLED, S.INTERRUPTED}),
    **{end: frozenset() for end in ENDS},
}
"""State -> the states that may follow it.  From SENT to the ends, as a worker may report an end before its ``Started`` was read."""


RECENT_REQUESTS = 10_000
"""How many request ids of ended tasks are kept in memory; older ones are looked up in the store."""


class IllegalMove(AssertionError):
    """A task was to move to a state that MOVES does not allow: a defect of tmax.  Fields: ``task_id``, ``to``."""

    def __init__(self, task: Task, to: TaskState, history: Iterable[str]) -> None:
        self.task_id = task.id
        self.to = to
        super().__init__(f"task {task.id}: the move {task.state} -> {to} is not allowed; its last moves: {', '.join(history)}")


class Ledger:
    """Tasks by id, counts by state, and the changes since the last ``take_changes``."""

    def __init__(self, tasks: Iterable[Task] = (), ended: dict[str, int] | None = None, next_task: int = 1) -> None:
        self.tasks: dict[int, Task] = {task.id: task for task in tasks}
        self.task_tree = TaskTree(self.tasks.values())
        self.next_task = next_task
        self.requests: dict[str, int] = {task.request_id: task.id for task in self.tasks.values() if task.request_id}
        self.counts: Counter[str] = Counter({state.value: 0 for state in TaskState})
        self.counts.update(ended or {})
        self.counts.update(task.state.value for task in self.tasks.values())
        self._recent: deque[str] = deque()
        self._new: dict[int, Task] = {}
        self._moved: dict[int, Task] = {}
        self._ended: list[Task] = []
        self._lives: dict[int, LifeRecord] = {}
        self._meta: dict[str, str] = {}
        self._recent_moves: deque[tuple[int, TaskState, TaskState]] = deque(maxlen=2000)

    def add(self, task: Task) -> None:
        """Take in a new task; its id is ``next_task``."""
        self.tasks[task.id] = self._new[task.id] = task
        self.task_tree.add(task)
        self.next_task = task.id + 1
        self.counts[task.state] += 1
        if task.request_id:
            self.requests[task.request_id] = task.id

    def move(self, task: Task, to: TaskState, *, keep: bool = True, **changes: Any) -> Task:
        """Return the task in its new state.  With ``keep=False`` the move is not written, as the worker can report it again."""
        if to not in MOVES[task.state]:
            raise IllegalMove(task, to, (f"{was}->{then}" for number, was, then in self._recent_moves if number == task.id))
        self._recent_moves.append((task.id, task.state, to))
        self.counts[task.state] -= 1
        self.counts[to] += 1
        return self._put(replace(task, state=to, **changes), keep=keep)

    def note(self, task: Task, *, keep: bool = True, **changes: Any) -> Task:
        """Return the task with fields changed and its state as it was."""
        return self._put(replace(task, **changes), keep=keep)

    def _put(self, task: Task, *, keep: bool) -> Task:
        if task.id in self._new:
            self._new[task.id] = task
        elif keep or task.id in self._moved:
            self._moved[task.id] = task
        if task.state in ENDS:
            del self.tasks[task.id]
            self._ended.append(task)
            self.task_tree.ended(task)
            if task.request_id:
                # Kept for a while: a second submit may have read the store just before this task was written there.
                self._recent.append(task.request_id)
                if len(self._recent) > RECENT_REQUESTS:
                    self.requests.pop(self._recent.popleft(), None)
        else:
            self.tasks[task.id] = task
        return task

    def life(self, record: LifeRecord) -> None:
        """Write this life's record in this turn."""
        self._lives[record.life] = record

    def meta(self, key: str, value: str) -> None:
        """Write this value in this turn."""
        self._meta[key] = value

    def take_changes(self) -> tuple[Changes, tuple[Task, ...]]:
        """Return what this turn must write, and the tasks that ended in it; start the next turn's list."""
        changes = Changes(
            new_tasks=tuple(self._new.values()),
            tasks=tuple(self._moved.values()),
            lives=tuple(self._lives.values()),
            meta=self._meta,
        )
        ended = tuple(self._ended)
        self._new, self._moved, self._lives, self._meta, self._ended = {}, {}, {}, {}, []
        return changes, ended

    def check_invariants(self) -> None:
        """Raise AssertionError when states, leases and counts do not fit each other."""
        live = Counter(task.state.value for task in self.tasks.values())
        for task in self.tasks.values():
            leased = task.state in (S.SENT, S.RUNNING)
            assert (task.lease is not None) == leased, f"task {task.id} is {task.state} with lease {task.lease}"
            assert not task.ended, f"task {task.id} has ended and is still in the ledger"
        for state in TaskState:
            if state not in ENDS:
                assert self.counts[state.value] == live[state.value], (
                    f"count of {state} is {self.counts[state.value]}, not {live[state.value]}"
                )
