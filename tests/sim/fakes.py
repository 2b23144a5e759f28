"""The simulation's replacements for tmux, SQLite, epoll and clocks; at each call to one of them the controller may die.

``Faults.step`` is called between any two steps of a turn (before and after the commit, before each action); it raises
``ControllerKilled`` when its countdown ends.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from tmax.core import events as ev
from tmax.core.model import ENDS
from tmax.errors import StorageFull, StoreError
from tmax.storage.memory_store import MemoryStore
from tmax.storage.task_store import CommitResult, LoadedState, Reader
from tmax_pipes.messages import ToWorker

T = TypeVar("T")


class Violation(AssertionError):
    """A guarantee was broken; the message contains the seed."""


class ControllerKilled(BaseException):
    """The controller is killed (SIGKILL) at this step."""


class Faults:
    """Decides at which step the controller dies."""

    def __init__(self) -> None:
        self._countdown = -1

    @property
    def is_planned(self) -> bool:
        """Whether a death is planned."""
        return self._countdown >= 0

    def plan(self, steps: int) -> None:
        """Die after this number of steps; negative: never."""
        self._countdown = steps

    def step(self) -> None:
        """Raise ControllerKilled at the end of the countdown."""
        if self._countdown == 0:
            self._countdown = -1
            raise ControllerKilled
        self._countdown -= self._countdown > 0


class SimTimer:
    """One scheduled call."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class SimReactor:
    """Timers on the simulation's clock; there are no descriptors to wait for."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._timers: list[tuple[float, int, SimTimer]] = []
        self._order = itertools.count()
        self._soon: deque[Callable[[], None]] = deque()

    def now(self) -> float:
        return self._clock()

    def at(self, when_s: float, callback: Callable[[], None]) -> SimTimer:
        timer = SimTimer(callback)
        heapq.heappush(self._timers, (when_s, next(self._order), timer))
        return timer

    def after(self, delay_s: float, callback: Callable[[], None]) -> SimTimer:
        return self.at(self.now() + delay_s, callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    @property
    def is_due(self) -> bool:
        """Whether ``run_once`` would call anything."""
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        return bool(self._soon) or bool(self._timers and self._timers[0][0] <= self.now())

    def run_once(self, limit_s: float | None = None) -> None:
        while self._timers and self._timers[0][0] <= self.now():
            callback = heapq.heappop(self._timers)[2].callback
            if callback is not None:
                callback()
        for _ in range(len(self._soon)):
            self._soon.popleft()()


class SimStore:
    """The shipped in-memory store with faults: commits may be late, find a full disk, or be the controller's last step.

    Each controller has its own SimStore; ``disk`` holds what is committed and outlives controllers.
    """

    def __init__(self, disk: MemoryStore, faults: Faults, rng: random.Random, *, hostile: Callable[[], bool]) -> None:
        """``hostile``: returns whether faults may happen now."""
        self._disk = disk
        self._faults = faults
        self._random = rng
        self._hostile = hostile
        self._in_flight: tuple[ev.Changes, Callable[[CommitResult], None]] | None = None
        self.full = False
        """The last commit found a full disk."""
        self.removed = False

    def load(self) -> LoadedState:
        return self._disk.load()

    def commit_now(self, changes: ev.Changes) -> CommitResult | None:
        self._check_alone()
        if self._random.random() < 0.3:
            return None
        return self._write(changes)

    def commit(self, changes: ev.Changes, done: Callable[[CommitResult], None]) -> None:
        self._check_alone()
        self._in_flight = (changes, done)

    def write_in_flight(self) -> None:
        """Complete the commit of the writer thread."""
        if self._in_flight is not None:
            changes, done = self._in_flight
            self._in_flight = None
            done(self._write(changes))

    def _write(self, changes: ev.Changes) -> CommitResult:
        self._faults.step()
        self.full = self._hostile() and self._random.random() < 0.02
        if self.full:
            return CommitResult(ok=False, error=StorageFull("no room"))
        kept = self._disk.load().tasks
        known = {task.id for task in kept}
        for task in changes.tasks:
            if task.id not in known:
                raise Violation(f"task {task.id} had ended and is recorded again as {task.state}")
        result = self._disk.commit_now(changes)
        if result.error is not None:
            raise Violation(f"the store refuses a commit: {result.error}")
        self._faults.step()
        return result

    def _check_alone(self) -> None:
        if self._in_flight is not None:
            raise Violation("a second commit is requested while one is in flight")

    def read(self, query: Callable[[Reader], T], done: Callable[[T | StoreError], None]) -> None:
        self._disk.read(query, done)

    def trim(self, keep: int, done: Callable[[list[int] | StoreError], None]) -> None:
        self._disk.trim(keep, done)

    def close(self, snapshot: bool = False) -> None:
        pass  # the disk outlives this controller


class SimEngine:
    """The methods of an engine that the loop calls; the simulation has no other part of an engine."""

    terminals = None

    def __init__(
        self,
        faults: Faults,
        *,
        start: Callable[[int], None],
        send: Callable[[int, Sequence[ToWorker], int | None], None],
        kill: Callable[[int, str], None],
    ) -> None:
        self._faults = faults
        self._start = start
        self._send = send
        self._kill = kill

    def start(self, lives: Sequence[tuple[int, str]]) -> None:
        for life, _ in lives:
            self._faults.step()
            self._start(life)

    def name(self, life: int, worker: str) -> None:
        self._faults.step()

    def send(self, life: int, messages: Sequence[ToWorker], connection: int | None = None) -> None:
        self._faults.step()
        self._send(life, messages, connection)

    def kill(self, life: int, why: str) -> None:
        self._faults.step()
        self._kill(life, why)


def check_recorded(action: ev.TasksEnded, disk: MemoryStore, seed: int) -> None:
    """Raise Violation if an end is reported that is not on disk."""
    ids = [task.id for task in action.tasks]
    kept: dict[int, object] = {}
    disk.read(lambda reader: reader.tasks(ids), lambda found: kept.update(found) if isinstance(found, dict) else None)
    for task in action.tasks:
        stored = kept.get(task.id)
        if getattr(stored, "state", None) not in ENDS:
            raise Violation(f"seed {seed}: the end of task {task.id} was reported and is not on disk")
