"""The priority queue of ready tasks, with ageing: one heap for each part, which is the set of tasks that the same workers may run.

With linear ageing the order of two tasks never changes: a task's score is its level plus waiting time / step,
so the comparison of ``submitted_at - level * step`` is the same at every moment.
A plain heap is enough, and nothing is re-sorted as time passes.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import TypeAlias

from tmax.core.model import PRIORITIES, Task
from tmax_pipes.jobs import context_key

FRESH = "fresh "
"""Prefix of the part of a task that needs a worker process of its own."""

Key: TypeAlias = tuple[float, int, str]
"""(score, task id, part): smaller is earlier; the part never decides, as ids differ."""


def part_of(task: Task) -> str:
    """Return the part of a task: the context of the workers that may run it; empty: any worker."""
    key = context_key(task.job)
    return FRESH + key if task.job.fresh else key


_STALE_AT_LEAST = 1000
"""A heap is rebuilt only when more entries than this belong to tasks that have left it."""


class ReadyQueue:
    """Ids of tasks that may be sent, best first."""

    def __init__(self, age_step_s: float) -> None:
        """``age_step_s``: waiting time that weighs as much as one point of priority."""
        self._age_step_s = age_step_s
        self._heaps: dict[str, list[Key]] = {}
        self._keys: dict[int, Key] = {}
        self._counts: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._keys

    def key(self, task: Task) -> Key:
        """Return the sort key of a task: smaller is earlier; equal scores go by id."""
        return task.submitted_at - PRIORITIES[task.options.priority] * self._age_step_s, task.id, part_of(task)

    def add(self, task: Task) -> None:
        """Add a task; one that is already in the queue keeps its position."""
        if task.id not in self._keys:
            key = self.key(task)
            self._keys[task.id] = key
            self._counts[key[2]] += 1
            heapq.heappush(self._heaps.setdefault(key[2], []), key)

    def discard(self, task_id: int) -> None:
        """Remove a task; unknown ids are ignored.  Its heap entry is dropped later: at the top, or when most entries are stale."""
        key = self._keys.pop(task_id, None)
        if key is None:
            return
        part = key[2]
        self._counts[part] -= 1
        if len(self._heaps[part]) > 2 * self._counts[part] + _STALE_AT_LEAST:
            self._heaps[part] = [one for one in self._heaps[part] if self._keys.get(one[1]) == one]
            heapq.heapify(self._heaps[part])

    def head(self, part: str) -> Key | None:
        """Return the first task of a part without removing it, or None when no task of the part is ready."""
        heap = self._heaps.get(part)
        while heap and self._keys.get(heap[0][1]) != heap[0]:
            heapq.heappop(heap)
        if heap:
            return heap[0]
        if heap is not None:
            del self._heaps[part], self._counts[part]
        return None

    def heads(self) -> list[Key]:
        """Return the first task of each part that has one, best first."""
        return sorted(head for part in list(self._heaps) if (head := self.head(part)) is not None)

    def count(self, part: str) -> int:
        """Return how many tasks of a part are ready."""
        return self._counts[part]

    def take(self, part: str) -> int | None:
        """Remove and return the first id of a part, or None when no task of the part is ready."""
        key = self.head(part)
        if key is None:
            return None
        heapq.heappop(self._heaps[part])
        self.discard(key[1])
        return key[1]

    def ahead_of(self, task_id: int) -> int:
        """Return how many tasks are ahead of this one (0 for one that is not in the queue)."""
        key = self._keys.get(task_id)
        return 0 if key is None else sum(map(key.__gt__, self._keys.values()))

    def in_order(self) -> Iterator[int]:
        """Yield the ids that are in the queue now, best first; those that leave it before they are reached are left out.

        Costs one heap of all ids, then O(log n) for each id that is yielded.
        """
        heap, last = list(self._keys.values()), None
        heapq.heapify(heap)
        while heap:
            key = heapq.heappop(heap)
            if key != last and self._keys.get(key[1]) == key:  # a task that left and came back may have two entries
                last = key
                yield key[1]

    def first(self, count: int) -> list[int]:
        """Return the first ``count`` ids, best first."""
        return list(itertools.islice(self.in_order(), count))
