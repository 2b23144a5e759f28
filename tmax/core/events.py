"""Everything that can happen (in) and everything that can be ordered (out).

``Scheduler.handle(events, now) -> Turn``: the turn's changes are committed first, its actions carried out after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import msgspec

from tmax.core.model import LifeRecord, NewTask, Task
from tmax_pipes.messages import FromWorker, Hello, ToWorker

# -- in --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A client wants tasks run.  ``known``: its request ids that the store already holds, with their task."""

    token: int
    """Names the waiting client for ``Accepted`` and ``Refused``."""
    tasks: tuple[NewTask, ...]
    known: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    """A person or client wants these tasks ended; ``begun=False``: only those that have not begun."""

    token: int
    tasks: tuple[int, ...]
    begun: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldSet:
    """Stop (True) or go on (False) handing out tasks."""

    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """The swarm is going down: nothing new is handed out.  ``now``: running tasks are ended, else they are finished."""

    now: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """This controller was asked to end by a signal: the last turn.  Its workers live on, or end in the same shutdown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeStarted:
    """The engine has a process for this life (its session exists); it has not greeted yet."""

    life: int
    pid: int
    ticks: int
    session: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeConnected:
    """A worker said Hello on a fresh connection, or again after being renamed."""

    life: int
    hello: Hello
    reconnected: bool = False
    """True when the connection is new: what was in flight may be lost and is reconciled."""
    connection: int = 0
    """Number of the connection; what is said because of this greeting names it."""


class LifeMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A worker said something (anything but Hello).  Two a task: made in a fifth of the time of a frozen dataclass."""

    life: int
    message: FromWorker


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeSilent:
    """A connection ended.  The process may well be alive."""

    life: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LifePaneless:
    """Its session is gone (tmux was killed); the process lives on."""

    life: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeEnded:
    """The kernel says this life is over, and every process it left behind is confirmed dead."""

    life: int
    cause: str
    """For people: ``killed by SIGKILL``, ``exited with 0``, ``did not start in 60 s``..."""
    signal: int | None = None
    exit_code: int | None = None
    peak_rss_bytes: int = 0
    whole: bool = False
    """The whole swarm ended with it (a reboot, a shutdown, a kill of everything): no task is to blame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed; nothing else happened."""


Event: TypeAlias = (
    Submitted
    | CancelRequested
    | HoldSet
    | Leaving
    | Stopping
    | LifeStarted
    | LifeConnected
    | LifeMessage
    | LifeSilent
    | LifePaneless
    | LifeEnded
    | Tick
)

# -- out: actions ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Tell the client that its tasks are committed, under these ids (in the order given)."""

    token: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAnswered:
    """Tell the client what became of each task it wanted ended: ``cancelled``, ``ending``, an end state, or ``unknown``."""

    token: int
    results: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartLife:
    """Start a worker process for this life under this name."""

    life: int
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NameLife:
    """A pooled worker was taken: rename its session."""

    life: int
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendMessages:
    """Send messages to a worker, in this order."""

    life: int
    messages: tuple[ToWorker, ...]
    connection: int = 0
    """The connection this was decided for.  On any other it must be dropped: a greeting that is not handled yet will have it
    said again, and a task that is said twice may run twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KillLife:
    """End this life's process and all it started, now; ``LifeEnded`` follows."""

    life: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksEnded:
    """These tasks have ended and are committed: tell whoever waits for them."""

    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmReady:
    """All wanted workers are ready: preloaded, and one no-op has returned through the FIFOs of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmEmpty:
    """Going down is complete: no life is left."""


Action: TypeAlias = Accepted | CancelAnswered | StartLife | NameLife | SendMessages | KillLife | TasksEnded | SwarmReady | SwarmEmpty

# -- out: what to record ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What one turn must write, in one transaction.  Each task and each life stands here once, in its final form of the turn."""

    new_tasks: tuple[Task, ...] = ()
    tasks: tuple[Task, ...] = ()
    lives: tuple[LifeRecord, ...] = ()
    """Inserted or replaced, by life."""
    meta: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.new_tasks or self.tasks or self.lives or self.meta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What to commit, then what to do, and when to call again if nothing happens before."""

    changes: Changes
    actions: tuple[Action, ...]
    wake_at: float | None = None
    """On the clock of ``now``; None: only an event can matter."""
