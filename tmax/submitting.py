"""The ways to hand a task to a swarm from Python: shared by the swarm itself and by views of it with options of their own."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, ParamSpec, TypeVar, cast

from tmax.calls import Prepared, SearchPath, dump_call, label_of_function, prepare, python_job
from tmax.control.courier import Courier
from tmax.control.future import TaskFuture
from tmax.core.model import PRIORITIES
from tmax.errors import UsageError
from tmax.outcomes import ExitStatus
from tmax_pipes import blobs
from tmax_pipes.chunk import call_each
from tmax_pipes.jobs import KernelJob, KernelValue, ShellJob

P = ParamSpec("P")
T = TypeVar("T")

_MAX_COMMAND_BYTES = 900 * 1024
_SHUT = "cannot schedule new futures after shutdown"


class Outbox:
    """What every way to submit needs: the courier, the folder for large bodies, and whether the swarm was shut down."""

    def __init__(self, courier: Courier, blobs: str) -> None:
        self.courier = courier
        self.blobs = blobs
        self.path = SearchPath()
        self.shut = False


class Submits:
    """What a swarm and a view of it (``options``) share: the ways to hand over a task."""

    _outbox: Outbox
    _wants: Mapping[str, Any]

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> TaskFuture[T]:
        """Have ``fn(*args, **kwargs)`` called by a worker; return its future at once.

        What cannot be pickled fails the future, as in ``ProcessPoolExecutor``.
        Raises RuntimeError after ``shutdown``, SwarmGone when the swarm is gone for good.
        """
        return cast("TaskFuture[T]", self._call(fn, label_of_function(fn), args, kwargs))

    def _call(
        self,
        fn: Callable[..., Any] | Prepared,
        label: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        into: list[TaskFuture[Any]] | None = None,
    ) -> TaskFuture[Any]:
        outbox = self._outbox
        if outbox.shut:
            raise RuntimeError(_SHUT)
        try:
            body = blobs.body_of(outbox.blobs, dump_call(fn, args, kwargs))
        except Exception as error:
            # Pickling runs the caller's own code, which may raise anything; a full disk ends here too.
            return outbox.courier.failed(error, "python", into)
        return outbox.courier.submit(python_job(body, label, outbox.path.extras()), self._wants, "python", into)

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1) -> Iterator[T]:
        """Return the results of ``fn`` over the iterables, in order; everything is submitted at once.

        ``chunksize``: items for each task; above 1 for many small calls.  ``timeout``: seconds from now; TimeoutError after it.
        The first exception is raised in its place; what then has not begun is cancelled, also when the results are left half read.
        When an iterable raises, or at Ctrl-C, what was submitted until then and has not begun is cancelled.  ``fn`` is pickled once.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        end_s = None if timeout is None else time.monotonic() + timeout
        ready = prepare(fn)
        rows = zip(*iterables, strict=False)  # ends with the shortest, as map does
        futures: list[TaskFuture[Any]] = []
        try:
            if chunksize == 1:
                for row in rows:
                    self._call(ready, ready.label, row, {}, futures)
            else:
                each = replace(ready, stand_in=call_each)
                label = f"{ready.label} x{chunksize}"
                for chunk in _chunks(rows, chunksize):
                    self._call(each, label, (ready.stand_in, chunk), {}, futures)
        except BaseException as error:  # also Ctrl-C, the usual end of an iterable that has none
            _withdraw(futures, error)
            raise
        return _in_order(futures, end_s) if chunksize == 1 else itertools.chain.from_iterable(_in_order(futures, end_s))

    def kernel(
        self,
        name: str,
        *,
        device: Literal["auto", "cpu", "cuda", "mps"] = "auto",
        backend: Literal["auto", "numpy", "torch"] = "auto",
        dtype: str = "float64",
        repeat: int = 1,
        seed: int = 0,
        **params: KernelValue,
    ) -> TaskFuture[dict[str, Any]]:
        """Run a numeric kernel (``matmul``, ``eigvals``, ``reduce``); the result says its time, device and rate.

        ``params``: its sizes, for example ``n=2048``.  What cannot be run (shape, memory, device) fails the future with TaskFailed.
        """
        job = KernelJob(name=name, params=params, device=device, backend=backend, dtype=dtype, repeat=repeat, seed=seed)
        return cast("TaskFuture[dict[str, Any]]", self._hand_over(job, "kernel"))

    def shell(
        self,
        argv: Sequence[str | bytes | os.PathLike[str]],
        *,
        cwd: str | bytes | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        split: bool = False,
    ) -> TaskFuture[ExitStatus]:
        """Run a program; the future gives its ExitStatus, whatever that is.  Never through a shell: say ``["sh", "-c", ...]`` for one.

        ``cwd`` and ``env``: this process's own unless given.  ``split``: two pipes instead of one terminal.
        A program that is not found fails the future with TaskFailed.
        """
        if isinstance(argv, str | bytes) or not argv:
            raise TypeError("argv is a sequence of at least one argument, not one string")
        whole = os.environb if env is None else {os.fsencode(key): os.fsencode(value) for key, value in env.items()}
        job = ShellJob(
            argv=tuple(os.fsencode(part) for part in argv),
            cwd=os.fsencode(os.getcwd() if cwd is None else os.path.abspath(cwd)),
            env={key: value for key, value in whole.items() if not key.startswith(b"TMUX")},
            split=split,
        )
        if sum(map(len, job.argv)) + sum(len(key) + len(value) for key, value in job.env.items()) > _MAX_COMMAND_BYTES:
            raise UsageError(f"arguments and environment are over {_MAX_COMMAND_BYTES} bytes")
        return cast("TaskFuture[ExitStatus]", self._hand_over(job, "shell"))

    def _hand_over(self, job: KernelJob | ShellJob, kind: str) -> TaskFuture[Any]:
        if self._outbox.shut:
            raise RuntimeError(_SHUT)
        return self._outbox.courier.submit(job, self._wants, kind)

    def options(
        self,
        *,
        name: str | None = None,
        priority: Literal["low", "normal", "high", "critical"] | None = None,
        timeout: float | None = None,
        retries: int | None = None,
        deliveries: int | None = None,
        idempotent: bool | None = None,
        grace: float | None = None,
    ) -> View:
        """Return a view of this swarm whose tasks have these options; what is None stays as it is here.

        ``timeout``: seconds a run may take (0: no limit).  ``retries``: how often a task that *failed* is run again.
        ``deliveries``: how many workers may die under it.  ``idempotent``: False for what must not run twice; it ends as interrupted
        when its worker dies.  ``grace``: seconds between asking it to end and killing it.  Raises UsageError for a wrong value.
        """
        delivery = None if idempotent is None else ("at-least-once" if idempotent else "at-most-once")
        given = {
            "name": name,
            "priority": priority,
            "timeout_s": timeout,
            "retries": retries,
            "deliveries": deliveries,
            "delivery": delivery,
            "grace_s": grace,
        }
        wants = {key: value for key, value in given.items() if value is not None}
        _check_wants(wants)
        return View(self._outbox, {**self._wants, **wants})


