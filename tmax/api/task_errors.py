"""How a task's bad end reaches Python: the exceptions that futures of the Python API carry.

the function raised               that very exception, with RemoteTraceback as its cause
it cannot be sent                 tmax.errors.ResultNotSendable
not run, or no exception to show  TaskFailed
its time was over                 TaskTimeout      (a TimeoutError)
workers died under it             TaskDead         (a BrokenExecutor: other tasks are not harmed)
it may have run, and must not again   TaskInterrupted  (a BrokenExecutor)
the initializer raised            InitializerFailed  (a BrokenExecutor)
cancelled                         concurrent.futures.CancelledError
the swarm is gone for good        SwarmGone        (a BrokenExecutor)
"""

from __future__ import annotations

import functools
import sys
from concurrent.futures import BrokenExecutor


class RemoteTraceback(Exception):
    """The traceback of the worker as text; printed as the cause of what was raised there."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(text)

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


class TaskFailed(Exception):
    """The task did not succeed, and no exception of its own can be shown.

    ``kind`` says how: ``exception``, ``exit``, ``signal``, ``notfound`` (module, function or command is missing) or ``refused``
    (found impossible before it ran).  ``hint``: what to do about it, may be empty.
    """

    def __init__(self, message: str, *, task: int = 0, kind: str = "", worker: str = "", hint: str = "") -> None:
        self.task = task
        self.kind = kind
        self.worker = worker
        self.hint = hint
        super().__init__(f"{message} ({hint})" if hint else message)


class TaskTimeout(TimeoutError):
    """The task was ended because its time was over."""

    def __init__(self, message: str, *, task: int = 0, worker: str = "") -> None:
        self.task = task
        self.worker = worker
        super().__init__(message)


class TaskBroken(BrokenExecutor):
    """A worker died under this task.  Other tasks and the swarm go on.

    ``signal``: what killed the last worker, or None; ``peak_rss_bytes``: its largest resident memory as far as known (0: unknown);
    ``worker``: its name; ``causes``: one line for each death.
    """

    def __init__(
        self,
        message: str,
        *,
        task: int = 0,
        signal: int | None = None,
        peak_rss_bytes: int = 0,
        worker: str = "",
        causes: tuple[str, ...] = (),
    ) -> None:
        self.task = task
        self.signal = signal
        self.peak_rss_bytes = peak_rss_bytes
        self.worker = worker
        self.causes = causes
        super().__init__(message)


class TaskDead(TaskBroken):
    """As many workers died under this task as its ``deliveries`` allow; it is not tried again."""


class TaskInterrupted(TaskBroken):
    """Its worker died after it had started, and it is not to be run twice (``idempotent=False``)."""


class InitializerFailed(BrokenExecutor):
    """The ``initializer`` raised in a worker: nothing can run in this pool any more.  ``task``: the task that met it, 0 for later submits.

    Also a ``concurrent.futures.process.BrokenProcessPool`` where the program has imported that.
    """

    def __init__(self, message: str, *, task: int = 0) -> None:
        self.task = task
        super().__init__(message)


def initializer_failed(message: str, *, task: int = 0) -> InitializerFailed:
    """Return an InitializerFailed of the class that this program can catch."""
    pools = sys.modules.get("concurrent.futures.process")  # importing it costs as much as all of ours
    broken_pool = getattr(pools, "BrokenProcessPool", None)  # not there yet while another thread imports it
    if broken_pool is None:
        return InitializerFailed(message, task=task)
    return _of_pools(broken_pool)(message, task=task)


@functools.cache
def _of_pools(broken_pool: type[BrokenExecutor]) -> type[InitializerFailed]:
    return type("InitializerFailed", (InitializerFailed, broken_pool), {"__module__": __name__})


class SwarmGone(BrokenExecutor):
    """The swarm was taken down, or cannot be reached or started any more; pending futures end with this."""
