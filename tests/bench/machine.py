"""The machine a run is measured on, how busy it is, and what single processes use."""

from __future__ import annotations

import os
import platform
import subprocess
import threading
from pathlib import Path
from typing import Any

from tests.box import REPOSITORY

LOAD_LIMIT = 0.5
"""Load of the last minute for each core above which a machine is busy before the start."""
BUSY_LIMIT = 0.2
"""Share of all cores that others may use while nothing of a bench runs."""
_LOOK_S = 0.5


def output_of(*command: str) -> str:
    """Return the first line that a command prints; empty when it fails or is missing."""
    try:
        done = subprocess.run(command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=30)
    except OSError:
        return ""
    return (done.stdout or done.stderr).partition("\n")[0].strip()


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory, kernel, Python and tmux."""
    cpu = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    memory_kib = int(next(line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")))
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_kib / 1024**2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "tmux": output_of("tmux", "-V"),
    }


def machine_line(machine: dict[str, Any]) -> str:
    """Return the machine in one line."""
    names = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}"
    return f"{names}, Python {machine['python']}, {machine['tmux']}"


def busy_share() -> float:
    """Return the share of all cores in use for half a second, time stolen by other virtual machines included."""
    before = _cpu_ticks()
    threading.Event().wait(_LOOK_S)
    after = _cpu_ticks()
    total, idle = (after[place] - before[place] for place in (0, 1))
    return 1 - idle / total if total else 0.0


def _cpu_ticks() -> tuple[int, int]:
    """Return all and idle ticks since boot."""
    ticks = list(map(int, Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]))
    return sum(ticks), ticks[3] + ticks[4]


def reasons_against_quiet(load_1min: float, cores: int, busy: dict[str, float]) -> list[str]:
    """Return why a run is not quiet: nothing when it is.  ``busy``: by moment, the share of all cores that others used."""
    reasons = []
    if load_1min > LOAD_LIMIT * cores:
        reasons.append(f"load {load_1min:.2f} on {cores} cores before the start")
    return [*reasons, *(f"{100 * share:.0f} % of the cores busy {moment}" for moment, share in busy.items() if share > BUSY_LIMIT)]


# -- processes -------------------------------------------------------------------------------------


def _rollup(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def pss_bytes(pid: int) -> int:
    """Return the proportional set size of a process (memory shared with others counted by its share); 0 when it is gone."""
    return _rollup(pid).get("Pss", 0)


def uss_bytes(pid: int) -> int:
    """Return the private memory of a process; 0 when it is gone."""
    found = _rollup(pid)
    return found.get("Private_Clean", 0) + found.get("Private_Dirty", 0)


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process; 0 when it is gone."""
    return _rollup(pid).get("Rss", 0)


def descriptors(pid: int) -> int:
    """Return how many files a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_s(pid: int) -> float:
    """Return user and system seconds a process has used (``/proc/PID/stat`` fields 14 and 15); 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
