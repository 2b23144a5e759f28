"""Exceptions that futures of the Python API carry; all but ``RemoteTraceback`` are ``tmax.TmaxError``.

::

    the function raised                     that very exception, with RemoteTraceback as its cause
    it ran, and cannot be sent              ResultNotSendable
    not run, or no exception to show        TaskFailed
    its time limit passed                   TaskTimeout        (a TimeoutError)
    workers died under it                   TaskDead           (a BrokenExecutor: other tasks are not harmed)
    it may have run, and must not again     TaskInterrupted    (a BrokenExecutor)
    the initializer raised                  InitializerFailed  (a BrokenExecutor)
    cancelled                               concurrent.futures.CancelledError
    the swarm is gone for good              SwarmGone          (a BrokenExecutor)

They stand apart from ``tmax.errors``, which every command imports: their bases cost more than a command's own imports.
"""

from __future__ import annotations

import functools
import sys
from concurrent.futures import BrokenExecutor

from tmax.errors import ExitCode, TmaxError


class RemoteTraceback(Exception):
    """The traceback of the worker as text; the ``__cause__`` of what was raised there, never raised itself."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


class TaskError(TmaxError):
    """A task did not succeed, for another reason than an exception of its own.

    ``task``: its number (0: unknown).  ``worker``: the name of its last worker (empty: none).  ``message`` and ``hint``: what
    happened and what to do about it; ``hint`` may be empty.
    """

    code = "task"

    def __init__(self, message: str, hint: str = "", *, task: int = 0, worker: str = "") -> None:
        super().__init__(message, hint)
        self.task = task
        self.worker = worker

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class TaskFailed(TaskError):
    """The task did not succeed, and no exception of its own can be shown.

    ``kind`` says how: ``exception``, ``exit``, ``signal``, ``notfound`` (module, function or command is missing) or ``refused``
    (found impossible before it ran).
    """

    code = "task-failed"

    def __init__(self, message: str, hint: str = "", *, task: int = 0, kind: str = "", worker: str = "") -> None:
        super().__init__(message, hint, task=task, worker=worker)
        self.kind = kind


class ResultNotSendable(TaskError):
    """The task ran, and what it returned or raised cannot be pickled.

    ``traceback``: the remote traceback, when it was an exception that could not be sent; else empty.
    """

    code = "unpicklable"

    def __init__(self, message: str, hint: str = "", *, task: int = 0, worker: str = "", traceback: str = "") -> None:
        super().__init__(message, hint or "return plain values, or write a file and return its name", task=task, worker=worker)
        self.traceback = traceback

    def __str__(self) -> str:
        return self.message


class TaskTimeout(TaskError, TimeoutError):
    """The task was ended because its time limit had passed."""

    code = "task-timeout"
    exit_code = ExitCode.TASK_TIMEOUT


class TaskBroken(TaskError, BrokenExecutor):
    """A worker died under this task.  Other tasks and the swarm go on.

    ``signal``: what killed the last worker, or None; ``peak_rss_bytes``: its largest resident memory as far as known (0: unknown);
    ``causes``: one line for each death.
    """

    code = "task-broken"

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        task: int = 0,
        signal: int | None = None,
        peak_rss_bytes: int = 0,
        worker: str = "",
        causes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, hint, task=task, worker=worker)
        self.signal = signal
        self.peak_rss_bytes = peak_rss_bytes
        self.causes = causes


class TaskDead(TaskBroken):
    """As many workers died under this task as its ``deliveries`` allow; it is not tried again."""

    code = "task-dead"


class TaskInterrupted(TaskBroken):
    """Its worker died after it had started, and it is not to be run twice (``idempotent=False``)."""

    code = "task-interrupted"


class InitializerFailed(TaskError, BrokenExecutor):
    """The ``initializer`` raised in a worker: nothing can run in this pool any more.  ``task``: the task that met it, 0 for later submits.

    Also a ``concurrent.futures.process.BrokenProcessPool`` where the program has imported that.
    """

    code = "initializer-failed"


def initializer_failed(message: str, *, task: int = 0) -> InitializerFailed:
    """Return an InitializerFailed of the class that this program can catch."""
    pools = sys.modules.get("concurrent.futures.process")  # importing it costs as much as all of ours
    broken_pool = getattr(pools, "BrokenProcessPool", None)  # not there yet while another thread imports it
    if broken_pool is None:
        return InitializerFailed(message, task=task)
    return _of_pools(broken_pool)(message, task=task)


@functools.cache
def _of_pools(broken_pool: type[BrokenExecutor]) -> type[InitializerFailed]:
    return type("InitializerFailed", (_PoolInitializerFailed, broken_pool), {"__module__": __name__})


class _PoolInitializerFailed(InitializerFailed):
    """Base of the class made for programs that know ``BrokenProcessPool``; it travels as a plain InitializerFailed, which is importable."""

    def __reduce__(self) -> tuple[object, ...]:
        return InitializerFailed(self.message, self.hint, task=self.task).__reduce__()


class SwarmGone(TmaxError, BrokenExecutor):
    """The swarm was taken down, or cannot be reached or started any more; pending futures end with this."""

    code = "swarm-gone"
    exit_code = ExitCode.NO_SWARM
