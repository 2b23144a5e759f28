"""Which unfinished task was submitted by which: a task with unfinished children may be waiting for them."""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tmax.core.model import Task


class TaskTree:
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

    def waits(self, held: Iterable[int]) -> bool:
        """Return whether one of these tasks may be waiting for tasks that it submitted."""
        return bool(self.children) and not self.children.keys().isdisjoint(held)

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
