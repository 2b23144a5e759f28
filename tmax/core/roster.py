"""The lives: which worker processes there are, which names they bear, and which must be started.

A *slot* is a name (``w1``...) that should have a worker.  A dead slot takes a warm life out of the pool when
one waits (only its session is renamed), else a new life is started under its name.  Lives are never reused:
a number that means one process for ever cannot be confused with its successor.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tmax.core.model import LifeRecord, WorkerState
from tmax_pipes.link import ControllerLink

W = WorkerState

RESTART_DELAY_MAX_S = 30.0


@dataclass(slots=True)
class Life:
    """One worker process as the scheduler sees it.  Mutable, and never leaves the pure rooms."""

    record: LifeRecord
    state: WorkerState = W.STARTING
    link: ControllerLink = field(default_factory=ControllerLink)
    """What was said to it and is not acknowledged."""
    missing: tuple[str, ...] = ()
    """Modules it was to preload and could not, each with the reason."""
    connection: int = 0
    """The connection on which it greeted last."""
    held: dict[int, int] = field(default_factory=dict)
    """Leased tasks in the order sent: task -> attempt."""
    running: int = 0
    """The task last Started and not ended; 0: none known."""
    mean_s: float | None = None
    """Moving average of how long its tasks took."""
    last_message_at: float = 0.0
    progress_at: float = 0.0
    """When a task began or ended there last."""
    tasks_failed: int = 0
    beat_rss_bytes: int = 0
    beat_cpu_s: float = 0.0
    recalled: set[int] = field(default_factory=set)
    """Tasks asked back and not yet given back."""
    withdrawn: set[int] = field(default_factory=set)
    """Those of them that end as cancelled when they are given back, as their client wants them no more."""
    killed: str = ""
    """Why we ended it ourselves; empty: we did not."""
    retiring: bool = False
    """Asked to drain."""
    kept_for: str = ""
    """It gets no more tasks: once it is empty it is replaced for this part of the queue."""

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
        """The slot's number, for order."""
        digits = "".join(filter(str.isdigit, self.record.worker))
        return int(digits) if digits else 0

    @property
    def has_proved(self) -> bool:
        """True when it is ready or at work; also at work without a word, which an earlier controller gave it."""
        return self.state in (W.IDLE, W.BUSY) or (self.state is W.SILENT and bool(self.held))

    @property
    def takes_work(self) -> bool:
        """True when tasks may be sent to it."""
        return self.state in (W.IDLE, W.BUSY) and not self.retiring and not self.killed and not self.pooled


class Roster:
    """All lives not known to be dead, the slots wanted, and the rules of replacement."""

    def __init__(self, *, workers: int, pool: int, restart_delay_s: float, deaths_limit: int, next_life: int = 1) -> None:
        self.workers_wanted = workers
        self.pool_wanted = pool
        self.nested = 0
        """Workers above the number, for tasks that tasks have submitted (``nesting.py``)."""
        self.nested_until = 0.0
        """They stay at least until then."""
        self.nested_used = 0
        """The last of them that had a task after the last turn."""
        self.next_life = next_life
        self.lives: dict[int, Life] = {}
        self.ready_once = False
        self.deaths = 0
        """Unasked deaths since this controller started."""
        self.last_cause = ""
        """What the kernel said about the life that died last."""
        self._restart_delay_s = restart_delay_s
        self._deaths_limit = deaths_limit
        self._in_a_row = 0
        self.not_before = 0.0
        """No life is started earlier than this."""

    def adopt(self, record: LifeRecord) -> Life:
        """Take in a life of an earlier controller; it is silent until it greets or is found dead."""
        life = Life(record=record, state=W.SILENT)
        self.lives[record.life] = life
        self.nested = max(self.nested, self.place_of(life))
        return life

    @property
    def gave_up(self) -> bool:
        """True when so many workers died without having done anything that no more are started."""
        return bool(self._deaths_limit) and self._in_a_row >= self._deaths_limit * max(1, self.workers_wanted)

    def reset_backoff(self) -> None:
        """Somebody looked: start again."""
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

    def place_of(self, life: Life) -> int:
        """Return which nested worker this is, from 1; 0 or less for others, also for one whose slot was given to another."""
        return life.number - self.workers_wanted if life.name.startswith("w") else 0

    def is_nested(self, life: Life) -> bool:
        """Return whether this is a worker above the number."""
        return self.nested > 0 and self.place_of(life) > 0  # asked for each worker in each turn: nearly always there are none

    def works_nested(self, life: Life) -> bool:
        """Return whether this is a worker above the number that has a task."""
        return self.is_nested(life) and bool(life.held)

    def all_ready(self) -> bool:
        """Return whether each wanted name has a worker that has proved itself; one that works in silence has."""
        slots = self.slots()
        return all(name in slots and slots[name].has_proved for name in self.wanted_names()[: self.workers_wanted])

    def died(self, life: Life, now: float, *, cause: str, asked: bool) -> None:
        """Take a dead life out and note what its death means for starting others."""
        del self.lives[life.id]
        self.last_cause = cause
        if asked:
            return
        self.deaths += 1
        if life.record.tasks_done or life.state in (W.IDLE, W.BUSY, W.SILENT):
            self._in_a_row = 0  # it had proved itself: outside causes, no reason to wait
            return
        rounds = self._in_a_row // max(1, self.workers_wanted)
        self._in_a_row += 1
        self.not_before = now + min(self._restart_delay_s * 2**rounds, RESTART_DELAY_MAX_S)

    def begin(self, name: str, now: float, wall: float) -> Life:
        """Make a new life under this name (empty: for the pool); the caller has the engine start it."""
        number = self.next_life
        self.next_life += 1
        life = Life(record=LifeRecord(life=number, worker=name or f"pool-{number}", started_at=wall), last_message_at=now)
        self.lives[number] = life
        return life

    def warm_spare(self) -> Life | None:
        """Return the oldest pooled life that is ready to be taken."""
        ready = (life for life in self.lives.values() if life.pooled and life.state is W.IDLE and not life.retiring and not life.killed)
        return min(ready, key=lambda life: life.id, default=None)

    def pooled(self) -> list[Life]:
        """Return the pool, warm or not, without those that are leaving."""
        return [life for life in self.lives.values() if life.pooled and not life.retiring and not life.killed]

    def surplus(self) -> list[Life]:
        """Return lives that are no longer wanted: slots above the number, pooled ones above theirs."""
        wanted = set(self.wanted_names())
        extra = [life for name, life in self.slots().items() if name not in wanted]
        extra += sorted(self.pooled(), key=lambda life: life.id)[self.pool_wanted :]
        return [life for life in extra if not life.retiring and not life.killed]
