"""An engine that does everything the contract allows and nobody hopes for, by a seed.

Connections end at random: each lane is delivered up to a random point and lost from there.  Messages of the two lanes to
a worker overtake each other.  A worker says again what it holds after every reconnect, and now and then says a result
twice.  Workers end at random moments.  What a worker has written before its death is heard, then its end is told.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tmax.core.events import Event, LifeConnected, LifeEnded, LifeMessage, LifeSilent, LifeStarted
from tmax.core.model import LifeRecord
from tmax.engines.engine import WorkerFigures
from tmax_pipes.messages import PROTOCOL, Done, Hello, Message, Report, Run, ToWorker, Who
from tmax_pipes.transport import lane_of
from tmax_workers import worker_events as local
from tmax_workers.state_machine import WorkerStateMachine


@dataclass
class Worker:
    """A pretended process."""

    life: int
    name: str
    state: WorkerStateMachine
    connected: bool = False
    greeted: bool = False
    to_worker: dict[str, deque[Message]] = field(default_factory=lambda: {"tasks": deque(), "control": deque()})
    results: deque[Message] = field(default_factory=deque)
    running: Run | None = None
    ran: list[int] = field(default_factory=list)
    started: bool = False


class HostileEngine:
    """``step()`` is one random thing that happens; nothing happens otherwise."""

    def __init__(self, seed: int, *, deaths: float = 0.0, cuts: float = 0.05) -> None:
        self.random = random.Random(seed)
        self.deaths = deaths
        self.cuts = cuts
        self.now = 1000.0
        self.workers: dict[int, Worker] = {}
        self._emit: Callable[[Event], None] = lambda _event: None
        self._due: list[Event] = []

    # -- Engine ------------------------------------------------------------------------------------

    terminals = None

    def prepare(self) -> None:
        pass

    def abandon(self) -> None:
        pass

    def open(self, emit: Callable[[Event], None], *, epoch: int) -> None:
        self._emit = emit
        self.epoch = epoch

    def start(self, lives: Sequence[tuple[int, str]]) -> None:
        for life, name in lives:
            hello = Hello(life=life, pid=1000 + life, ticks=1, protocol=PROTOCOL, python="3.11.0")
            self.workers[life] = Worker(life, name, WorkerStateMachine(hello, now=self.now, orphan_ttl_s=1e9))

    def adopt(self, records: Sequence[LifeRecord], *, cause: str = "") -> None:
        self._due += [LifeEnded(life=record.life, cause="found dead") for record in records if record.alive]

    def name(self, life: int, worker: str) -> None:
        if life in self.workers:
            self.workers[life].name = worker
            if self.workers[life].greeted:
                self._to(self.workers[life], self._who(self.workers[life]))

    def send(self, life: int, messages: Sequence[ToWorker], connection: int | None = None) -> None:
        worker = self.workers.get(life)
        if worker is not None and worker.greeted:
            for message in messages:
                self._to(worker, message)

    def kill(self, life: int, why: str) -> None:
        if life in self.workers:
            self._end(self.workers[life], why)

    def announced(self, life: int, place: str, pid: int) -> bool:
        return True

    def reopen(self) -> list[str]:
        return []

    def receive_all(self) -> None:
        pass

    def figures(self, lives: Iterable[int]) -> Mapping[int, WorkerFigures]:
        return {life: WorkerFigures(cpu_s=0.0, rss_bytes=1) for life in lives if life in self.workers}

    def output_file(self, life: int) -> str:
        return ""

    def close(self, *, sessions: bool) -> None:
        self.workers.clear()
        self._due.clear()

    # -- what happens ------------------------------------------------------------------------------

    def step(self) -> None:
        self.now += 0.01
        due, self._due = self._due, []
        for event in due:
            self._emit(event)
        if not self.workers:
            return
        worker = self.random.choice(list(self.workers.values()))
        if not worker.started:
            worker.started = True
            self._emit(LifeStarted(life=worker.life, pid=1000 + worker.life, ticks=1, session=worker.name))
        elif self.random.random() < self.deaths:
            self._end(worker, "killed by SIGKILL")
        elif not worker.connected:
            worker.connected, worker.greeted = True, False
            self._to(worker, self._who(worker))
        elif self.random.random() < self.cuts:
            self._cut(worker)
        else:
            self._work(worker)

    def work_unheard(self, life: int) -> None:
        """The worker goes on, and nobody hears it yet."""
        worker = self.workers[life]
        for _ in range(20):
            for lane in worker.to_worker.values():
                while lane:
                    self._read(worker, lane.popleft())
            self._finish(worker)

    def _work(self, worker: Worker) -> None:
        choice = self.random.choice(["tasks", "control", "finish", "hear", "hear"])
        if choice == "finish":
            self._finish(worker)
        elif choice == "hear":
            if worker.results:
                self._hear(worker, worker.results.popleft())
        elif worker.to_worker[choice]:
            self._read(worker, worker.to_worker[choice].popleft())

    def _who(self, worker: Worker) -> Who:
        return Who(epoch=self.epoch, swarm="hostile", worker=worker.name)

    def _to(self, worker: Worker, message: Message) -> None:
        worker.to_worker[lane_of(message)].append(message)

    def _read(self, worker: Worker, message: local.Event | Message) -> None:
        if worker.life not in self.workers:
            return
        for do in worker.state.handle(message, self.now):  # type: ignore[arg-type]
            if isinstance(do, local.Send) and worker.connected:
                worker.results.append(do.message)
                if isinstance(do.message, Done) and self.random.random() < 0.2:
                    worker.results.append(do.message)
            elif isinstance(do, local.Begin):
                worker.running = do.run
                worker.ran.append(do.run.task)
            elif isinstance(do, local.ExitWorker):
                self._end(worker, "exited with 0", exit_code=0)

    def _finish(self, worker: Worker) -> None:
        run, worker.running = worker.running, None
        if run is not None:
            self._read(worker, local.JobEnded(Done(run.task, run.attempt, Report(), b"3", "json")))

    def _hear(self, worker: Worker, message: Message) -> None:
        if isinstance(message, Hello):
            is_new, worker.greeted = not worker.greeted, True
            self._emit(LifeConnected(life=worker.life, hello=message, reconnected=is_new))
        elif worker.greeted:
            self._emit(LifeMessage(life=worker.life, message=message))  # type: ignore[arg-type]

    def _cut(self, worker: Worker) -> None:
        for lane in worker.to_worker.values():
            for _ in range(self.random.randrange(len(lane) + 1)):
                self._read(worker, lane.popleft())
            lane.clear()
        for _ in range(self.random.randrange(len(worker.results) + 1)):
            self._hear(worker, worker.results.popleft())
        worker.results.clear()
        if worker.life not in self.workers:
            return
        was_greeted, worker.connected, worker.greeted = worker.greeted, False, False
        if was_greeted:
            self._emit(LifeSilent(life=worker.life))
        self._read(worker, local.ConnectionDown())

    def _end(self, worker: Worker, cause: str, exit_code: int | None = None) -> None:
        if self.workers.pop(worker.life, None) is None:
            return
        for message in worker.results:
            self._hear(worker, message)
        self._due.append(LifeEnded(life=worker.life, cause=cause, exit_code=exit_code))
