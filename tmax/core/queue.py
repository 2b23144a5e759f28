"""Who is next: a heap that ages without a clock.

With linear ageing, who is ahead of whom never changes: a task's score is its level plus waiting time / step,
so between two tasks the comparison of ``submitted_at - level * step`` is the same at every moment.
A plain heap does; nothing is ever re-sorted.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator

from tmax.core.model import PRIORITIES, Task

_STALE_AT_LEAST = 1000
"""Entries of tasks that have left are not worth sweeping below this number."""


class ReadyQueue:
    """Ids of tasks that may be sent, best first."""

    def __init__(self, age_step_s: float) -> None:
        """``age_step_s``: waiting time that weighs as much as one point of priority."""
        self._age_step_s = age_step_s
        self._heap: list[tuple[float, int]] = []
        self._keys: dict[int, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._keys

    def key(self, task: Task) -> tuple[float, int]:
        """Return the place of a task: smaller is earlier; equal scores go by id."""
        return task.submitted_at - PRIORITIES[task.priority] * self._age_step_s, task.id

    def add(self, task: Task) -> None:
        """Put a task in; one that is already in stays where it is."""
        if task.id not in self._keys:
            key = self.key(task)
            self._keys[task.id] = key
            heapq.heappush(self._heap, key)

    def discard(self, task_id: int) -> None:
        """Take a task out; unknown ids are ignored.  Its heap entry goes when it comes to the top, or when most entries are such."""
        self._keys.pop(task_id, None)
        if len(self._heap) > 2 * len(self._keys) + _STALE_AT_LEAST:
            self._heap = list(self._keys.values())
            heapq.heapify(self._heap)

    def peek(self) -> int | None:
        """Return the best id without taking it, or None when nothing is ready."""
        heap = self._heap
        while heap and self._keys.get(heap[0][1]) != heap[0]:
            heapq.heappop(heap)
        return heap[0][1] if heap else None

    def pop(self) -> int | None:
        """Take the best id out, or return None when nothing is ready."""
        task_id = self.peek()
        if task_id is not None:
            heapq.heappop(self._heap)
            del self._keys[task_id]
        return task_id

    def ahead_of(self, task_id: int) -> int:
        """Return how many tasks stand before this one (0 for one that is not in)."""
        key = self._keys.get(task_id)
        return 0 if key is None else sum(map(key.__gt__, self._keys.values()))

    def in_order(self) -> Iterator[int]:
        """Yield the ids, best first, as they stand now; those that leave the queue before their turn are left out.

        Costs one copy of the heap, and then the logarithm of its length for each id that is taken.
        """
        heap, last = self._heap.copy(), None
        while heap:
            key = heapq.heappop(heap)
            if key != last and self._keys.get(key[1]) == key:  # a task that left and came back may have two entries
                last = key
                yield key[1]

    def first(self, count: int) -> list[int]:
        """Return the first ``count`` ids, best first."""
        return list(itertools.islice(self.in_order(), count))
