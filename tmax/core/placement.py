"""Where a ready task goes, how far ahead work is sent, and when it is asked back.

Work is sent ahead only as far as it is short: about WINDOW_S seconds of it, learnt from what the worker did
lately, so that a pipe's round trip is hidden for tiny tasks and a long task never has others stuck behind it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from tmax.core.model import WorkerState
from tmax.core.queue import FRESH
from tmax.core.roster import Life

WINDOW_S = 0.05
"""Work sent ahead to one worker, in seconds of it."""

STUCK_S = 0.02
"""A worker not heard of for so long has a longer task in front than its window assumed."""

MEAN_WEIGHT = 0.2
"""Weight of the newest duration in the moving average: the last dozen tasks decide."""


def learn(life: Life, duration_s: float) -> None:
    """Take the duration of one task into the worker's moving average."""
    life.mean_s = duration_s if life.mean_s is None else life.mean_s + MEAN_WEIGHT * (duration_s - life.mean_s)


def window(life: Life, prefetch: int) -> int:
    """Return how many tasks this worker may hold: 1 until it is known that its tasks are short."""
    if life.mean_s is None:
        return 1
    return max(1, min(prefetch, int(WINDOW_S / max(life.mean_s, 1e-6))))


Seat: TypeAlias = tuple[int, int, int, Life]
"""(tasks held, number of its slot, id, the worker): the least loaded is first."""


class FreeSlots:
    """The free places of this turn, by the context of their workers, least loaded worker first."""

    def __init__(self, lives: Iterable[Life], prefetch: int, solo: frozenset[int], now: float) -> None:
        """``solo``: lives that run a task alone and take nothing beside it."""
        self._heaps: dict[str, list[Seat]] = {}
        self._prefetch = prefetch
        for life in lives:
            # What was asked back from behind a long task must not be sent there again: it waits, so that a worker is made for it.
            is_stuck = life.held and now - life.progress_at >= STUCK_S
            if life.takes_work and life.id not in solo and not life.kept_for and not is_stuck and len(life.held) < window(life, prefetch):
                self._heaps.setdefault(life.context, []).append((len(life.held), life.number, life.id, life))
        for heap in self._heaps.values():
            heapq.heapify(heap)

    def take(self, part: str, *, alone: bool) -> Life | None:
        """Return the worker for one task of this part and count it there; None when no place is left for it.

        ``alone``: only an empty worker will do.
        """
        if part.startswith(FRESH):
            return self._take_unused(part)
        heap = self._heap_for(part)
        if heap is None or (alone and heap[0][0] > 0):
            return None
        load, number, life_id, life = heapq.heappop(heap)
        if not alone and load + 1 < window(life, self._prefetch):
            # Its context may just have been given to it.
            own = part or life.context
            heapq.heappush(self._heaps.setdefault(own, []), (load + 1, number, life_id, life))
        return life

    def _heap_for(self, part: str) -> list[Seat] | None:
        """Return the heap whose first place suits best: any for a part that any worker runs, else its own or one without a context."""
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
        """Return a worker that has run nothing, and let nothing else go to it."""
        for heap in (self._heaps.get(part), self._heaps.get("")):
            seat = min((seat for seat in heap or () if not seat[3].record.used), default=None, key=lambda seat: seat[:3])
            if heap is not None and seat is not None:
                heap.remove(seat)
                heapq.heapify(heap)
                return seat[3]
        return None


def to_recall(lives: Iterable[Life], now: float) -> Iterator[tuple[Life, list[int]]]:
    """Yield workers that hold tasks behind one that takes long, with those to ask back, while others have nothing to do.

    Half of what is behind is asked back, the last sent first: it would have run last.
    """
    everyone = list(lives)
    if not any(life.takes_work and not life.held for life in everyone):
        return
    for life in everyone:
        behind = [task for task in life.held if task != life.running and task not in life.recalled]
        if not life.running and behind:
            behind = behind[1:]  # the first one has probably begun
        if behind and life.state is WorkerState.BUSY and now - life.last_message_at >= STUCK_S:
            yield life, behind[len(behind) // 2 :]


def recall_wake(lives: Iterable[Life]) -> float | None:
    """Return when ``to_recall`` may have something to say that it has not now, or None."""
    everyone = list(lives)
    if not any(life.takes_work and not life.held for life in everyone):
        return None
    return min(
        (life.last_message_at + STUCK_S for life in everyone if len(life.held) > 1 and len(life.recalled) < len(life.held) - 1),
        default=None,
    )
