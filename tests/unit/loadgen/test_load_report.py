"""The report of a load: rates, quantiles, failures by kind, use of resources."""

from __future__ import annotations

from typing import Any

from tmax.loadgen.load_plan import load_plan
from tmax.loadgen.load_report import MIB, TaskCounts, UsageSamples, load_report, quantile, report_text


def report() -> dict[str, Any]:
    counts = TaskCounts()
    counts.submitted, counts.cancelled = 104, 2
    for milliseconds in range(100, 0, -1):
        counts.add_done("python", milliseconds / 1000)
    counts.add_failure("command", "exit 3")
    counts.add_failure("command", "exit 3")
    usage = UsageSamples()
    usage.controller_cpu_s = [(10.0, 1.0), (11.0, 1.2), (14.0, 2.0)]
    usage.controller_rss_bytes = [20 * MIB, 30 * MIB]
    usage.workers, usage.workers_cpu_percent, usage.workers_rss_bytes = 2, [100.0, 200.0], [80 * MIB]
    return load_report(load_plan("light").described(), "default", 20.0, counts, usage)


def test_quantiles_by_nearest_rank() -> None:
    assert quantile([1.0], 0.99) == 1.0
    assert [quantile([1.0, 2.0, 3.0, 4.0], share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 3.0, 4.0, 4.0]


def test_the_report_as_data() -> None:
    made = report()
    assert made["tasks"] == {"submitted": 104, "done": 100, "failed": 2, "cancelled": 2}
    assert made["tasks_per_s"] == 5.0
    assert made["latency_s"]["python"] == {"count": 100, "p50": 0.051, "p90": 0.091, "p99": 0.1, "max": 0.1}
    assert made["latency_s"]["command"]["p50"] is None
    assert made["failures"] == {"python": {}, "command": {"exit 3": 2}}
    assert made["usage"]["controller"] == {"cpu_percent": 25.0, "peak_rss_bytes": 30 * MIB}
    assert made["usage"]["workers"] == {"count": 2, "cpu_percent": 150.0, "peak_rss_bytes": 80 * MIB}


def test_the_report_as_text() -> None:
    text = report_text(report())
    assert "100 done, 2 failed, 2 cancelled at the end" in text
    assert "5.0 tasks/s" in text
    assert "latency   python   p50 51.0 ms  p90 91.0 ms  p99 100.0 ms  max 100.0 ms  (100)" in text
    assert "failed    command: exit 3 2x" in text
    assert "controller 25 % of a core, 30 MiB; 2 workers 150 % of a core, 80 MiB" in text


def test_a_controller_that_was_replaced_has_no_negative_use() -> None:
    usage = UsageSamples()
    usage.controller_cpu_s = [(1.0, 9.0), (2.0, 0.1)]
    assert usage.described()["controller"]["cpu_percent"] == 0.0
    assert UsageSamples().described()["controller"] == {"cpu_percent": None, "peak_rss_bytes": None}
