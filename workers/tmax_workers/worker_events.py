"""The events of a worker's state machine (in) and its instructions (out).  Values only."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from tmax_pipes.messages import Done, Failed, Go, Message, Recall, Run, Stop, Stored, Who

# -- in: what happens here ----------------------------------------------------------------------------------


class JobEnded(msgspec.Struct, frozen=True):
    """The running task has ended."""

    outcome: Done | Failed


class StaleFound(msgspec.Struct, frozen=True):
    """Code of imported user modules changed on disk: this process must not run another Python task."""


class UsedUp(msgspec.Struct, frozen=True):
    """The running task changed this process so that it must not run another task of any kind (``isolation.py``)."""


class ChildGroup(msgspec.Struct, frozen=True):
    """The running task has its own process group."""

    task: int
    attempt: int
    group: int


class ConnectionDown(msgspec.Struct, frozen=True):
    """The connection ended.  The next ``Who`` means a new one."""


class PaneCancel(msgspec.Struct, frozen=True):
    """A person pressed Ctrl-C twice in the pane."""


class PaneLost(msgspec.Struct, frozen=True):
    """The terminal is closed: finish the running task, give back the others, leave."""


class Terminated(msgspec.Struct, frozen=True):
    """TERM came from outside (a shutdown, an out-of-memory daemon, a person's ``kill``): this process must end soon."""


class TimeElapsed(msgspec.Struct, frozen=True):
    """``next_deadline`` has passed."""


Event: TypeAlias = (
    Who
    | Run
    | Go
    | Recall
    | Stored
    | Stop
    | JobEnded
    | StaleFound
    | UsedUp
    | ChildGroup
    | ConnectionDown
    | PaneCancel
    | PaneLost
    | Terminated
    | TimeElapsed
)

# -- out: what to do ------------------------------------------------------------------------------------


class Send(msgspec.Struct, frozen=True):
    """Send this message, or drop it when there is no connection."""

    message: Message


class Begin(msgspec.Struct, frozen=True):
    """Run this task now; ``JobEnded`` reports its end."""

    run: Run


class CancelTask(msgspec.Struct, frozen=True):
    """End the running task: TERM to its group, or an exception on the main thread."""

    task: int
    attempt: int
    why: str
    grace_s: float


class KillTask(msgspec.Struct, frozen=True):
    """KILL the process group of the running task.  ``JobEnded`` follows."""

    task: int
    attempt: int


class Unreported(msgspec.Struct, frozen=True):
    """Do not report this end, because the worker's own end caused it; write the task's output to its log."""

    outcome: Done | Failed


class SpillResults(msgspec.Struct, frozen=True):
    """Write the results that are not ``Stored`` to a file now: KILL may follow at any moment."""


class ExitWorker(msgspec.Struct, frozen=True):
    """End this process.  ``kill``: a task still runs in it and must end too.  Results not ``Stored`` are spilled.

    ``signal``: end by this signal, so that the parent gets the true cause; 0: exit with status 0.
    """

    why: str
    kill: bool = False
    signal: int = 0


Instruction: TypeAlias = Send | Begin | CancelTask | KillTask | Unreported | SpillResults | ExitWorker
