"""Figures for snapshots: ended tasks by second, latencies, commit times.  Memory is bounded."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from tmax.core.snapshot import Latency

WINDOW_S = 60
SAMPLES = 1000


def quantile(values: Iterable[float], share: float) -> float | None:
    """Return the value below which ``share`` of the values lie (nearest rank); None when there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


class Stats:
    """Throughput, latency and commit times of the last tasks."""

    def __init__(self) -> None:
        self._ended: Counter[int] = Counter()
        self._latency_s: deque[float] = deque(maxlen=SAMPLES)
        self._commit_s: deque[float] = deque(maxlen=SAMPLES)

    def ended(self, now: float, latency_s: float) -> None:
        """Count a task that ended at ``now``, ``latency_s`` after it was submitted."""
        self._ended[int(now)] += 1
        self._latency_s.append(latency_s)
        if len(self._ended) > 2 * WINDOW_S:
            for second in [second for second in self._ended if second < now - WINDOW_S]:
                del self._ended[second]

    def committed(self, seconds: float) -> None:
        """Record how long a commit took."""
        self._commit_s.append(seconds)

    def per_second(self, now: float) -> tuple[int, ...]:
        """Return how many tasks ended in each of the last 60 whole seconds, oldest first, without the current second."""
        last = int(now)
        return tuple(self._ended[second] for second in range(last - WINDOW_S, last))

    def latency(self) -> Latency:
        """Return submit-to-result quantiles of the last tasks."""
        return Latency(p50_s=quantile(self._latency_s, 0.5), p99_s=quantile(self._latency_s, 0.99), count=len(self._latency_s))

    def commit_p50_s(self) -> float | None:
        """Return the median seconds of the last commits."""
        return quantile(self._commit_s, 0.5)
