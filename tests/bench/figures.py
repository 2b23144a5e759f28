"""Figures beside what they are compared with: rows, medians, and the table they are printed in."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of a table: ours beside the peer, and what must hold."""

    what: str
    ours: str
    peer: str = ""
    ratio: float | None = None
    must: str = ""
    holds: bool | None = None
    """None: nothing was demanded."""


def seconds_of(call: Callable[[], object]) -> float:
    """Return how long a call took."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def median_of(call: Callable[[], float], runs: int = 5) -> float:
    """Return the median of several measurements."""
    return statistics.median(call() for _ in range(runs))


def in_turn(calls: Sequence[Callable[[], float]], runs: int = 5) -> list[float]:
    """Return the medians of several measurements taken A B A B ..., so that a machine that drifts drifts for all of them."""
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(runs):
        for place, call in enumerate(calls):
            taken[place].append(call())
    return [statistics.median(values) for values in taken]


def pss_bytes(pid: int) -> int:
    """Return the proportional set size of a process (memory shared with others counted by its share); 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


def cpu_s(pid: int) -> float:
    """Return user and system seconds a process has used (``/proc/PID/stat`` fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine() -> str:
    """Return the machine in one line: processor, cores, memory, kernel, Python, tmux."""
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    memory = int(next(line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))) / 1024**2
    tmux = subprocess.run(["tmux", "-V"], capture_output=True, text=True, check=False).stdout.strip()
    cores = len(os.sched_getaffinity(0))
    return f"{model}, {cores} cores, {memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}, {tmux}"


def table(title: str, figures: Sequence[Figure]) -> str:
    """Return the figures as a Markdown table."""
    lines = [f"### {title}", "", "| what | tmax | beside | ratio | must | holds |", "|---|---|---|---|---|---|"]
    for figure in figures:
        ratio = f"{figure.ratio:.2f}x" if figure.ratio is not None else ""
        holds = {None: "", True: "yes", False: "**no**"}[figure.holds]
        lines.append(f"| {figure.what} | {figure.ours} | {figure.peer} | {ratio} | {figure.must} | {holds} |")
    return "\n".join(lines)
