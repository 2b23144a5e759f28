"""The read model: a frozen snapshot of the swarm for the dashboard, ``status``, ``workers`` and ``ps``.

Sizes are bytes, durations seconds, times UTC epoch seconds; only the command line turns times into ISO text, in its JSON output.
"""

from __future__ import annotations

import msgspec

from tmax.task_end import ENDS
from tmax_pipes.options_struct import DEFAULT_OPTIONS, TaskOptions

SCHEMA_VERSION = 1


class TaskView(msgspec.Struct, frozen=True, kw_only=True):
    """One task, as in a row of ``ps``."""

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
    """Exit status of its program; None where there is none."""
    signal: int | None = None
    """The signal that ended its program."""
    why: str = ""
    """Why it has not started, or how it failed; one line."""

    @property
    def ended(self) -> bool:
        """Whether its state is an end."""
        return self.state in ENDS


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """One worker, as in a row of ``workers``."""

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
    """Percent of one core since the previous snapshot; None until two samples exist."""
    rss_bytes: int | None = None
    tasks_done: int = 0
    tasks_failed: int = 0
    started_at: float = 0.0
    pooled: bool = False
    nested: bool = False
    """Whether it is a nested worker, for tasks that running tasks have submitted."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Submit-to-result seconds of the last tasks (at most 1,000)."""

    p50_s: float | None = None
    p99_s: float | None = None
    count: int = 0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the swarm at one moment."""

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
    """Sorted by number, pooled ones last."""
    tasks: dict[str, int]
    """Count by state; ended states count since the store was made."""
    tasks_per_min: float
    """Tasks that ended in the last 60 s."""
    ended_per_second: tuple[int, ...] = ()
    """Tasks that ended in each of the last 60 seconds, oldest first."""
    latency: Latency
    recent: tuple[TaskView, ...] = ()
    """Running tasks, waiting tasks (the next one first), then the tasks that ended last; at most 50."""
    deaths: int = 0
    """Workers that died unexpectedly since this controller started."""
    store_bytes: int = 0
    commit_p50_s: float | None = None
    durability: str = "full"
    notice: str = ""
    """One line about a problem: held queue, full disk, workers that keep dying.  Empty: none."""
