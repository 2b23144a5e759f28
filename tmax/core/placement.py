"""Where a ready task goes, how far ahead work is sent, and when it is asked back.

Work is sent ahead only as far as it is short: about WINDOW_S seconds of it, learnt from what the worker did
lately, so that a pipe's round trip is hidden for tiny tasks and a long task never has others stuck behind it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from tmax.core.model import WorkerState
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


class Seats:
    """The free places of this turn, least loaded worker first."""

    def __init__(self, lives: Iterable[Life], prefetch: int, solo: frozenset[int]) -> None:
        """``solo``: lives that run a task alone and take nothing beside it."""
        self._heap = [
            (len(life.held), life.number, life.id, life)
            for life in lives
            if life.takes_work and life.id not in solo and len(life.held) < window(life, prefetch)
        ]
        self._prefetch = prefetch
        heapq.heapify(self._heap)

    def take(self, *, alone: bool) -> Life | None:
        """Return the worker for one task and count it there; None when no place is left.  ``alone``: only an empty worker will do."""
        if not self._heap or (alone and self._heap[0][0] > 0):
            return None
        load, number, life_id, life = heapq.heappop(self._heap)
        if not alone and load + 1 < window(life, self._prefetch):
            heapq.heappush(self._heap, (load + 1, number, life_id, life))
        return life


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
        if behind and life.state is WorkerState.BUSY and now - life.heard_at >= STUCK_S:
            yield life, behind[len(behind) // 2 :]


def recall_wake(lives: Iterable[Life]) -> float | None:
    """Return when ``to_recall`` may have something to say that it has not now, or None."""
    everyone = list(lives)
    if not any(life.takes_work and not life.held for life in everyone):
        return None
    return min(
        (life.heard_at + STUCK_S for life in everyone if len(life.held) > 1 and len(life.recalled) < len(life.held) - 1), default=None
    )
