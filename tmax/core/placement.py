"""Chooses the worker for a ready task, how many tasks are sent ahead, and when they are recalled.

About WINDOW_S seconds of work are sent ahead to a worker, measured by its last tasks: this hides a pipe's round trip for tiny tasks,
and no task is queued behind a long one.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from tmax.core.model import WorkerState
from tmax.core.queue import FRESH
from tmax.core.roster import Life

WINDOW_S = 0.05
"""Work sent ahead to one worker, in seconds."""

STUCK_S = 0.02
"""A worker that has sent nothing for so long runs a longer task than its window assumed."""

MEAN_WEIGHT = 0.2
"""Weight of the newest duration in the moving average: about the last twelve tasks count."""


def record_duration(life: Life, duration_s: float) -> None:
    """Add the duration of one task to the worker's moving average."""
    life.mean_s = duration_s if life.mean_s is None else life.mean_s + MEAN_WEIGHT * (duration_s - life.mean_s)


def window(life: Life, prefetch: int) -> int:
    """Return how many tasks this worker may hold: 1 until the first duration is known."""
    if life.mean_s is None:
        return 1
    return max(1, min(prefetch, int(WINDOW_S / max(life.mean_s, 1e-6))))


SlotEntry: TypeAlias = tuple[int, int, int, Life]
"""(tasks held, number of its slot, life, the worker): the least loaded is first."""


class FreeSlots:
    """The tasks that workers can still take in this turn, by the context of the workers, least loaded worker first."""

    def __init__(self, lives: Iterable[Life], prefetch: int, solo: frozenset[int], now: float) -> None:
        """``solo``: lives that run a task alone and take no other one."""
        self._heaps: dict[str, list[SlotEntry]] = {}
        self._prefetch = prefetch
        for life in lives:
            # A task recalled from behind a long one must not be sent there again; it waits, so that a worker is replaced for it.
            is_stuck = life.held and now - life.progress_at >= STUCK_S
            if life.takes_work and life.id not in solo and not life.kept_for and not is_stuck and len(life.held) < window(life, prefetch):
                self._heaps.setdefault(life.context, []).append((len(life.held), life.number, life.id, life))
        for heap in self._heaps.values():
            heapq.heapify(heap)

    def take(self, part: str, *, alone: bool) -> Life | None:
        """Return the worker for one task of this part and count the task there; None when no worker can take it.

        ``alone``: only a worker without tasks.
        """
        if part.startswith(FRESH):
            return self._take_unused(part)
        heap = self._heap_for(part)
        if heap is None or (alone and heap[0][0] > 0):
            return None
        load, number, life_id, life = heapq.heappop(heap)
        if not alone and load + 1 < window(life, self._prefetch):
            # A worker without a context takes the context of this part.
            own = part or life.context
            heapq.heappush(self._heaps.setdefault(own, []), (load + 1, number, life_id, life))
        return life

    def _heap_for(self, part: str) -> list[SlotEntry] | None:
        """Return the heap with the least loaded worker: any heap for a part that any worker runs, else this part's or that without context."""
        for kept in self._heaps.values():
            while kept and kept[0][3].kept_for:
                heapq.heappop(kept)
        if not part:
            heaps = [heap for heap in self._heaps.values() if heap]
            return min(heaps, key=lambda heap: heap[0][:3], default=None)
        own, blank = self._heaps.get(part), self._heaps.get("")
        if own and blank:
            return own if own[0][0] <= blank[0][0] else blank
        return own or blank or None

    def _take_unused(self, part: str) -> Life | None:
        """Return a worker that has run no task, and offer it for no other task."""
        for heap in (self._heaps.get(part), self._heaps.get("")):
            entry = min((entry for entry in heap or () if not entry[3].record.used), default=None, key=lambda entry: entry[:3])
            if heap is not None and entry is not None:
                heap.remove(entry)
                heapq.heapify(heap)
                return entry[3]
        return None


def to_recall(lives: Iterable[Life], now: float) -> Iterator[tuple[Life, list[int]]]:
    """Yield workers that hold tasks behind a long one, each with the tasks to recall, while another worker is idle.

    The second half of the waiting tasks is recalled: they would have run last.
    """
    workers = list(lives)
    if not any(life.takes_work and not life.held for life in workers):
        return
    for life in workers:
        behind = [task for task in life.held if task != life.running and task not in life.recalled]
        if not life.running and behind:
            behind = behind[1:]  # the first one has probably started
        if behind and life.state is WorkerState.BUSY and now - life.last_message_at >= STUCK_S:
            yield life, behind[len(behind) // 2 :]


def recall_wake(lives: Iterable[Life]) -> float | None:
    """Return the next time at which ``to_recall`` may yield a worker that it does not yield now, or None."""
    workers = list(lives)
    if not any(life.takes_work and not life.held for life in workers):
        return None
    return min(
        (life.last_message_at + STUCK_S for life in workers if len(life.held) > 1 and len(life.recalled) < len(life.held) - 1),
        default=None,
    )
