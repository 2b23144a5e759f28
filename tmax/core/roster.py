"""The worker processes (lives): which exist, which names they have, and which must be started.

A *slot* is a name (``w1``...) that should have a worker.  An empty slot takes a ready life out of the pool when
there is one (only its session is renamed); else a new life is started under its name.  The number of a life is never
used again, so a process cannot be confused with its successor.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tmax.core.model import LifeRecord, WorkerState
from tmax_pipes.link import ControllerLink

W = WorkerState

RESTART_DELAY_MAX_S = 30.0


@dataclass(slots=True)
class Life:
    """One worker process as the scheduler sees it.  Mutable, so other packages see it only as ``query.WorkerFacts``."""

    record: LifeRecord
    state: WorkerState = W.STARTING
    link: ControllerLink = field(default_factory=ControllerLink)
    """The messages sent to it that it has not acknowledged."""
    missing: tuple[str, ...] = ()
    """Modules that it could not preload, each with the reason."""
    connection: int = 0
    """The connection on which it sent its last Hello."""
    held: dict[int, int] = field(default_factory=dict)
    """Leased tasks in the order sent: task -> attempt."""
    running: int = 0
    """The task that started last and has not ended; 0: none known."""
    mean_s: float | None = None
    """Moving average of the durations of its tasks, in seconds."""
    last_message_at: float = 0.0
    progress_at: float = 0.0
    """When it last started or ended a task."""
    tasks_failed: int = 0
    beat_rss_bytes: int = 0
    """Resident memory in its last heartbeat."""
    recalled: set[int] = field(default_factory=set)
    """Recalled tasks that it has not returned."""
    withdrawn: set[int] = field(default_factory=set)
    """Those of them that their client cancelled: they end as cancelled when they are returned."""
    killed: str = ""
    """Why the controller ended it; empty: it did not."""
    retiring: bool = False
    """It was ordered to end after what it runs, or at once."""
    kept_for: str = ""
    """The part of the queue for which it is replaced once it is empty; it gets no more tasks.  Empty: none."""

    @property
    def id(self) -> int:
        return self.record.life

    @property
    def name(self) -> str:
        return self.record.worker

    @property
    def context(self) -> str:
        return self.record.context

    @property
    def pooled(self) -> bool:
        return self.record.worker.startswith("pool-")

    @property
    def number(self) -> int:
        """Number of its slot, for sorting."""
        digits = "".join(filter(str.isdigit, self.record.worker))
        return int(digits) if digits else 0

    @property
    def is_proven(self) -> bool:
        """Whether it has answered its readiness probe; also true for a disconnected worker that holds tasks of an earlier controller."""
        return self.state in (W.IDLE, W.BUSY) or (self.state is W.SILENT and bool(self.held))

    @property
    def takes_work(self) -> bool:
        """Whether tasks may be sent to it."""
        return self.state in (W.IDLE, W.BUSY) and not self.retiring and not self.killed and not self.pooled


class Roster:
    """All lives not known to be dead, the wanted slots, and the rules for starting and replacing workers."""

    def __init__(self, *, workers: int, pool: int, restart_delay_s: float, deaths_limit: int, next_life: int = 1) -> None:
        self.workers_wanted = workers
        self.pool_wanted = pool
        self.nested = 0
        """How many nested workers are wanted beside the regular ones (``nesting.py``)."""
        self.nested_until = 0.0
        """Nested workers stay at least until this time."""
        self.nested_used = 0
        """The highest number of a nested worker that had a task after the last turn."""
        self.next_life = next_life
        self.lives: dict[int, Life] = {}
        self.ready_once = False
        self.deaths = 0
        """Unexpected deaths since this controller started."""
        self.last_cause = ""
        """The cause of the last death, as the kernel reported it."""
        self._restart_delay_s = restart_delay_s
        self._deaths_limit = deaths_limit
        self._in_a_row = 0
        self.not_before = 0.0
        """No life is started earlier than this."""

    def adopt(self, record: LifeRecord) -> Life:
        """Add a life of an earlier controller; it is silent until it sends Hello or is found dead."""
        life = Life(record=record, state=W.SILENT)
        self.lives[record.life] = life
        self.nested = max(self.nested, self.nested_number(life))
        return life

    @property
    def gave_up(self) -> bool:
        """Whether so many workers died before they were ready that no more are started."""
        return bool(self._deaths_limit) and self._in_a_row >= self._deaths_limit * max(1, self.workers_wanted)

    def reset_backoff(self) -> None:
        """Reset the restart back-off, so that workers are started again at once."""
        self._in_a_row = 0
        self.not_before = 0.0

    def slots(self) -> dict[str, Life]:
        """Return the named workers (not the pooled ones) by name."""
        return {life.name: life for life in self.lives.values() if not life.pooled}

    def wanted_names(self) -> list[str]:
        """Return the names that should have a worker, nested ones last."""
        return [f"w{number}" for number in range(1, self.workers_wanted + self.nested + 1)]

    def nested_names(self) -> list[str]:
        """Return the names that should have a nested worker."""
        return self.wanted_names()[self.workers_wanted :]

    def nested_number(self, life: Life) -> int:
        """Return the number of this nested worker, from 1; 0 or less for others and for a life that lost its slot."""
        return life.number - self.workers_wanted if life.name.startswith("w") else 0

    def is_nested(self, life: Life) -> bool:
        """Return whether this is a nested worker."""
        return self.nested > 0 and self.nested_number(life) > 0  # called for each worker in each turn; usually there are none

    def works_nested(self, life: Life) -> bool:
        """Return whether this is a nested worker that has a task."""
        return self.is_nested(life) and bool(life.held)

    def all_ready(self) -> bool:
        """Return whether each regular name has a worker that is proven (``Life.is_proven``)."""
        slots = self.slots()
        return all(name in slots and slots[name].is_proven for name in self.wanted_names()[: self.workers_wanted])

    def remove_dead(self, life: Life, now: float, *, cause: str, expected: bool) -> None:
        """Remove a dead life; after an unexpected death before it was ready, delay further starts."""
        del self.lives[life.id]
        self.last_cause = cause
        if expected:
            return
        self.deaths += 1
        if life.record.tasks_done or life.state in (W.IDLE, W.BUSY, W.SILENT):
            self._in_a_row = 0  # it had been ready, so starting works: no reason to wait
            return
        rounds = self._in_a_row // max(1, self.workers_wanted)
        self._in_a_row += 1
        self.not_before = now + min(self._restart_delay_s * 2**rounds, RESTART_DELAY_MAX_S)

    def new_life(self, name: str, now: float, wall: float) -> Life:
        """Add a new life under this name (empty: for the pool); the caller orders the engine to start it."""
        number = self.next_life
        self.next_life += 1
        life = Life(record=LifeRecord(life=number, worker=name or f"pool-{number}", started_at=wall), last_message_at=now)
        self.lives[number] = life
        return life

    def warm_spare(self) -> Life | None:
        """Return the oldest pooled life that is ready, or None."""
        ready = (life for life in self.lives.values() if life.pooled and life.state is W.IDLE and not life.retiring and not life.killed)
        return min(ready, key=lambda life: life.id, default=None)

    def pooled(self) -> list[Life]:
        """Return the lives of the pool, ready or not, without those that are ending."""
        return [life for life in self.lives.values() if life.pooled and not life.retiring and not life.killed]

    def surplus(self) -> list[Life]:
        """Return lives that are no longer wanted: names that are not wanted, and pooled ones above the size of the pool."""
        wanted = set(self.wanted_names())
        extra = [life for name, life in self.slots().items() if name not in wanted]
        extra += sorted(self.pooled(), key=lambda life: life.id)[self.pool_wanted :]
        return [life for life in extra if not life.retiring and not life.killed]
