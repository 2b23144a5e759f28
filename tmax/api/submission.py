"""Submitting tasks from Python: methods of the swarm itself and of views of it with options of their own."""

from __future__ import annotations

import inspect
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypedDict, TypeVar, Unpack, cast, get_args

from msgspec.structs import replace

from tmax.api.calls import Functions, Prepared, dump_call
from tmax.api.future import TaskFuture
from tmax.api.outcomes import ExitStatus
from tmax.api.searchpath import SearchPath
from tmax.api.shared_bodies import SharedBodies
from tmax.api.submitter import Submitter
from tmax.api.task_channel import TaskChannel
from tmax.api.task_errors import initializer_failed
from tmax.core.option_values import check
from tmax.errors import UsageError
from tmax_pipes.jobs import Backend, Device, Job, KernelJob, KernelValue, ShellJob
from tmax_pipes.options_struct import NOTHING_GIVEN, GivenOptions, given_values
from tmax_pipes.task_options import TaskOption, by_keyword

P = ParamSpec("P")
T = TypeVar("T")
J = TypeVar("J", bound=Job)

_MAX_COMMAND_BYTES = 900 * 1024
_SHUT = "cannot schedule new futures after shutdown"


if TYPE_CHECKING:

    class OptionKeywords(TypedDict, total=False):
        """Keywords of ``SubmitMixin.options``, for type checkers; a test compares them with the table of options."""

        name: str | None
        priority: Literal["low", "normal", "high", "critical"] | None
        timeout: float | None
        grace: float | None
        retries: int | None
        deliveries: int | None
        idempotent: bool | None
        keep_background: bool | None
        fresh: bool | None


