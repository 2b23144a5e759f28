"""Every setting, its default and its unit: one definition for the file, the environment, the flags and the controller.

``tmax.config`` validates the user's input into these classes with pydantic; a running controller reads
the validated settings back from a machine-written file with msgspec, as importing pydantic takes too long.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec

from tmax_pipes.task_options import MAX_COUNT, MAX_SECONDS

Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[int, msgspec.Meta(ge=0)]
MAX_WORKERS = 4096
Workers = Annotated[int, msgspec.Meta(ge=0, le=MAX_WORKERS)]
"""Limited, as each worker is a process and perhaps a tmux session: a mistyped number must not overload the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmSettings:
    """Size of a swarm, and how its workers are started."""

    workers: Workers = 0
    """Workers to keep; 0: one a core."""
    pool: Workers = 1
    """Pre-warmed workers kept beside them, which replace dead workers at once."""
    nested_workers: Share = 16
    """Extra workers at most, started while they are needed for tasks that running tasks have submitted; 0: none."""
    preload: tuple[str, ...] = ("auto",)
    """Modules imported before the first task; ``auto``: numpy, and torch when it is installed."""
    spawner: Literal["auto", "exec", "zygote"] = "auto"
    engine: Literal["tmux", "process"] = "tmux"
    """What carries the workers: sessions of a tmux server that people can attach to, or plain child processes (containers, CI)."""
    python: str = ""
    """Interpreter of the workers; empty: the one ``init`` ran in."""
    start_timeout_s: Positive = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSettings:
    """Defaults of every task, and how the queue orders them."""

    grace_s: Annotated[float, msgspec.Meta(gt=0, le=MAX_SECONDS)] = 10.0
    """Seconds between interrupting a task and killing it."""
    retries: Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)] = 0
    deliveries: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)] = 3
    """Worker deaths after which a task is ``dead``."""
    keep_background: bool = False
    """Processes that tasks leave running keep running; else they end with their task."""
    fresh: bool = False
    """Run each task in a worker process of its own, which runs no other task."""
    retry_delay_s: Positive = 0.5
    """Pause before the first retry; doubled for each further one, up to ``retry_delay_max_s``."""
    retry_delay_max_s: Positive = 30.0
    age_step_s: Positive = 360.0
    """Waiting time that weighs as much as one point of priority (360: ten points an hour)."""
    keep_ended: Share = 100_000
    """Ended tasks kept in the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Limits and intervals of a worker."""

    threads: Share = 0
    """BLAS and torch threads of each worker; 0: cores / workers."""
    beat_s: Positive = 2.0
    silence_s: Positive = 20.0
    """A busy worker that sends nothing for so long is shown as ``suspect``; that alone never ends it while its connection lasts."""
    orphan_ttl_s: Positive = 900.0
    """How long a worker lives without any controller."""
    prefetch: Annotated[int, msgspec.Meta(ge=1)] = 64
    """Tasks sent ahead to one worker at most; short tasks only."""
    restart_delay_s: Positive = 0.1
    """Pause before a worker that died before it was ready is replaced; doubled when all workers have died so again, up to 30 s."""
    deaths_limit: Share = 5
    """Failed starts in a row, for each worker wanted, after which no more are tried until ``tmax resume`` or ``tmax init`` (0: no limit)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Durability of the task store."""

    durability: Literal["full", "normal"] = "full"
    """``full`` survives a power cut; ``normal`` survives any kill, and may lose the last moments at a power cut."""
    ballast_bytes: Share = 16 * 1024 * 1024
    """Space reserved so that results can still be recorded on a full disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TmuxSettings:
    """Options of the swarm's own tmux server."""

    mouse: bool = False
    history_limit: Share = 5000
    config: str = ""
    """A tmux configuration file read after our own minimal one; empty: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardSettings:
    """The monitor session."""

    enabled: bool = True
    refresh_s: Positive = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All groups."""

    swarm: SwarmSettings = field(default_factory=SwarmSettings)
    tasks: TaskSettings = field(default_factory=TaskSettings)
    worker: WorkerSettings = field(default_factory=WorkerSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    tmux: TmuxSettings = field(default_factory=TmuxSettings)
    dashboard: DashboardSettings = field(default_factory=DashboardSettings)
