"""The tree of unfinished tasks: which task submitted which.  A task with unfinished children may be waiting for them."""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tmax.core.model import Task


class TaskTree:
    """Unfinished tasks by the task that submitted them."""

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self.children: dict[int, set[int]] = {}
        """Unfinished children by parent; only parents that have some."""
        self._youngest: dict[int, list[int]] = {}
        """The same as heaps of negative ids; an ended child is dropped when it comes to the top."""
        for task in tasks:
            self.add(task)

    def add(self, task: Task) -> None:
        """Add a task that has not ended; one without a parent is ignored."""
        if task.job.parent:
            self.children.setdefault(task.job.parent, set()).add(task.id)
            heapq.heappush(self._youngest.setdefault(task.job.parent, []), -task.id)

    def ended(self, task: Task) -> None:
        """Remove a task that has ended; its children no longer have a parent."""
        self._forget(task.id)
        siblings = self.children.get(task.job.parent)
        if siblings is not None:
            siblings.discard(task.id)
            if not siblings:
                self._forget(task.job.parent)

    def _forget(self, parent: int) -> None:
        self.children.pop(parent, None)
        self._youngest.pop(parent, None)

    def waits(self, held: Iterable[int]) -> bool:
        """Return whether one of these tasks may be waiting for its children."""
        return bool(self.children) and not self.children.keys().isdisjoint(held)

    def youngest(self, parent: int, ready: Container[int], count: int) -> list[int]:
        """Return up to ``count`` children of this parent that are in ``ready``, the youngest first."""
        children, heap = self.children.get(parent, set()), self._youngest.get(parent, [])
        unfinished: list[int] = []
        found: list[int] = []
        while heap and len(found) < count:
            entry = heapq.heappop(heap)
            if -entry in children:
                unfinished.append(entry)
                if -entry in ready:
                    found.append(-entry)
        for entry in unfinished:
            heapq.heappush(heap, entry)
        return found
