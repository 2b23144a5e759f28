"""The messages between controller and worker.

To a worker: ``Who Run Go Recall Stored Stop``.  From it: ``Hello Started Recalled Done Failed Beat``.
Acknowledgements name (task, attempt), natural keys that survive a restart of either end:
``Started`` (or ``Recalled``, ``Done``, ``Failed``) acknowledges ``Run``; ``Stored`` acknowledges ``Done`` and ``Failed``.

Durations are seconds, sizes are bytes, times are UTC epoch seconds.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from tmax_pipes.jobs import Body, Job
from tmax_pipes.options_struct import DEFAULT_OPTIONS, TaskOptions

PROTOCOL = 3
"""Version of this vocabulary; ``Hello`` carries the worker's."""

TAIL_BYTES = 4096
"""Output up to this size lives in the task's row; longer output lives in the task's log file."""

Key: TypeAlias = tuple[int, int]
"""(task, attempt)."""


# -- to a worker -----------------------------------------------------------------------------------


class Who(msgspec.Struct, frozen=True, tag="Who"):
    """The controller of this epoch requests the worker's identity and gives it its name in the swarm.

    It may be repeated on one connection (a pooled worker was taken and renamed); ``Hello`` answers each.
    """

    epoch: int
    swarm: str
    worker: str
    """The worker's name: ``w1``... or ``pool-7`` while it waits in the pool."""
    threads: int = 0
    """BLAS/torch threads this worker may use; 0: leave as set at start."""
    beat_s: float = 2.0


class Run(msgspec.Struct, frozen=True, tag="Run", omit_defaults=True, rename={"needs_go": "ask"}):
    """Run this task after those already sent.  With ``needs_go`` (``ask`` in a frame) the worker sends ``Started`` and waits for ``Go``."""

    task: int
    attempt: int
    job: Job
    needs_go: bool = False
    options: TaskOptions = DEFAULT_OPTIONS
    """The worker obeys ``timeout_s`` and ``grace_s``; should it fail to, the controller ends the worker."""
    tries: int = 1
    """1, and one more for each failure and each death that was charged to it; shown to people as the attempt."""


class Go(msgspec.Struct, frozen=True, tag="Go"):
    """The start of this task is committed: run it."""

    task: int
    attempt: int


class Recall(msgspec.Struct, frozen=True, tag="Recall"):
    """Give back a task that has not started; answered by ``Recalled``, or by nothing when it has started."""

    task: int
    attempt: int


class Stored(msgspec.Struct, frozen=True, tag="Stored"):
    """These results are committed; the worker may forget them."""

    keys: tuple[Key, ...]


class Stop(msgspec.Struct, frozen=True, tag="Stop"):
    """End the running task named (``task`` > 0), or the worker itself (``task`` = 0).

    A task gets TERM (an exception, in Python), ``grace_s`` later KILL, and ends with ``Failed(kind="cancelled")``.
    With ``why="drain"`` the worker gives back what it has not started, finishes what it runs, and exits once its results are
    ``Stored``.  With ``why="now"`` it ends its running task first.
    """

    task: int = 0
    attempt: int = 0
    why: Literal["cancel", "timeout", "drain", "now"] = "cancel"
    grace_s: float = 10.0


ToWorker: TypeAlias = Who | Run | Go | Recall | Stored | Stop


# -- from a worker ---------------------------------------------------------------------------------


class Holding(msgspec.Struct, frozen=True):
    """A task that this worker holds and has not reported: ``asked`` (waits for Go), ``running``, or ``queued``."""

    task: int
    attempt: int
    state: Literal["queued", "asked", "running"]


class Hello(msgspec.Struct, frozen=True, tag="Hello"):
    """The worker's identity and what it holds: the answer to ``Who``, from which a lost connection is restored."""

    life: int
    pid: int
    ticks: int
    """Start time of the process in clock ticks since boot (``/proc/PID/stat`` field 22): pid + ticks is its identity."""
    protocol: int
    python: str
    """``major.minor.micro``."""
    holding: tuple[Holding, ...] = ()
    results: tuple[Key, ...] = ()
    """Results not yet ``Stored``; they follow this message as ``Done`` and ``Failed``."""
    missing: tuple[str, ...] = ()
    """Modules that were to be preloaded and could not be, as ``name: reason``."""


class Started(msgspec.Struct, frozen=True, tag="Started", omit_defaults=True):
    """This task is next.  After ``Run(needs_go=True)`` it waits for ``Go``; otherwise it is already running.

    Sent a second time, with ``group``, once a child process group exists.
    """

    task: int
    attempt: int
    at: float = 0.0
    group: int = 0
    """Process group of the child that runs the task; 0: it runs in the worker itself."""


class Recalled(msgspec.Struct, frozen=True, tag="Recalled"):
    """This task has not started and is given back.

    ``why``: ``asked`` (by Recall), ``stale`` (this process must not run it, because its code changed on disk or an
    earlier task changed the process: replace this worker), ``drain``.
    """

    task: int
    attempt: int
    why: Literal["asked", "stale", "drain"] = "asked"


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """Resource usage and output of a run, measured in the worker."""

    started_at: float = 0.0
    duration_s: float = 0.0
    cpu_s: float = 0.0
    """User and system time of the run over all cores, children included."""
    peak_rss_bytes: int = 0
    output_bytes: int = 0
    tail: bytes = b""
    """The whole output when it fits in TAIL_BYTES; otherwise empty, and the log file holds all of it."""
    device: str = ""
    strategy: str = ""
    stderr: tuple[tuple[int, int], ...] = ()
    """Parts of ``tail`` that are stderr, as offset and length; those of a log are in a file beside it.  Empty where the two are merged."""
    lost_bytes: int = 0
    """Output that the log could not take (full disk, file size limit); included in ``output_bytes``."""


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a task did not succeed.

    ``kind``: ``exception`` (Python raised), ``exit`` (a program returned non-zero), ``signal`` (a program was
    killed), ``notfound`` (command, module or function is missing), ``refused`` (checked before running and
    found impossible: shape, memory, device, Python version), ``unpicklable`` (the result or the
    exception cannot be sent), ``initializer`` (the initializer of its context raised), ``timeout``, ``cancelled``.
    """

    kind: Literal["exception", "exit", "signal", "notfound", "refused", "unpicklable", "initializer", "timeout", "cancelled"]
    message: str
    traceback: str = ""
    error: Body | None = None
    """Pickle of the exception itself, when it can be pickled."""
    exit_code: int | None = None
    signal: int | None = None
    hint: str = ""


class Done(msgspec.Struct, frozen=True, tag="Done", omit_defaults=True):
    """The task succeeded.  ``form``: the encoding of ``result``, a pickle, JSON text, or nothing (a shell command)."""

    task: int
    attempt: int
    report: Report
    result: Body = b""
    form: Literal["pickle", "json", "none"] = "none"


class Failed(msgspec.Struct, frozen=True, tag="Failed", omit_defaults=True):
    """The task ended without success."""

    task: int
    attempt: int
    report: Report
    failure: Failure


class Beat(msgspec.Struct, frozen=True, tag="Beat", omit_defaults=True):
    """Heartbeat: sent every ``beat_s`` while a task runs and once when it has ended, never while idle."""

    task: int = 0
    attempt: int = 0
    rss_bytes: int = 0
    cpu_s: float = 0.0


FromWorker: TypeAlias = Hello | Started | Recalled | Done | Failed | Beat
Message: TypeAlias = ToWorker | FromWorker
