"""The Python API: a swarm as a ``concurrent.futures.Executor``.

::

    submit --> pickle (calls.py) --> TaskChannel --> controller --> worker
    future <-- unpickle (outcomes.py) <-- reader thread of the TaskChannel <--+

``Swarm(workers=4)`` makes a temporary swarm that ends with this process, even when that is killed.
``Swarm.connect()`` uses a permanent one; its tasks outlive this process.
"""

from __future__ import annotations

import atexit
import os
import secrets
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor as _StandardExecutor
from dataclasses import replace
from typing import Any, Literal, Self

import msgspec

from tmax.api import unobserved_failures
from tmax.api.handle import SwarmHandle
from tmax.api.outcomes import ResultResolver
from tmax.api.submission import ClientContext, SubmitMixin
from tmax.api.task_channel import TaskChannel
from tmax.api.task_errors import InitializerFailed, SwarmGone, initializer_failed
from tmax.config import load
from tmax.core.settings import MAX_WORKERS, Settings
from tmax.core.snapshot import Snapshot, WorkerView
from tmax.errors import ConfigError, NoSwarm, UsageError
from tmax.layout import locate
from tmax_pipes import rebuild

_TEMPORARY = "tmp-"


class Swarm(SubmitMixin, _StandardExecutor):
    """A temporary swarm: made here, ready when this returns, gone when it is shut down or this process ends.

    ``workers``: how many (None: one a core).  ``preload``: modules imported before work arrives.  ``pool``: warm workers kept beside.
    ``durability``: ``full`` or ``normal``.  ``engine``: ``tmux``, or ``process`` (plain child processes, no tmux).  ``dashboard``: whether its monitor runs.  ``settings``: everything else (None: as
    configured by files and environment); what is given beside it goes first.  ``swarm``: its name, beginning with ``tmp-`` (None: made up).
    ``initializer(*initargs)`` is called once in each worker process before its first task; when it raises, the pool is broken.
    ``max_tasks_per_child``: tasks after which a worker process is replaced (None: no limit).
    Raises ConfigError, WaitTimedOut when its workers are not ready in ``settings.swarm.start_timeout_s``, and what else keeps it from
    starting.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        swarm: str | None = None,
        preload: Sequence[str] | None = None,
        pool: int | None = None,
        durability: Literal["full", "normal"] | None = None,
        engine: Literal["tmux", "process"] | None = None,
        dashboard: bool = False,
        settings: Settings | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_child: int | None = None,
    ) -> None:
        if rebuild.is_importing_main():
            raise RuntimeError("a swarm is made where the main module is imported by a worker: put it below `if __name__ == '__main__':`")
        if workers is not None and not 1 <= workers <= MAX_WORKERS:
            raise ValueError(f"workers must be at least 1 and at most {MAX_WORKERS}")
        if isinstance(preload, str):
            raise TypeError("preload is a sequence of module names, not one string")
        name = swarm or f"{_TEMPORARY}{os.getpid()}-{secrets.token_hex(4)}"
        if not name.startswith(_TEMPORARY):
            raise UsageError(
                f"a temporary swarm's name begins with {_TEMPORARY!r}, not {name!r}", hint=f"Swarm.connect({name!r}) for a permanent one"
            )
        base = settings or load().settings
        size = replace(
            base.swarm,
            workers=base.swarm.workers if workers is None else workers,
            preload=base.swarm.preload if preload is None else tuple(preload),
            pool=base.swarm.pool if pool is None else pool,
            engine=base.swarm.engine if engine is None else engine,
        )
        store = base.store if durability is None else replace(base.store, durability=durability)
        made = replace(base, swarm=size, store=store, dashboard=replace(base.dashboard, enabled=dashboard))
        _check_settings(made)
        self._open(SwarmHandle(locate(name), made), initializer, initargs, max_tasks_per_child)

    @classmethod
    def connect(cls, swarm: str | None = None) -> Self:
        """Return a permanent swarm, started with its last settings when it does not run; its tasks outlive this process.

        ``swarm``: its name (None: ``TMAX_SWARM``, else ``default``).  Raises NoSwarm when it was taken down or never started.
        """
        self = cls.__new__(cls)
        self._open(SwarmHandle(locate(swarm or os.environ.get("TMAX_SWARM") or "default")))
        return self

    def _open(
        self,
        handle: SwarmHandle,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks: int | None = None,
    ) -> None:
        self._handle = handle
        self._finishing = threading.Lock()
        self._pid = os.getpid()
        layout = handle.layout
        try:
            settle = ResultResolver(layout.blobs, layout.logs, self._break).settle
            channel = TaskChannel(handle.reach, settle, handle.open_client, swarm=layout.swarm, temporary=handle.temporary)
        except BaseException:
            # Also Ctrl-C: a swarm of ours without a client must not stay behind.
            handle.end(now=True)
            raise
        self._context = ClientContext(channel, layout.blobs, initializer=initializer, initargs=initargs, max_tasks=max_tasks or 0)
        _LIVE.add(self)

    def _break(self, error: InitializerFailed) -> None:
        """An initializer raised: as in a process pool, nothing more of this client runs (called on the reader thread)."""
        if self._context.broken is None:
            self._context.broken = error
            threading.Thread(target=self._withdraw_all, args=(error,), name="tmax-broken", daemon=True).start()

    def _withdraw_all(self, error: InitializerFailed) -> None:
        for future in (pending := self._context.channel.pending()):
            future.fail(initializer_failed(str(error)))
        self._context.channel.withdraw(pending)

    @property
    def name(self) -> str:
        """The swarm's name, for ``tmax --swarm NAME``."""
        return self._handle.layout.swarm

    def status(self) -> Snapshot:
        """Return a picture of the swarm, now."""
        return msgspec.convert(self._request("status")["snapshot"], Snapshot)

    def workers(self) -> tuple[WorkerView, ...]:
        """Return its workers, now."""
        return msgspec.convert(self._request("workers")["workers"], tuple[WorkerView, ...])

    def _request(self, verb: str) -> dict[str, object]:
        try:
            with self._handle.open_client() as client:
                return client.request(verb)
        except NoSwarm:
            # It ended between our question and its answer: the next one answers as well.
            with self._handle.open_client() as client:
                return client.request(verb)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; ``wait`` for those that are under way, then leave (a temporary swarm ends).

        ``cancel_futures``: cancel those not begun; what an idle worker was given has begun.  Without ``wait`` the same happens behind.  Twice is harmless.
        """
        self._context.shut = True
        if cancel_futures:
            self._context.channel.withdraw(self._context.channel.pending())
        if wait:
            self._finish()
        else:
            threading.Thread(target=self._finish, name="tmax-shutdown", daemon=True).start()

    def _finish(self) -> None:
        with self._finishing:
            self._context.channel.wait_idle()
            self._leave(now=False)

    def _leave(self, *, now: bool) -> None:
        self._context.shut = True
        reason = SwarmGone(f"this process left swarm {self.name!r}; its tasks go on there")
        self._context.channel.close(reason, cancel=self._handle.temporary)
        self._handle.end(now=now)
        _LIVE.discard(self)

    def leave_at_exit(self) -> None:
        """End as ``concurrent.futures`` does: a temporary swarm's tasks are waited for.

        Those of a permanent one outlive us; that they are accepted is waited for.  Ctrl-C leaves at once.
        """
        if self._pid != os.getpid():
            return  # a forked child: the swarm is its parent's
        try:
            if self._handle.temporary:
                self.shutdown(wait=True)
            else:
                self._leave_accepted()
        except KeyboardInterrupt:
            self._leave(now=True)
            raise

    def _leave_accepted(self) -> None:
        """Leave a permanent swarm once everything that was handed over is accepted, or known not to be."""
        self._context.shut = True
        self._context.channel.wait_accepted()
        self._leave(now=False)

    def __exit__(self, exc_type: type[BaseException] | None, exc_val: object, exc_tb: object) -> None:
        if exc_type is not None and issubclass(exc_type, KeyboardInterrupt):
            # Ctrl-C means now: workers live in sessions of their own and did not see it.
            try:
                if not self._handle.temporary:
                    self._leave_accepted()
            finally:
                self._leave(now=True)
        else:
            self.shutdown(wait=True)


def _check_settings(settings: Settings) -> None:
    """Raise ConfigError for a value that a setting cannot have; files and environment were checked when they were read."""
    try:
        msgspec.convert(msgspec.to_builtins(settings), Settings)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        raise ConfigError(f"{where.strip('`').removeprefix('$.')}: {what[:1].lower()}{what[1:]}") from error


class Executor(Swarm):
    """A temporary swarm with the signature of ``ProcessPoolExecutor``: change one import.

    ``mp_context`` is accepted and ignored.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: object = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        preload: Sequence[str] | None = None,
        settings: Settings | None = None,
    ) -> None:
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None and not isinstance(max_tasks_per_child, int):
            raise TypeError("max_tasks_per_child must be an integer")
        if max_tasks_per_child is not None and max_tasks_per_child <= 0:
            raise ValueError("max_tasks_per_child must be >= 1")
        if max_workers is not None and max_workers < 1:
            raise ValueError("max_workers must be greater than 0")
        super().__init__(
            max_workers,
            preload=preload,
            settings=settings,
            initializer=initializer,
            initargs=initargs,
            max_tasks_per_child=max_tasks_per_child,
        )


_LIVE: set[Swarm] = set()


def _at_exit() -> None:
    interrupted = False
    for swarm in list(_LIVE):
        try:
            swarm.leave_at_exit()
        except KeyboardInterrupt:
            interrupted = True  # a traceback of this function would add nothing; the next swarms are left, too
        except Exception as error:  # one swarm that cannot be left keeps no other from being left, nor its failures from being reported
            print(f"error: swarm {swarm.name!r} could not be left in order: {error}", file=sys.stderr)
    unobserved_failures.report_at_exit(interrupted=interrupted)


atexit.register(_at_exit)