class View(Submits):
    """A swarm seen with options of its own for each task; made by ``options``, owns nothing."""

    def __init__(self, outbox: Outbox, wants: Mapping[str, Any]) -> None:
        self._outbox = outbox
        self._wants = wants


def _check_wants(wants: Mapping[str, Any]) -> None:
    if wants.get("priority", "normal") not in PRIORITIES:
        raise UsageError(f"priority {wants['priority']!r} is not known", hint=f"one of: {' '.join(PRIORITIES)}")
    for key, least in (("timeout_s", 0), ("retries", 0), ("deliveries", 1), ("grace_s", 0)):
        value = wants.get(key, least)
        if not isinstance(value, int | float) or not least <= value < float("inf"):
            raise UsageError(f"{key.removesuffix('_s')} must be a number from {least}, not {value!r}")
    if len(wants.get("name", "")) > 200:
        raise UsageError("a task's name has at most 200 characters")


def _chunks(rows: Iterator[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    while chunk := list(itertools.islice(rows, size)):
        yield chunk


def _in_order(futures: list[TaskFuture[Any]], end_s: float | None) -> Iterator[Any]:
    """Yield results in order; left early or by an exception, what has not begun is cancelled.

    Never begun, as when nobody wants the results, everything runs: that is how every executor's ``map`` is used for its effects.
    """
    futures.reverse()  # taken from the end: a result that was handed on is not kept
    try:
        while futures:
            yield _last(futures, end_s)
    except GeneratorExit:
        if futures:
            futures[0].courier.abandon_results(futures)
        raise
    except BaseException as error:
        _withdraw(futures, error)
        raise


def _withdraw(futures: list[TaskFuture[Any]], error: BaseException) -> None:
    """Cancel what has not begun because of ``error``, which says so when that could not be done; another Ctrl-C leaves at once."""
    left = 0
    try:
        left = TaskFuture.withdraw_all(futures)
    except KeyboardInterrupt as again:
        left = sum(not future.done() for future in futures)
        error = again
        raise
    finally:
        if left:
            error.add_note(f"{left} of {len(futures)} tasks of this map may still be queued: tmax ps lists them, tmax cancel ends them")


def _last(futures: list[TaskFuture[Any]], end_s: float | None) -> Any:
    value = futures[-1].result(None if end_s is None else max(0.0, end_s - time.monotonic()))
    futures.pop()  # only now: one that was waited for in vain is to be cancelled, too
    return value
