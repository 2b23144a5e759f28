"""Tasks that tasks submit: a worker that waits for work of its own is not counted as one that works.

::

    task 5 runs on w1, submits task 6 to the same swarm and waits for it        no other worker is free:
        --> w2 is started beside the number for task 6 (a nested worker)  --> 6 ends --> 5 goes on --> w2 leaves

Whether a task waits cannot be seen, so each running task with unfinished children (tasks it submitted) counts as waiting.
Nested workers run children of leased tasks only, the youngest first: so a tree of tasks is walked in depth, and needs as many
workers as it is deep, not as it is wide.  At most ``swarm.nested_workers`` are started; the second half of them only one at a time,
when nothing else can go on.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Container, Iterable
from typing import TYPE_CHECKING

from tmax.core.model import Task, TaskState, WorkerState

if TYPE_CHECKING:
    from tmax.core.desk import Desk
    from tmax.core.roster import Life

LINGER_S = 5.0
"""How long nested workers stay when they are not needed: a task that submits one child after another shall not wait for each start."""


class Family:
    """Which unfinished task was submitted by which."""

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self.children: dict[int, set[int]] = {}
        """Unfinished children by parent; only parents that have some."""
        self._youngest: dict[int, list[int]] = {}
        """The same as heaps of negative ids; those that have ended go when they come to the top."""
        for task in tasks:
            self.add(task)

    def add(self, task: Task) -> None:
        """Take in a task that has not ended; one without a parent is ignored."""
        if task.job.parent:
            self.children.setdefault(task.job.parent, set()).add(task.id)
            heapq.heappush(self._youngest.setdefault(task.job.parent, []), -task.id)

    def ended(self, task: Task) -> None:
        """A task has ended, and what it submitted is nobody's any more."""
        self._forget(task.id)
        mine = self.children.get(task.job.parent)
        if mine is not None:
            mine.discard(task.id)
            if not mine:
                self._forget(task.job.parent)

    def _forget(self, parent: int) -> None:
        self.children.pop(parent, None)
        self._youngest.pop(parent, None)

    def youngest(self, parent: int, ready: Container[int], count: int) -> list[int]:
        """Return up to ``count`` children of this parent that are in ``ready``, the youngest first."""
        mine, heap = self.children.get(parent, set()), self._youngest.get(parent, [])
        looked_at: list[int] = []
        found: list[int] = []
        while heap and len(found) < count:
            entry = heapq.heappop(heap)
            if -entry in mine:
                looked_at.append(entry)
                if -entry in ready:
                    found.append(-entry)
        for entry in looked_at:
            heapq.heappush(heap, entry)
        return found


def parent_of(desk: Desk, task: Task) -> Task | None:
    """Return the task that submitted this one, when it is leased to a worker and may be waiting."""
    parent = desk.ledger.tasks.get(task.job.parent)
    return parent if parent is not None and parent.lease is not None else None


def waits(desk: Desk, life: Life) -> bool:
    """Return whether this worker has a task that may be waiting for tasks that it submitted: nothing may be put behind it."""
    children = desk.ledger.family.children
    return bool(children) and not children.keys().isdisjoint(life.held)


def serve(desk: Desk, lease: Callable[[Task, Life], None]) -> None:
    """Hand children of leased tasks to idle nested workers, and say how many nested workers there should be."""
    roster = desk.roster
    if not desk.ledger.family.children and not roster.nested:
        return  # nearly always
    idle = [life for life in roster.lives.values() if roster.is_nested(life) and life.takes_work and not life.held]
    ready = _ready_children(desk, len(idle) + 1)
    if not desk.held and desk.leaving is None:
        for life in sorted(idle, key=lambda one: one.number)[: len(ready)]:
            task = desk.ledger.tasks[ready.pop()]
            desk.ready.discard(task.id)
            lease(task, life)
    _size(desk, ready=bool(ready))


def _ready_children(desk: Desk, count: int) -> list[int]:
    """Return up to ``count`` children of leased tasks that may be sent, the youngest last."""
    family = desk.ledger.family
    found: list[int] = []
    for life in desk.roster.lives.values():
        for parent in family.children.keys() & life.held.keys():
            found += family.youngest(parent, desk.ready, count)
    return sorted(found)[-count:]


def _size(desk: Desk, *, ready: bool) -> None:
    """Say how many nested workers there should be; they come at once and leave when they have not been needed for LINGER_S."""
    roster = desk.roster
    limit = desk.settings.swarm.nested_workers
    used = max((roster.place_of(life) for life in roster.lives.values() if roster.is_nested(life) and life.held), default=0)
    wanted = used
    if roster.nested_used:
        roster.nested_until = desk.now + LINGER_S
    roster.nested_used = used
    if ready and not desk.held and desk.leaving is None and _nobody_free(desk):
        waiting = [life for life in roster.lives.values() if waits(desk, life)]
        wanted = max(used, min(len(waiting), (limit + 1) // 2))
        if len(waiting) == sum(bool(life.held) for life in roster.lives.values()):
            wanted = max(wanted, used + 1)  # nothing else can go on
    wanted = min(wanted, max(limit, used))
    if wanted >= roster.nested:
        roster.nested = wanted
        roster.nested_until = desk.now + LINGER_S
    elif desk.now >= roster.nested_until:
        roster.nested = wanted


def _nobody_free(desk: Desk) -> bool:
    """Return whether every worker of the number, and every nested one, is there and has a task."""
    slots = desk.roster.slots()
    return all(name in slots and slots[name].held for name in desk.roster.wanted_names())


def wake_at(desk: Desk) -> float | None:
    """Return when nested workers may be let go, or None when there are none."""
    roster = desk.roster
    return (
        max(roster.nested_until, desk.now + 0.001) if roster.nested and not any(map(roster.works_nested, roster.lives.values())) else None
    )


def why(desk: Desk, task: Task) -> str:
    """Return in one line how it stands with a ready task whose submitter has a worker; empty for any other."""
    parent = parent_of(desk, task)
    if parent is None or parent.lease is None:
        return ""
    limit = desk.settings.swarm.nested_workers
    first = (
        f"task {parent.id}, which submitted it, is {'running' if parent.state is TaskState.RUNNING else 'sent'} on {parent.lease.worker}"
    )
    if not limit:
        return f"{first}; that may be waiting for it, and no worker is free (swarm.nested_workers is 0)"
    if _at_limit(desk):
        return f"{first}; that may be waiting for it, and all {limit} nested workers are in use (swarm.nested_workers)"
    if desk.roster.nested and any(desk.roster.is_nested(life) and not life.has_proved for life in desk.roster.lives.values()):
        return f"{first}; a worker is being started for it"
    return f"{first}; it runs on the next worker that is free"


def _at_limit(desk: Desk) -> bool:
    roster = desk.roster
    limit = desk.settings.swarm.nested_workers
    return sum(map(roster.works_nested, roster.lives.values())) >= limit


def stuck(desk: Desk) -> int:
    """Return how many tasks wait for tasks that no worker can take, when every worker has such a task; else 0."""
    if desk.held or not _ready_children(desk, 1) or not _at_limit(desk) or not _nobody_free(desk):
        return 0
    working = [life for life in desk.roster.lives.values() if life.held]
    return len(working) if all(waits(desk, life) and life.state is not WorkerState.STARTING for life in working) else 0
