"""The ways to hand a task to a swarm from Python: shared by the swarm itself and by views of it with options of their own."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Never, ParamSpec, TypeVar, cast, get_args

from msgspec.structs import replace

from tmax.api.calls import Functions, Prepared, dump_call
from tmax.api.future import TaskFuture
from tmax.api.outcomes import ExitStatus
from tmax.api.searchpath import SearchPath
from tmax.api.shared_bodies import SharedBodies
from tmax.api.submitter import Submitter
from tmax.api.task_channel import TaskChannel
from tmax.api.task_errors import initializer_failed
from tmax.core.model import PRIORITIES
from tmax.core.names import check_task_name
from tmax.errors import UsageError
from tmax_pipes.jobs import Backend, Device, Job, KernelJob, KernelValue, ShellJob

P = ParamSpec("P")
T = TypeVar("T")
J = TypeVar("J", bound=Job)

_MAX_COMMAND_BYTES = 900 * 1024
_SHUT = "cannot schedule new futures after shutdown"


class ClientContext:
    """What every way to submit needs: the courier, the folder for large bodies, and whether the swarm was shut down."""

    def __init__(
        self, courier: TaskChannel, blobs: str, *, initializer: Callable[..., object] | None, initargs: tuple[Any, ...], max_tasks: int
    ) -> None:
        self.courier = courier
        self.blobs = blobs
        path = SearchPath()
        bodies = SharedBodies(blobs)
        self.functions = Functions(bodies, path)
        first = b"" if initializer is None else dump_call(initializer, initargs, {})
        self.submitter = Submitter(bodies, path, initializer=first, max_tasks=max_tasks)
        self.shut = False
        self.broken: BaseException | None = None
        """Why nothing more can run: an initializer raised."""


class SubmitMixin:
    """What a swarm and a view of it (``options``) share: the ways to hand over a task."""

    _outbox: ClientContext
    _wants: Mapping[str, Any]
    _job_wants: Mapping[str, Any] = {}

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> TaskFuture[T]:
        """Have ``fn(*args, **kwargs)`` called by a worker; return its future at once.

        What cannot be pickled fails the future, as in ``ProcessPoolExecutor``.
        Raises RuntimeError after ``shutdown``, SwarmGone when the swarm is gone for good.
        """
        return cast("TaskFuture[T]", self._call(fn, args, kwargs))

    def _call(
        self,
        fn: Callable[..., Any] | Prepared,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        into: list[TaskFuture[Any]] | None = None,
    ) -> TaskFuture[Any]:
        outbox = self._open_outbox()
        try:
            where, whose = outbox.submitter.names()
            job = outbox.functions.call(fn, args, kwargs, context=whose, submitter_environment=where)
        except Exception as error:
            # Pickling runs the caller's own code, which may raise anything; a full disk ends here too.
            return outbox.courier.failed(error, "python", into)
        return outbox.courier.submit(self._shaped(job), self._wants, "python", into)

    def _open_outbox(self) -> ClientContext:
        outbox = self._outbox
        if outbox.shut:
            raise RuntimeError(_SHUT)
        if outbox.broken is not None:
            raise initializer_failed(str(outbox.broken))
        return outbox

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1) -> Iterator[T]:
        """Return the results of ``fn`` over the iterables, in order; everything is submitted at once.

        ``chunksize``: items for each task; above 1 for many small calls.  ``timeout``: seconds from now; TimeoutError after it.
        The first exception is raised in its place; what then has not begun is cancelled, also when the results are left half read.
        When an iterable raises, or at Ctrl-C, what was submitted until then and has not begun is cancelled.  ``fn`` is pickled once.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        end_s = None if timeout is None else time.monotonic() + timeout
        functions = self._outbox.functions
        rows = zip(*iterables, strict=False)  # ends with the shortest, as map does
        futures: list[TaskFuture[Any]] = []
        try:
            if chunksize == 1:
                ready = functions.prepare(fn)
                for row in rows:
                    self._call(ready, row, {}, futures)
            else:
                ready = functions.prepare_chunks(fn, chunksize)
                for chunk in _chunks(rows, chunksize):
                    self._call(ready, (chunk,), {}, futures)
        except BaseException as error:  # also Ctrl-C, the usual end of an iterable that has none
            _withdraw(futures, error)
            raise
        return _in_order(futures, end_s) if chunksize == 1 else itertools.chain.from_iterable(_in_order(futures, end_s))

    def kernel(
        self,
        name: str,
        *,
        device: Device = "auto",
        backend: Backend = "auto",
        dtype: str = "float64",
        repeat: int = 1,
        seed: int = 0,
        **params: KernelValue,
    ) -> TaskFuture[dict[str, Any]]:
        """Run a numeric kernel (``matmul``, ``eigvals``, ``reduce``); the result says its time, device and rate.

        ``params``: its sizes, for example ``n=2048``.  What cannot be run (shape, memory, device) fails the future with TaskFailed.
        Raises UsageError for a value that no kernel takes.
        """
        job = KernelJob(name=name, params=params, device=device, backend=backend, dtype=dtype, repeat=repeat, seed=seed)
        _check_kernel(job)
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

        ``cwd`` and ``env``: this process's own unless given; umask and resource limits: this process's own.  ``split``: two pipes
        instead of one terminal, in which pagers are cat.
        A program that is not found fails the future with TaskFailed.
        """
        if isinstance(argv, str | bytes) or not argv:
            raise TypeError("argv is a sequence of at least one argument, not one string")
        own = {} if env is None else {os.fsencode(key): os.fsencode(value) for key, value in env.items()}
        job = ShellJob(
            argv=tuple(os.fsencode(part) for part in argv),
            cwd=b"" if cwd is None else os.fsencode(os.path.abspath(cwd)),
            env={key: value for key, value in own.items() if not key.startswith(b"TMUX")},
            split=split,
        )
        if sum(map(len, job.argv)) + sum(len(key) + len(value) for key, value in job.env.items()) > _MAX_COMMAND_BYTES:
            raise UsageError(f"arguments and environment are over {_MAX_COMMAND_BYTES} bytes")
        return cast("TaskFuture[ExitStatus]", self._hand_over(job, "shell"))

    def _hand_over(self, job: KernelJob | ShellJob, kind: str) -> TaskFuture[Any]:
        outbox = self._open_outbox()
        try:
            job = replace(self._shaped(job), submitter_environment=outbox.submitter.submitter_environment())
        except OSError as error:
            return outbox.courier.failed(error, kind)
        return outbox.courier.submit(job, self._wants, kind)

    def _shaped(self, job: J) -> J:
        """Return the job with what this view wants of it."""
        return replace(job, **self._job_wants) if self._job_wants else job

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
        fresh: bool | None = None,
        keep_background: bool | None = None,
        **unknown: Never,
    ) -> View:
        """Return a view of this swarm whose tasks have these options; what is None stays as it is here.

        ``timeout``: seconds a run may take (0: no limit).  ``retries``: how often a task that *failed* is run again.
        ``deliveries``: how many workers may die under it.  ``idempotent``: False for what must not run twice; it ends as interrupted
        when its worker dies.  ``grace``: seconds between asking it to end and killing it.  ``fresh``: in a worker process that has run nothing before, and runs nothing after it.
        ``keep_background``: processes that a task leaves running go on; else they end with it.  Raises UsageError for a wrong value.
        """
        if unknown:
            raise TypeError(f"there is no option {next(iter(unknown))!r}; options: {', '.join(_OPTIONS)}")
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
        flags = {"fresh": fresh, "keep_background": keep_background}
        _check_flags({**flags, "idempotent": idempotent})
        job_wants = {key: value for key, value in flags.items() if value is not None}
        return View(self._outbox, {**self._wants, **wants}, {**self._job_wants, **job_wants})


class View(SubmitMixin):
    """A swarm seen with options of its own for each task; made by ``options``, owns nothing."""

    def __init__(self, outbox: ClientContext, wants: Mapping[str, Any], job_wants: Mapping[str, Any]) -> None:
        self._outbox = outbox
        self._wants = wants
        self._job_wants = job_wants


_OPTIONS = tuple(SubmitMixin.options.__kwdefaults__ or ())


def _check_flags(flags: Mapping[str, Any]) -> None:
    for key, value in flags.items():
        if value is not None and not isinstance(value, bool):
            raise UsageError(f"{key} must be True or False, not {value!r}")


def _check_kernel(job: KernelJob) -> None:
    """Refuse what is no kernel's; what this kernel, library or device does not take is for the worker to say."""
    for key, known in (("device", get_args(Device)), ("backend", get_args(Backend))):
        if getattr(job, key) not in known:
            raise UsageError(f"{key} {getattr(job, key)!r} is not known", hint=f"one of: {' '.join(known)}")
    _check_whole("repeat", job.repeat, 1)
    _check_whole("seed", job.seed, 0)
    for key in ("name", "dtype"):
        if not isinstance(getattr(job, key), str):
            raise UsageError(f"{key} must be text, not {getattr(job, key)!r}")
    for key, value in job.params.items():
        if not isinstance(value, int | float | str):
            raise UsageError(f"{key} must be a number, text or boolean, not {value!r}")


def _check_whole(key: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UsageError(f"{key} must be a whole number from {least}, not {value!r}")


def _check_wants(wants: Mapping[str, Any]) -> None:
    priority = wants.get("priority", "normal")
    if not isinstance(priority, str) or priority not in PRIORITIES:
        raise UsageError(f"priority {priority!r} is not known", hint=f"one of: {' '.join(PRIORITIES)}")
    for key in ("timeout_s", "grace_s"):
        value = wants.get(key, 0)
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
            raise UsageError(f"{key.removesuffix('_s')} must be a number of seconds from 0, not {value!r}")
    for key, least in (("retries", 0), ("deliveries", 1)):
        _check_whole(key, wants.get(key, least), least)
    name = wants.get("name")
    if name is not None and not isinstance(name, str):
        raise UsageError(f"a task's name must be text, not {name!r}")
    if name is not None:
        check_task_name(name)


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
