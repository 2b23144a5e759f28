"""What an engine of worker processes knows of each."""

from __future__ import annotations

from dataclasses import dataclass, field

from tmax.engines.reaper import Group
from tmax.engines.worker_connection import WorkerConnection
from tmax.reactor import Timer
from tmax_pipes.messages import Beat, Done, Failed, Key, Message, Recalled, Started
from tmax_pipes.proc_stat import start_ticks


@dataclass(slots=True)
class WorkerProcess:
    """One worker process, from the order to start it until ``LifeEnded`` was reported."""

    life: int
    worker: str
    """Its name in the swarm; also its session's, where it has one."""
    pid: int = 0
    ticks: int = 0
    pidfd: int = -1
    reported: bool = False
    """``LifeStarted`` was reported, now or by an earlier controller."""
    greeted: bool = False
    """It has sent Hello to us, or was known to an earlier controller."""
    paneless: bool = False
    """Its session was closed, or went down with tmux."""
    creating: bool = False
    """The host was requested to start it and has not answered."""
    ending: bool = False
    doomed: str = ""
    """Why we end it ourselves; empty: we do not."""
    whole: str = ""
    """The whole swarm ended with it, for this cause; empty: it did not."""
    connection: WorkerConnection | None = None
    connections: int = 0
    """Number of the latest connection opened; lower ones are of the past."""
    timer: Timer | None = None
    """Ends it when it does not start in time."""
    search: Timer | None = None
    """Looks for its next place."""
    searches: int = 0
    groups: dict[Key, Group] = field(default_factory=dict)
    """Process groups of running tasks."""
    running: int = 0
    """The task that runs, by what it reported; 0: none."""
    peak_rss_bytes: int = 0

    def note(self, message: Message) -> None:
        """Remember what its teardown needs: what runs and in which group, and the most memory it reported."""
        if isinstance(message, Started):
            self.running = message.task
            if message.group:
                ticks = start_ticks(message.group)
                self.groups[message.task, message.attempt] = Group(group=message.group, ticks=ticks, since_ticks=self.ticks)
        elif isinstance(message, (Done, Failed, Recalled)):
            self.groups.pop((message.task, message.attempt), None)
            if self.running == message.task:
                self.running = 0
        elif isinstance(message, Beat):
            self.peak_rss_bytes = max(self.peak_rss_bytes, message.rss_bytes)

    def cancel_timers(self) -> None:
        """Cancel whatever is to happen by time."""
        for timer in (self.timer, self.search):
            if timer is not None:
                timer.cancel()
        self.timer = self.search = None
