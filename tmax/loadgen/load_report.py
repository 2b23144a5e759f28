"""What a load did: counts, latencies, failures and use of resources, as plain data and as text.  Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

MIB = 1024 * 1024


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` of the sorted values lie (nearest rank); there must be at least one."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class TaskCounts:
    """Counts ends of tasks.  Not locked: the caller serialises."""

    def __init__(self) -> None:
        self.submitted = 0
        self.cancelled = 0
        """Withdrawn by the load generator itself at its end."""
        self.latencies_s: dict[str, list[float]] = defaultdict(list)
        self.failures: dict[str, Counter[str]] = defaultdict(Counter)

    def add_done(self, kind: str, latency_s: float) -> None:
        """Count a task that succeeded."""
        self.latencies_s[kind].append(latency_s)

    def add_failure(self, kind: str, reason: str) -> None:
        """Count a task that did not succeed; ``reason``: the code of its error."""
        self.failures[kind][reason] += 1

    @property
    def done(self) -> int:
        """Tasks that succeeded."""
        return sum(map(len, self.latencies_s.values()))

    @property
    def failed(self) -> int:
        """Tasks that did not succeed."""
        return sum(counts.total() for counts in self.failures.values())


class UsageSamples:
    """Samples of what the controller and the workers use.  CPU in seconds or percent of one core, memory in bytes."""

    def __init__(self) -> None:
        self.controller_cpu_s: list[tuple[float, float]] = []
        """Pairs of a time and the controller's CPU seconds so far."""
        self.controller_rss_bytes: list[int] = []
        self.workers_cpu_percent: list[float] = []
        self.workers_rss_bytes: list[int] = []
        self.workers = 0

    def described(self) -> dict[str, Any]:
        """Return means and peaks as plain data; None where nothing was sampled."""
        return {
            "controller": {"cpu_percent": self._controller_percent(), "peak_rss_bytes": max(self.controller_rss_bytes, default=None)},
            "workers": {
                "count": self.workers,
                "cpu_percent": _mean(self.workers_cpu_percent),
                "peak_rss_bytes": max(self.workers_rss_bytes, default=None),
            },
        }

    def _controller_percent(self) -> float | None:
        if len(self.controller_cpu_s) < 2:
            return None
        (first_s, first_cpu_s), *_, (last_s, last_cpu_s) = self.controller_cpu_s
        # A controller that was replaced meanwhile has used fewer seconds than its predecessor.
        return max(0.0, 100 * (last_cpu_s - first_cpu_s) / (last_s - first_s)) if last_s > first_s else None


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def load_report(plan: dict[str, Any], swarm: str, seconds: float, counts: TaskCounts, usage: UsageSamples) -> dict[str, Any]:
    """Return the summary as plain data."""
    kinds = [kind for kind in plan["weights"] if kind in counts.latencies_s or kind in counts.failures]
    return {
        "swarm": swarm,
        "plan": plan,
        "seconds": seconds,
        "tasks": {"submitted": counts.submitted, "done": counts.done, "failed": counts.failed, "cancelled": counts.cancelled},
        "tasks_per_s": counts.done / seconds if seconds > 0 else 0.0,
        "latency_s": {kind: _quantiles(sorted(counts.latencies_s.get(kind, []))) for kind in kinds},
        "failures": {kind: dict(counts.failures.get(kind, {})) for kind in kinds},
        "usage": usage.described(),
    }


def _quantiles(ordered: Sequence[float]) -> dict[str, float | None]:
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    values: dict[str, float | None] = {name: quantile(ordered, share) if ordered else None for name, share in shares.items()}
    return {"count": len(ordered), **values, "max": ordered[-1] if ordered else None}


def report_text(report: dict[str, Any]) -> str:
    """Return the summary for a terminal."""
    tasks, usage = report["tasks"], report["usage"]
    lines = [
        f"swarm {report['swarm']}, profile {report['plan']['profile']}, {report['plan']['submitters']} submitters, {report['seconds']:.1f} s",
        f"tasks     {tasks['done']} done, {tasks['failed']} failed, {tasks['cancelled']} cancelled at the end",
        f"rate      {report['tasks_per_s']:,.1f} tasks/s",
        *_latency_lines(report["latency_s"]),
        *(f"failed    {kind}: {reason} {count}x" for kind, reasons in report["failures"].items() for reason, count in reasons.items()),
        f"use       controller {_use(usage['controller'])}; {usage['workers']['count']} workers {_use(usage['workers'])}",
    ]
    return "\n".join(lines) + "\n"


def _latency_lines(latencies: dict[str, dict[str, float | None]]) -> Iterator[str]:
    for kind, values in latencies.items():
        if values["p50"] is not None:
            shown = "  ".join(f"{name} {1000 * (value or 0):.1f} ms" for name, value in values.items() if name != "count")
            yield f"latency   {kind:<8} {shown}  ({values['count']})"


def _use(figures: dict[str, float | None]) -> str:
    cpu, memory = figures["cpu_percent"], figures["peak_rss_bytes"]
    shown_cpu = "CPU unknown" if cpu is None else f"{cpu:.0f} % of a core"
    return f"{shown_cpu}, {'memory unknown' if memory is None else f'{memory / MIB:.0f} MiB'}"
