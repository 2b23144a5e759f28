"""The errors people see, their exit codes, and what to do about each: the root of one family, ``TmaxError``.

``tmax.api.task_errors`` adds what futures of the Python API raise; ``docs/errors.md`` lists all; programs import them from ``tmax``.
The CLI prints ``error:`` and ``hint:``; a traceback only with ``--debug``.  To the CLI a failed task is data, never one of these.
Imported by every command: not even ``enum``, which costs a quarter of a bare interpreter's start.
"""

from __future__ import annotations


class ExitCode:
    """Exit codes; stable.  Plain integers."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_SWARM = 3
    NOT_FOUND = 4
    DATA = 74
    """The store needs a person's decision, or standard output cannot be written."""
    TIMEOUT = 75
    """The wait timed out; the task is still running."""
    TASK_TIMEOUT = 124
    """The task was ended at its time limit (``run``, ``result``), as ``timeout`` has it."""
    INTERRUPTED = 130


class TmaxError(Exception):
    """The base of every exception of tmax.

    ``message``: what was wrong.  ``hint``: what to do about it, may be empty.  ``code``: the name of its kind in JSON.
    ``exit_code``: of the command that ends with it.
    """

    code: str = "error"
    exit_code: int = ExitCode.FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(message)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle it by its fields: the arguments of some classes are other than those of their base."""
        return _made_again, (type(self), self.args, self.__dict__)


def _made_again(kind: type[TmaxError], args: tuple[object, ...], fields: dict[str, object]) -> TmaxError:
    error = kind.__new__(kind)
    BaseException.__init__(error, *args)
    error.__dict__.update(fields)
    return error


class UsageError(TmaxError):
    """The command was not understood, or a value is not allowed."""

    code = "usage"
    exit_code = ExitCode.USAGE


class ConfigError(TmaxError):
    """A setting is unknown or has a wrong value; the message names the file or variable."""

    code = "config"
    exit_code = ExitCode.USAGE


class NoSwarm(TmaxError):
    """No controller answers for this swarm."""

    code = "no-swarm"
    exit_code = ExitCode.NO_SWARM

    def __init__(self, swarm: str, why: str = "is not running") -> None:
        self.swarm = swarm
        flag = "" if swarm == "default" else f" --swarm {swarm}"
        super().__init__(f"swarm {swarm!r} {why}", hint=f"start it with: tmax init{flag}")


class NotFound(TmaxError):
    """There is no such task or worker."""

    code = "not-found"
    exit_code = ExitCode.NOT_FOUND


class WaitTimedOut(TmaxError):
    """The wait timed out; the task is still running."""

    code = "timeout"
    exit_code = ExitCode.TIMEOUT


class FolderError(TmaxError):
    """A folder tmax needs is missing, unsafe or not ours."""

    code = "folder"

    def __init__(self, path: str, why: str, hint: str = "") -> None:
        self.path = path
        self.why = why
        super().__init__(f"{path} {why}", hint or "set XDG_STATE_HOME (kept files) or XDG_RUNTIME_DIR (sockets) to a folder of yours")


class TmuxError(TmaxError):
    """tmux is missing, too old, hung, or refused a command."""

    code = "tmux"


class NoTerminals(TmaxError):
    """The workers of this swarm have no terminals: its engine is not tmux."""

    code = "no-terminals"

    def __init__(
        self,
        message: str = "the workers of this swarm have no terminals (swarm.engine is not tmux)",
        hint: str = "tmax logs -f TASK follows what a task prints; tmax status shows the workers",
    ) -> None:
        super().__init__(message, hint)


class StoreError(TmaxError):
    """The store cannot be opened, read or written."""

    code = "store"
    exit_code = ExitCode.DATA


class StorageFull(StoreError):
    """The disk is full; nothing new is accepted, what runs is still recorded."""

    code = "storage-full"
    exit_code = ExitCode.FAILED


class OutputError(TmaxError):
    """Standard output cannot be written: a full disk, a closed descriptor, a device that fails."""

    code = "output"
    exit_code = ExitCode.DATA


class WorkerLost(TmaxError):
    """Workers end before they are ready; the message has the last cause."""

    code = "worker-lost"


ERRORS_BY_CODE: dict[str, type[TmaxError]] = {
    kind.code: kind
    for kind in (UsageError, ConfigError, NotFound, WaitTimedOut, TmuxError, NoTerminals, StoreError, StorageFull, WorkerLost)
}


def from_wire(error: dict[str, str]) -> TmaxError:
    """Return the error a controller answered with (``{"code", "message", "hint"}``), as the class of its code.

    Codes of errors that are made of other things than a message (``no-swarm``, ``folder``) and unknown ones come as plain TmaxError
    that keeps the code and the exit code.
    """
    code = error.get("code", "")
    made = ERRORS_BY_CODE.get(code, TmaxError)(error.get("message", "unknown error"), error.get("hint", ""))
    made.code = code or made.code
    if code == NoSwarm.code:
        made.exit_code = NoSwarm.exit_code
    return made
