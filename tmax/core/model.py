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
"""Base score of each level of the option ``priority``: one point is worth ``tasks.age_step_s`` of waiting."""

Delivery: TypeAlias = Literal["at-least-once", "at-most-once"]

DELIVERY_OF_KIND: dict[str, Delivery] = {"kernel": "at-least-once", "python": "at-least-once", "shell": "at-most-once"}
"""What is promised for a kind whose submitter chose nothing (docs/reliability.md)."""


class TaskState(StrEnum):
    """Where a task is.  ``sent`` and ``running`` carry a lease; the last five are ends."""

    WAITING = "waiting"
    """Not yet: a retry's pause runs."""
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
    """What a submitter hands over."""

    job: Job
    options: TaskOptions = DEFAULT_OPTIONS
    request_id: str = ""
    """Chosen by the client; a second submit with the same one returns the first one's task.  Empty: none."""


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who has a task: exactly one life of one worker."""

    life: int
    worker: str
    sent_at: float
    started_at: float = 0.0
    group: int = 0
    """Process group of the child that runs it; 0: none known."""


class Crash(msgspec.Struct, frozen=True, kw_only=True):
    """A worker died under this task: when, which life, and what the kernel said about it."""

    at: float
    life: int
    worker: str
    cause: str
    signal: int | None = None
    exit_code: int | None = None
    peak_rss_bytes: int = 0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a task ended: the worker's own report, or the controller's reason."""

    report: Report = msgspec.field(default_factory=Report)
    result: Body = b""
    form: Literal["pickle", "json", "none"] = "none"
    failure: Failure | None = None


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A job somebody wants, with its whole story.  Frozen: each move makes a new value, which is what the store writes."""

    id: int
    job: Job
    kind: str
    options: TaskOptions = DEFAULT_OPTIONS
    request_id: str = ""
    submitted_at: float
    """UTC epoch seconds, for people and for order across restarts."""
    state: TaskState = TaskState.READY
    attempt: int = 0
    """Rises at each lease, counting from 1; fences late results."""
    failures: int = 0
    crashes: tuple[Crash, ...] = ()
    lease: Lease | None = None
    cancelling: bool = False
    solo: bool = False
    """Its worker died once: it is sent alone, so that only the culprit is charged next time."""
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
        """True in one of the five ends."""
        return self.state in ENDS


class WorkerState(StrEnum):
    """Where a life is."""

    STARTING = "starting"
    PROVING = "proving"
    """Preloaded and greeted; its no-op has not come back yet."""
    IDLE = "idle"
    BUSY = "busy"
    SILENT = "silent"
    """Its connection ended and it has not greeted again; only the kernel may say that it is dead."""
    DRAINING = "draining"
    DEAD = "dead"


class LifeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One worker process, as kept in the store so that a new controller finds it again."""

    life: int
    worker: str
    """Its name in the swarm: ``w1``..., or ``pool-LIFE`` while it waits."""
    pid: int = 0
    ticks: int = 0
    session: str = ""
    alive: bool = True
    started_at: float = 0.0
    ended_at: float = 0.0
    cause: str = ""
    tasks_done: int = 0
    context: str = ""
    """Whose code it runs, or is to run first; empty: none yet (``tmax_pipes.jobs.context_key``)."""
    used: bool = False
    """A task was sent to it."""
