"""A task's exception as data: message, traceback without the worker's frames, and a pickle where that is possible."""

from __future__ import annotations

import pickle
import sys
import traceback
from types import TracebackType

from msgspec.structs import replace

from tmax_pipes import blobs
from tmax_pipes.jobs import Body, Job, PythonJob
from tmax_pipes.messages import Failure
from tmax_pipes.pipe_errors import BlobError
from tmax_workers.cancel import TaskCancelled
from tmax_workers.kinds.python import TargetNotFound, Unpicklable
from tmax_workers.process_context import InitializerRaised
from tmax_workers.worker_errors import Refused

MESSAGE_CHARS = 4000
TRACEBACK_CHARS = 32_000
_OWN = frozenset({__name__.partition(".")[0], blobs.__name__.partition(".")[0]})


def failure_of(error: BaseException, blob_folder: str) -> Failure:
    """Return the Failure that reports ``error``; never raises, whatever the user's exception does when it is printed or pickled."""
    if isinstance(error, Refused):
        return Failure("refused", error.message, hint=error.hint)
    if isinstance(error, TargetNotFound):
        return Failure("notfound", error.message, traceback=_traceback_text(error.__cause__), hint=error.hint)
    if isinstance(error, Unpicklable):
        return Failure("unpicklable", error.message, traceback=_traceback_text(error.__cause__), hint=error.hint)
    if isinstance(error, TaskCancelled):
        return Failure("cancelled", "cancelled", traceback=_traceback_text(error))
    if isinstance(error, InitializerRaised):
        return Failure(
            "initializer", error.args[0], traceback=_traceback_text(error.__cause__), hint="check the initializer of this executor"
        )
    if isinstance(error, BlobError):
        return Failure("refused", f"the task's body cannot be read: {error}")
    return Failure("exception", _message(error), traceback=_traceback_text(error), error=_pickled(error, blob_folder))


def exit_code_of(error: SystemExit) -> int:
    """Return the exit status of a program that raises this; prints the text of ``sys.exit("text")``."""
    code = error.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF if -(1 << 63) <= code < 1 << 63 else 255  # as in Python: an int that overflows a C long counts as -1
    try:
        print(code, file=sys.stderr, flush=True)
    except Exception:  # the user's __str__, or a closed stream: it is an exit all the same
        pass
    return 1


def exit_of(error: SystemExit, code: int, blob_folder: str) -> Failure:
    """Return the Failure of a task that called ``sys.exit`` with this status, other than 0."""
    return Failure("exit", f"exit {code}", exit_code=code, error=_pickled(error, blob_folder))


def end_child(error: BaseException | None) -> int:
    """Return the exit status of a task's forked child, as of any program: 0, or that of the exception it raised."""
    code = 0
    try:
        if isinstance(error, SystemExit):
            code = exit_code_of(error)
        elif error is not None:
            code = 1
            print(_traceback_text(error), end="", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:  # the task's own stream objects may raise anything
        pass
    return code


def failure_of_job(job: Job, error: BaseException, blob_folder: str) -> Failure | None:
    """Return the Failure for an exception of a job; None for an exit with status 0.

    A target ``module:function`` exits like a program; a submitted function's SystemExit is raised by its future.
    """
    if not isinstance(error, SystemExit):
        return failure_of(error, blob_folder)
    if isinstance(job, PythonJob) and job.target:
        code = exit_code_of(error)
        return exit_of(error, code, blob_folder) if code else None
    code = error.code if isinstance(error.code, int) else 0
    failure = failure_of(error, blob_folder)
    return replace(failure, kind="exit", exit_code=code & 0xFF) if code & 0xFF else failure


def _message(error: BaseException) -> str:
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:  # the user's __str__ may do anything
        text = "(its text could not be made)"
    return (f"{name}: {text}" if text else name)[:MESSAGE_CHARS].encode("utf-8", "backslashreplace").decode()


def _traceback_text(error: BaseException | None) -> str:
    if error is None:
        return ""
    try:
        lines = traceback.format_exception(type(error), error, _without_own_frames(error.__traceback__))
    except Exception as failed:  # a user's exception may do anything when it is formatted
        return f"{type(error).__name__} (its traceback could not be made: {type(failed).__name__})"
    text = "".join(lines).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= TRACEBACK_CHARS else f"{text[: TRACEBACK_CHARS // 2]}\n...\n{text[-TRACEBACK_CHARS // 2 :]}"


def _without_own_frames(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame outside of tmax; None when there is none: a wrong argument, or a function written in C."""
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0] in _OWN:
        trace = trace.tb_next
    return trace


def _pickled(error: BaseException, blob_folder: str) -> Body | None:
    """The pickled exception, if it can be unpickled again."""
    try:
        data = _dump(error)
        if isinstance(pickle.loads(data), BaseException):
            return blobs.body_of(blob_folder, data)
    except Exception:  # the user's own pickling code; message and traceback are reported anyway
        pass
    return None


def _dump(error: BaseException) -> bytes:
    try:
        return pickle.dumps(error, 5)
    except Exception:  # its class may be defined in the submitter's script; cloudpickle includes it
        from tmax_workers.kinds.resultpickler import dump

        return dump(error)
