"""Everything that can happen to a worker (in) and everything its state can order (out).  Values only."""

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
    """The running task left this process so that it must not run another one of any kind: ``isolation.py``."""


class ChildGroup(msgspec.Struct, frozen=True):
    """The running task has a process group of its own."""

    task: int
    attempt: int
    group: int


class ConnectionDown(msgspec.Struct, frozen=True):
    """The connection ended.  There is one again when ``Who`` comes."""


class PaneCancel(msgspec.Struct, frozen=True):
    """A person pressed Ctrl-C twice in the pane."""


class PaneLost(msgspec.Struct, frozen=True):
    """The terminal is gone: finish, hand back the rest, leave."""


class Terminated(msgspec.Struct, frozen=True):
    """TERM came from outside (a shutdown, an out-of-memory daemon, a person's ``kill``): this process must end soon."""


class TimeElapsed(msgspec.Struct, frozen=True):
    """``next_deadline`` has come."""


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
    """Send this, if there is a connection; otherwise drop it."""

    message: Message


class Begin(msgspec.Struct, frozen=True):
    """Run this task now; answer with ``JobEnded``."""

    run: Run


class CancelTask(msgspec.Struct, frozen=True):
    """Ask the running task to end: TERM to its group, or an exception on the main thread."""

    task: int
    attempt: int
    why: str
    grace_s: float


class KillTask(msgspec.Struct, frozen=True):
    """KILL the process group of the running task.  ``JobEnded`` follows."""

    task: int
    attempt: int


class Unreported(msgspec.Struct, frozen=True):
    """This end is not reported, because the worker's own end caused it; what the task printed becomes its log."""

    outcome: Done | Failed


class SpillResults(msgspec.Struct, frozen=True):
    """Write down the results that are not ``Stored`` yet: KILL may follow at any moment."""


class ExitWorker(msgspec.Struct, frozen=True):
    """End this process.  ``kill``: a task still runs in it and must not live on.  Results not ``Stored`` are spilled.

    ``signal``: end by this one, so that who waits for the process is told the true cause; 0: in order.
    """

    why: str
    kill: bool = False
    signal: int = 0


Instruction: TypeAlias = Send | Begin | CancelTask | KillTask | Unreported | SpillResults | ExitWorker
