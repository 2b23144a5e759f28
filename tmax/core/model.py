"""Tasks and workers as the controller sees them."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, TypeAlias

import msgspec

from tmax import task_end
from tmax_pipes.jobs import Body, Job
from tmax_pipes.messages import Failure, Report
from tmax_pipes.options_struct import DEFAULT_OPTIONS, TaskOptions

PRIORITIES: dict[str, int] = {"low": 100, "normal": 200, "high": 300, "critical": 400}
"""Base score of each level; ``tasks.age_step_s`` is the waiting time that weighs as much as one point."""

Delivery: TypeAlias = Literal["at-least-once", "at-most-once"]

DELIVERY_OF_KIND: dict[str, Delivery] = {"kernel": "at-least-once", "python": "at-least-once", "shell": "at-most-once"}
"""Delivery guarantee of each kind unless the submitter chooses another one (``docs/reliability.md``)."""


class TaskState(StrEnum):
    """The state of a task.  Tasks that are ``sent`` or ``running`` have a lease; the last five states are ends."""

    WAITING = "waiting"
    """The pause before a retry."""
    READY = "ready"
    SENT = "sent"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


ENDS = frozenset(map(TaskState, task_end.ENDS))


class NewTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task as its submitter describes it."""

    job: Job
    options: TaskOptions = DEFAULT_OPTIONS
    request_id: str = ""
    """Chosen by the client; a second submit with the same one returns the first one's task.  Empty: none."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """The assignment of a task to exactly one process (life) of one worker."""

    life: int
    worker: str
    sent_at: float
    started_at: float = 0.0
    group: int = 0
    """Process group of the child process that runs the task; 0: none known."""


class Crash(msgspec.Struct, frozen=True, kw_only=True):
    """The death of a worker that ran this task: when, which life, and the cause that the kernel reported."""

    at: float
    life: int
    worker: str
    cause: str
    signal: int | None = None
    exit_code: int | None = None
    peak_rss_bytes: int = 0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a task ended: the worker's report, or the controller's reason."""

    report: Report = msgspec.field(default_factory=Report)
    result: Body = b""
    form: Literal["pickle", "json", "none"] = "none"
    failure: Failure | None = None


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A submitted job with its state and history.  Frozen: each change makes a new value, which the store writes."""

    id: int
    job: Job
    kind: str
    options: TaskOptions = DEFAULT_OPTIONS
    request_id: str = ""
    submitted_at: float
    """UTC epoch seconds: shown to users, and the queue's order, which survives restarts."""
    state: TaskState = TaskState.READY
    attempt: int = 0
    """Number of the lease, counting from 1; a result that names an older one is ignored (fencing)."""
    failures: int = 0
    crashes: tuple[Crash, ...] = ()
    lease: Lease | None = None
    cancelling: bool = False
    solo: bool = False
    """A worker that held it has died: it is sent alone, so that the next death charges only the task that caused it."""
    ended_at: float = 0.0
    outcome: Outcome | None = None
    ran_on: str = ""
    """The worker of the last attempt."""

    @property
    def delivery(self) -> Delivery:
        """What its submitter chose, or else what its kind promises."""
        return self.options.delivery or DELIVERY_OF_KIND[self.kind]

    @property
    def ended(self) -> bool:
        """Whether its state is one of the five ends."""
        return self.state in ENDS


class WorkerState(StrEnum):
    """The state of a worker process.  The values are shown to users."""

    STARTING = "starting"
    PROVING = "proving"
    """It has preloaded and sent Hello; the result of its readiness probe has not arrived yet."""
    IDLE = "idle"
    BUSY = "busy"
    SILENT = "silent"
    """Its connection ended and it has not sent Hello again; only the kernel's report makes it dead."""
    DRAINING = "draining"


class LifeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One worker process as the store keeps it, so that the next controller can adopt it."""

    life: int
    worker: str
    """Its name in the swarm: ``w1``..., or ``pool-LIFE`` while it is in the pool."""
    pid: int = 0
    ticks: int = 0
    session: str = ""
    alive: bool = True
    started_at: float = 0.0
    ended_at: float = 0.0
    cause: str = ""
    tasks_done: int = 0
    context: str = ""
    """The context whose code it runs, or is to run first; empty: none yet (``tmax_pipes.jobs.context_key``)."""
    used: bool = False
    """A task was sent to it."""
