"""The one read model: a frozen picture of the swarm for the dashboard, ``status``, ``workers`` and ``ps``.

Sizes are bytes, durations seconds, times UTC epoch seconds; JSON output turns times into ISO text at the CLI's edge only.
"""

from __future__ import annotations

import msgspec

from tmax.task_end import ENDS
from tmax_pipes.options_struct import DEFAULT_OPTIONS, TaskOptions

SCHEMA_VERSION = 1


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """A task in one line."""

    id: int
    name: str = ""
    kind: str
    label: str
    state: str
    priority: str = "normal"
    options: TaskOptions = DEFAULT_OPTIONS
    """As JSON: those that differ from their defaults (``tmax_pipes.task_options``)."""
    attempt: int = 0
    worker: str = ""
    submitted_at: float = 0.0
    started_at: float = 0.0
    ended_at: float = 0.0
    duration_s: float = 0.0
    exit_code: int | None = None
    """The status its program left with; None where it left with none."""
    signal: int | None = None
    """The signal that ended its program."""
    why: str = ""
    """Why it waits, or how it ended without success; one line."""

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.state in ENDS


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """A worker in one line."""

    name: str
    life: int
    pid: int
    session: str
    pane: str
    state: str
    task: int | None = None
    task_label: str = ""
    task_since: float | None = None
    cpu_percent: float | None = None
    """Of one core, since the previous picture; None until two samples exist."""
    rss_bytes: int | None = None
    tasks_done: int = 0
    tasks_failed: int = 0
    started_at: float = 0.0
    pooled: bool = False
    nested: bool = False
    """Above the number, for tasks that tasks have submitted."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Submit-to-result seconds of the last tasks (at most 1,000)."""

    p50_s: float | None = None
    p99_s: float | None = None
    count: int = 0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a viewer may want, taken at one moment."""

    schema_version: int = SCHEMA_VERSION
    swarm: str
    controller_pid: int
    epoch: int
    version: str
    at: float
    uptime_s: float
    ready: bool
    held: bool
    draining: bool = False
    workers_wanted: int
    workers: tuple[WorkerView, ...]
    """Workers first by number, pooled ones after them."""
    tasks: dict[str, int]
    """Count by state; ended states count since the store began."""
    tasks_per_min: float
    """Ended in the last 60 s."""
    ended_per_second: tuple[int, ...] = ()
    """The last 60 seconds, oldest first."""
    latency: Latency
    recent: tuple[TaskView, ...] = ()
    """What runs, what waits (first in line first), then what ended last; at most 50."""
    deaths: int = 0
    """Workers that died unasked since this controller started."""
    store_bytes: int = 0
    commit_p50_s: float | None = None
    durability: str = "full"
    notice: str = ""
    """One line a person should know: held queue, full disk, workers that keep dying."""
