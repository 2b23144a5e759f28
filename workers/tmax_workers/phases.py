"""The phases of a worker (``state_machine.py``), and rules about the end of a running task.  Values and rules without a clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from tmax_pipes.jobs import ShellJob
from tmax_pipes.messages import Done, Failed, Run

SETTLE_S = 0.2
"""How long the end of a command by a signal from outside is withheld.  A shutdown sends the same signal to the command and
to its worker, in any order: if it reaches the worker meanwhile, the end is not the command's own."""

DYING_S = 5.0
"""How long a worker that must die waits for its last results to be ``Stored``."""
SIGTERM = 15
_SHUTDOWN_SIGNALS = frozenset({1, 2, 3, 9, 15})
"""HUP, INT, QUIT, KILL, TERM: signals that are sent to many processes at once.  Others come from the command itself."""


@dataclass(slots=True, kw_only=True)
class Idle:
    """Nothing runs."""


@dataclass(slots=True, kw_only=True)
class AwaitingGo:
    """This task is next and waits for ``Go``."""

    run: Run


Reason: TypeAlias = Literal["cancelled", "timeout", "leaving"]
"""Why a running task is ended: by its submitter, by its time limit, or because its worker has to leave.  An end that only
the worker's leaving caused is not reported: the controller sees the death and decides as for any other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The running task is being ended."""

    kind: Reason
    message: str
    kill_at: float


@dataclass(slots=True, kw_only=True)
class Running:
    """This task runs."""

    run: Run
    since: float
    ending: Ending | None = None
    killed: bool = False


@dataclass(slots=True, kw_only=True)
class Settling:
    """A signal from outside ended a command; ``outcome`` is reported at ``until``."""

    run: Run
    outcome: Failed
    until: float


@dataclass(slots=True, kw_only=True)
class Dying:
    """The process must end, because of a task that runs in it; it waits for its results to be ``Stored``."""

    until: float


@dataclass(slots=True, kw_only=True)
class Gone:
    """``ExitWorker`` was issued; nothing may follow."""


Phase: TypeAlias = Idle | AwaitingGo | Running | Settling | Dying | Gone
Leaving: TypeAlias = Literal["", "drain", "now", "pane", "killed"]


class UnknownTransition(Exception):
    """An event arrived in a phase that has no rule for it, which is a bug.  ``past``: the last events, oldest first."""

    def __init__(self, phase: Phase, event: object, past: list[object]) -> None:
        self.phase = phase
        self.event = event
        self.past = past
        past_events = "\n".join(f"  {one!r:.300}" for one in past)
        super().__init__(f"no rule for {type(event).__name__} while {type(phase).__name__}; the last events:\n{past_events}")


def due(phase: Running) -> float | None:
    """Return when the running task must be ended, or killed; None: no limit, or killed already."""
    if phase.ending is not None:
        return None if phase.killed else phase.ending.kill_at
    return phase.since + phase.run.options.timeout_s if phase.run.options.timeout_s > 0 else None


def message_of(kind: Reason, run: Run) -> str:
    """Return the failure message of a task that was ended for this reason."""
    if kind == "timeout":
        return f"timed out after {run.options.timeout_s:g} s" if run.options.timeout_s > 0 else "timed out"
    return kind


def is_own_end(run: Run, outcome: Done | Failed) -> bool:
    """Whether this end is the task's own, although its worker is leaving.

    Only a value that a function returned counts: a program may exit with any status on TERM, and ``sys.exit`` (a ``Done``
    without a value) may come from a signal handler.
    """
    return isinstance(outcome, Done) and outcome.form != "none" and not isinstance(run.job, ShellJob)


def may_be_shutdown(run: Run, outcome: Done | Failed) -> bool:
    """Whether a shutdown may have caused this end: a signal, or a shell's exit status of 128 + signal."""
    if not isinstance(run.job, ShellJob) or isinstance(outcome, Done):
        return False
    failure = outcome.failure
    number = failure.signal if failure.kind == "signal" else (failure.exit_code or 0) - 128
    return number in _SHUTDOWN_SIGNALS