class ClientContext:
    """What every way to submit needs: the channel to the controller, the folder for large bodies, whether the swarm was shut down."""

    def __init__(
        self, channel: TaskChannel, blobs: str, *, initializer: Callable[..., object] | None, initargs: tuple[Any, ...], max_tasks: int
    ) -> None:
        self.channel = channel
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
    """What a swarm and a view of it (``options``) share: the methods that submit a task."""

    _context: ClientContext
    _options: GivenOptions = NOTHING_GIVEN
    _job_options: Mapping[str, Any] = {}

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> TaskFuture[T]:
        """Submit a call of ``fn(*args, **kwargs)`` to a worker; return its future at once.

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
        context = self._open_context()
        try:
            environment, code_context = context.submitter.names()
            job = context.functions.call(fn, args, kwargs, context=code_context, submitter_environment=environment)
        except Exception as error:
            # Pickling runs the caller's own code, which may raise anything; a full disk raises here too.
            return context.channel.failed(error, "python", into)
        return context.channel.submit(self._shaped(job), self._options, "python", into)

    def _open_context(self) -> ClientContext:
        context = self._context
        if context.shut:
            raise RuntimeError(_SHUT)
        if context.broken is not None:
            raise initializer_failed(str(context.broken))
        return context

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1) -> Iterator[T]:
        """Return the results of ``fn`` over the iterables, in order; everything is submitted at once.

        ``chunksize``: items for each task; above 1 for many small calls.  ``timeout``: seconds from now; TimeoutError after it.
        The first exception is raised in its place; what then has not begun is cancelled, also when the results are left half read.
        When an iterable raises, or at Ctrl-C, what was submitted until then and has not begun is cancelled.  ``fn`` is pickled once.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        end_s = None if timeout is None else time.monotonic() + timeout
        functions = self._context.functions
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
        """Run a numeric kernel (``matmul``, ``eigvals``, ``reduce``); the result holds its time, device and rate.

        ``params``: its sizes, for example ``n=2048``.  What cannot be run (shape, memory, device) fails the future with TaskFailed.
        Raises UsageError for a value that no kernel takes.
        """
        job = KernelJob(name=name, params=params, device=device, backend=backend, dtype=dtype, repeat=repeat, seed=seed)
        _check_kernel(job)
        return cast("TaskFuture[dict[str, Any]]", self._submit_job(job, "kernel"))

    def shell(
        self,
        argv: Sequence[str | bytes | os.PathLike[str]],
        *,
        cwd: str | bytes | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        split: bool = False,
    ) -> TaskFuture[ExitStatus]:
        """Run a program; the future gives its ExitStatus, whatever that is.  Never through a shell: write ``["sh", "-c", ...]`` for one.

        ``cwd`` and ``env``: this process's own unless given; umask and resource limits: this process's own.  ``split``: two pipes
        for stdout and stderr instead of one terminal, in which pagers are cat.
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
        return cast("TaskFuture[ExitStatus]", self._submit_job(job, "shell"))

    def _submit_job(self, job: KernelJob | ShellJob, kind: str) -> TaskFuture[Any]:
        context = self._open_context()
        try:
            job = replace(self._shaped(job), submitter_environment=context.submitter.submitter_environment())
        except OSError as error:
            return context.channel.failed(error, kind)
        return context.channel.submit(job, self._options, kind)

    def _shaped(self, job: J) -> J:
        """Return the job with the options of this view."""
        return replace(job, **self._job_options) if self._job_options else job

    def options(self, **given: Unpack[OptionKeywords]) -> View:
        """Return a view of this swarm whose tasks have these options; what is None stays as it is here.

        {keywords}

        Raises UsageError for a wrong value, TypeError for an unknown option.
        """
        keywords = by_keyword()
        task: dict[str, Any] = {}
        job: dict[str, Any] = {}
        for keyword, value in given.items():
            if keyword not in keywords:
                raise TypeError(f"there is no option {keyword!r}; options: {', '.join(keywords)}")
            option = keywords[keyword]
            if value is not None:
                (task if option.owner == "task" else job)[option.name] = _value(option, value)
        return View(self._context, GivenOptions(**{**given_values(self._options), **task}), {**self._job_options, **job})


class View(SubmitMixin):
    """A swarm seen with options of its own for each task; made by ``options``, owns nothing."""

    def __init__(self, context: ClientContext, options: GivenOptions, job_options: Mapping[str, Any]) -> None:
        self._context = context
        self._options = options
        self._job_options = job_options


def _value(option: TaskOption, value: Any) -> Any:
    """Return what the value of a keyword means.  Raises UsageError."""
    if option.keyword_values is None:
        return check(option, value, option.keyword)
    if not isinstance(value, bool):
        raise UsageError(f"{option.keyword} must be True or False, not {value!r}")
    return option.keyword_values[value]


def _describe_options() -> None:
    """Give ``options`` the signature and the docstring that the table of options makes."""
    keywords = by_keyword()
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += [inspect.Parameter(one, inspect.Parameter.KEYWORD_ONLY, default=None) for one in keywords]
    method: Any = SubmitMixin.options
    method.__signature__ = inspect.Signature(parameters, return_annotation=View)
    method.__doc__ = (method.__doc__ or "").replace("{keywords}", "\n        ".join(map(_line, keywords.values())))


def _line(option: TaskOption) -> str:
    """Return the line of the docstring about one keyword."""
    if option.keyword_values is None:
        return f"``{option.keyword}``: {option.help_text}"
    meanings = ", ".join(f"{value}: {meaning}" for value, meaning in option.keyword_values.items())
    return f"``{option.keyword}``: {option.help} ({meanings}) [default: {option.default_shown}]."


_describe_options()


def _check_kernel(job: KernelJob) -> None:
    """Refuse what is no kernel's; the worker checks what this kernel, library or device takes."""
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


def _chunks(rows: Iterator[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    while chunk := list(itertools.islice(rows, size)):
        yield chunk


def _in_order(futures: list[TaskFuture[Any]], end_s: float | None) -> Iterator[Any]:
    """Yield results in order; left early or by an exception, what has not begun is cancelled.

    A generator that is never started leaves everything running: that is how every executor's ``map`` is used for its effects.
    """
    futures.reverse()  # taken from the end: a result that was handed on is not kept
    try:
        while futures:
            yield _last(futures, end_s)
    except GeneratorExit:
        if futures:
            futures[0].channel.abandon_results(futures)
        raise
    except BaseException as error:
        _withdraw(futures, error)
        raise


def _withdraw(futures: list[TaskFuture[Any]], error: BaseException) -> None:
    """Cancel what has not begun because of ``error``, which gets a note when that could not be done; another Ctrl-C leaves at once."""
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
    futures.pop()  # only now: a wait that failed leaves it among those to cancel
    return value
