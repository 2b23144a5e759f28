"""The scheduler's input (events) and output (actions, and changes to commit).

``Scheduler.handle(events, now, wall) -> Turn``: the loop commits the turn's changes first and then carries out its actions.
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
    """A client submits tasks.  ``known``: those of its request ids that the store already holds, with their tasks."""

    token: int
    """Identifies the waiting client in ``Accepted``."""
    tasks: tuple[NewTask, ...]
    known: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequested:
    """A client cancels these tasks; ``begun=False``: only those that have not begun."""

    token: int
    tasks: tuple[int, ...]
    begun: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldSet:
    """Hold (True) or resume (False) the queue.  A held queue starts no tasks."""

    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """The swarm is going down and starts no more queued tasks.  ``now``: running tasks are ended; else they finish."""

    now: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """This controller received SIGTERM: this is its last turn.  Its workers keep running, or end in the same shutdown of the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeStarted:
    """The engine has started the process of this life (its session exists); the process has not sent Hello yet."""

    life: int
    pid: int
    ticks: int
    session: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeConnected:
    """A worker sent Hello on a new connection, or again after it was renamed."""

    life: int
    hello: Hello
    reconnected: bool = False
    """True when the connection is new: messages in flight may be lost, so both ends compare what they hold."""
    connection: int = 0
    """Number of the connection; messages sent because of this Hello carry it."""


class LifeMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A worker sent a message other than Hello.

    A msgspec Struct, as there are two for each task: it is made in a fifth of the time of a frozen dataclass.
    """

    life: int
    message: FromWorker


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeSilent:
    """The connection to a worker ended.  Its process may still be alive."""

    life: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LifePaneless:
    """The worker's session is gone (tmux was killed); its process is still alive."""

    life: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeEnded:
    """The kernel reported the end of this process, and every process that it left behind is confirmed dead."""

    life: int
    cause: str
    """Text for messages: ``killed by SIGKILL``, ``exited with 0``, ``did not start in 60 s``..."""
    signal: int | None = None
    exit_code: int | None = None
    peak_rss_bytes: int = 0
    whole: bool = False
    """All workers ended with it (a reboot, a shutdown, a kill of everything): no task is charged for the death."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A timer fired; nothing else happened."""


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
    """Report to the client that its tasks are committed, with their ids in the order submitted."""

    token: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAnswered:
    """Report to the client the result for each task it cancelled: ``cancelled``, ``ending``, ``running`` or ``unknown``."""

    token: int
    results: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartLife:
    """Start a worker process for this life under this name."""

    life: int
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NameLife:
    """Rename the session of this life: a pooled worker was taken into the swarm, or a worker lost its name to its successor."""

    life: int
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SendMessages:
    """Send messages to a worker, in this order."""

    life: int
    messages: tuple[ToWorker, ...]
    connection: int = 0
    """The connection these were decided for.  The engine drops them on any other: the Hello of that one, which is not handled yet,
    has them sent again, and a task that is sent twice may run twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KillLife:
    """End this life's process and every process it started, now; ``LifeEnded`` follows."""

    life: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksEnded:
    """These tasks have ended and are committed: report it to the clients that wait for them."""

    tasks: tuple[Task, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmReady:
    """All wanted workers are ready: preloaded, and one no-op has returned through the FIFOs of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmEmpty:
    """The swarm is down: no worker process is left."""


Action: TypeAlias = Accepted | CancelAnswered | StartLife | NameLife | SendMessages | KillLife | TasksEnded | SwarmReady | SwarmEmpty

# -- out: what to record ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What one turn must write, in one transaction.  Each task and each life is listed once, as it is at the end of the turn."""

    new_tasks: tuple[Task, ...] = ()
    tasks: tuple[Task, ...] = ()
    lives: tuple[LifeRecord, ...] = ()
    """Inserted or replaced, by life."""
    meta: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.new_tasks or self.tasks or self.lives or self.meta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What to commit, which actions to carry out after that, and when to call ``handle`` again without an event."""

    changes: Changes
    actions: tuple[Action, ...]
    wake_at: float | None = None
    """On the clock of ``now``; None: no timer is due."""
