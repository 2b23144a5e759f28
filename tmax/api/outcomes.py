"""From how a task ended (``BulkEnd``) to what its future gives: a value, an exit status, or an exception."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tmax.api.future import TaskFuture
from tmax.api.task_errors import (
    InitializerFailed,
    RemoteTraceback,
    ResultNotSendable,
    SwarmGone,
    TaskBroken,
    TaskDead,
    TaskFailed,
    TaskInterrupted,
    TaskTimeout,
    initializer_failed,
)
from tmax.control.protocol import BulkEnd
from tmax.task_end import CANCELLED, DONE, end_of_failure
from tmax_pipes import blobs
from tmax_pipes.jobs import Body
from tmax_pipes.messages import Failure, Report
from tmax_pipes.pipe_errors import BlobError


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitStatus:
    """How a program ended.  A status other than 0 is a value like any other, not an exception."""

    task: int
    exit_code: int | None
    """None when a signal ended it."""
    signal: int | None = None
    output: bytes = b""
    """All of its output when that is short (4 KiB); else empty, and ``log`` holds all of it."""
    log: str = ""
    """The file with its output; empty when ``output`` holds it.  A temporary swarm takes it along when it ends."""
    duration_s: float = 0.0
    cpu_s: float = 0.0
    peak_rss_bytes: int = 0
    worker: str = ""

    @property
    def ok(self) -> bool:
        """True for exit status 0."""
        return self.exit_code == 0

    @property
    def returncode(self) -> int:
        """As ``subprocess`` has it: the exit status, or minus the signal."""
        return self.exit_code if self.exit_code is not None else -(self.signal or 0)


class ResultResolver:
    """Gives futures what became of their tasks.

    ``blobs`` and ``logs``: the swarm's folders of those names.  ``on_broken``: called when an initializer raised.
    """

    def __init__(self, blobs: str, logs: str, on_broken: Callable[[InitializerFailed], None] = lambda _error: None) -> None:
        self._blobs = blobs
        self._logs = logs
        self._on_broken = on_broken

    def settle(self, future: TaskFuture[Any], end: BulkEnd) -> None:
        """End this future; never raises."""
        if end.state == CANCELLED:
            future.cancelled_by_swarm()
            return
        try:
            outcome: object = self._exit_status(end) if future.kind == "shell" else None
            if outcome is None and end.state == DONE:
                outcome = self._value(end)
            elif outcome is None:
                future.fail(self._error(end))
                return
        except BaseException as error:
            # Unpickling runs code of the user's, which may also call sys.exit: whatever it raises is this future's affair, and only this
            # one's.  On the reader thread nothing else would see it, and every future would wait for ever.
            future.fail(_unreadable(end, error))
        else:
            future.fulfil(outcome)

    def _value(self, end: BulkEnd) -> object:
        if end.form == "none":
            return None
        data = blobs.load(self._blobs, end.result)
        return json.loads(data) if end.form == "json" else pickle.loads(data)

    def _exit_status(self, end: BulkEnd) -> ExitStatus | None:
        """Return how a program ended; None when that was not its own end: not started, cut short, its worker died."""
        meaning = end_of_failure(end.state, end.failure)
        if not meaning.is_own:
            return None
        report = end.report or Report()
        return ExitStatus(
            task=end.id,
            exit_code=meaning.status,
            signal=meaning.signal,
            output=report.tail,
            log=f"{self._logs}/{end.id}.log" if report.output_bytes > len(report.tail) else "",
            duration_s=report.duration_s,
            cpu_s=report.cpu_s,
            peak_rss_bytes=report.peak_rss_bytes,
            worker=end.worker,
        )

    def _error(self, end: BulkEnd) -> BaseException:
        if end.state in {"dead", "interrupted"}:
            return _broken(end)
        if end.state == "unknown":
            return SwarmGone(f"task {end.id} is not known to the swarm any more: it ended long ago, or the swarm was made anew")
        failure = end.failure or Failure(kind="refused", message="no reason was recorded")
        if failure.kind == "initializer":
            broken = initializer_failed(failure.message, task=end.id)
            self._on_broken(broken)
            return _with_traceback(broken, failure)
        if failure.kind == "timeout":
            return TaskTimeout(f"task {end.id}: {failure.message}", task=end.id, worker=end.worker)
        if failure.kind == "unpicklable":
            return _with_traceback(ResultNotSendable(failure.message, failure.hint, task=end.id, traceback=failure.traceback), failure)
        raised = self._raised(failure.error) if failure.kind in {"exception", "exit"} and failure.error is not None else None
        if raised is None:
            raised = TaskFailed(failure.message, task=end.id, kind=failure.kind, worker=end.worker, hint=failure.hint)
        return _with_traceback(raised, failure)

    def _raised(self, body: Body) -> BaseException | None:
        """Return the exception that the function raised; None when it cannot be made again here."""
        try:
            error = pickle.loads(blobs.load(self._blobs, body))
        except BaseException:
            # Its class may not exist here or need other arguments, or call sys.exit; the message and the traceback are known as text.
            return None
        return error if isinstance(error, BaseException) else None


def _with_traceback(error: BaseException, failure: Failure) -> BaseException:
    if failure.traceback:
        error.__cause__ = RemoteTraceback(failure.traceback)
    return error


def _broken(end: BulkEnd) -> TaskBroken:
    last = end.crashes[-1] if end.crashes else None
    causes = tuple(f"{crash.worker}: {crash.cause}" for crash in end.crashes)
    message = f"{end.failure.message}" if end.failure else f"the task is {end.state}"
    if causes:
        message += f"; its worker died {len(causes)} time{'s' if len(causes) > 1 else ''} ({causes[-1]})"
    return (TaskDead if end.state == "dead" else TaskInterrupted)(
        f"task {end.id}: {message}",
        task=end.id,
        signal=last.signal if last else None,
        peak_rss_bytes=max((crash.peak_rss_bytes for crash in end.crashes), default=0),
        worker=last.worker if last else end.worker,
        causes=causes,
    )


def _unreadable(end: BulkEnd, error: BaseException) -> BaseException:
    if isinstance(error, BlobError):
        made = ResultNotSendable(
            f"the result of task {end.id} cannot be read: {error}", hint="was the swarm's state folder cleared?", task=end.id
        )
    else:
        made = ResultNotSendable(f"the result of task {end.id} cannot be unpickled here: {type(error).__name__}: {error}", task=end.id)
    made.__cause__ = error
    return made
