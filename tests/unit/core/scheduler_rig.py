"""Drives a scheduler in tests: starts its workers, reports the progress of tasks, and shows the actions of the last turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from tmax.core import events as ev
from tmax.core.model import NewTask, Task
from tmax.core.scheduler import Scheduler
from tmax.core.settings import Settings, SwarmSettings, TaskSettings, WorkerSettings
from tmax_pipes.jobs import Job, PythonJob, ShellJob
from tmax_pipes.messages import PROTOCOL, Done, Failed, Failure, Hello, Message, Report, Started
from tmax_pipes.options_struct import TaskOptions

T = TypeVar("T")
PYTHON = PythonJob(call=b"x", label="f")
SHELL = ShellJob(argv=(b"true",))
SETTINGS = Settings(swarm=SwarmSettings(), tasks=TaskSettings(grace_s=1.0), worker=WorkerSettings(prefetch=8))


class SchedulerRig:
    """A scheduler, a clock, and the last turn."""

    def __init__(self, workers: int = 2, pool: int = 0, settings: Settings = SETTINGS, ready: bool = True) -> None:
        self.now = 100.0
        self.scheduler = Scheduler(settings, workers=workers, pool=pool, now=self.now)
        self.turn = self.handle()
        self.ended: dict[int, Task] = {}
        if ready:
            self.greet_all()

    @property
    def state(self):
        return self.scheduler._state

    def handle(self, *events: ev.Event, pass_s: float = 0.0) -> ev.Turn:
        """Make one turn, and check every invariant after it."""
        self.now += pass_s
        self.turn = self.scheduler.handle(events or (ev.Tick(),), self.now, self.now + 1e9)
        self.scheduler.check_invariants()
        for task in self.turn.changes.tasks + self.turn.changes.new_tasks:
            if task.ended:
                self.ended[task.id] = task
        return self.turn

    def greet(self, life: int) -> None:
        """Have a worker start, send Hello and answer its readiness probe."""
        self.handle(
            ev.LifeStarted(life=life, pid=1000 + life, ticks=1, session=""),
            ev.LifeConnected(life=life, hello=hello(life), reconnected=True),
        )
        self.handle(ev.LifeMessage(life=life, message=Done(0, life, Report())))

    def greet_all(self) -> None:
        """Have every starting worker become ready."""
        while starting := [life.id for life in self.state.roster.lives.values() if life.state == "starting"]:
            for life in starting:
                self.greet(life)

    def submit(self, *jobs: Job, request_id: str = "", **options: object) -> tuple[int, ...]:
        """Submit tasks with these options; return their ids."""
        tasks = tuple(NewTask(job=job, request_id=request_id, options=TaskOptions(**options)) for job in jobs)  # type: ignore[arg-type]
        self.handle(ev.Submitted(token=1, tasks=tasks))
        return self.one(ev.Accepted).ids

    def report(self, life: int, *messages: Message) -> ev.Turn:
        """Report messages from a worker."""
        return self.handle(*(ev.LifeMessage(life=life, message=message) for message in messages))  # type: ignore[arg-type]

    def started(self, number: int) -> ev.Turn:
        """Report that the task has started on its worker."""
        task = self.task(number)
        assert task.lease
        return self.report(task.lease.life, Started(number, task.attempt, at=1.0))

    def done(self, number: int, duration_s: float = 0.001) -> ev.Turn:
        """Report that the task has succeeded on its worker."""
        task = self.task(number)
        assert task.lease
        return self.report(task.lease.life, Done(number, task.attempt, Report(duration_s=duration_s)))

    def failed(self, number: int, kind: str = "exception") -> ev.Turn:
        """Report that the task has failed on its worker."""
        task = self.task(number)
        assert task.lease
        return self.report(task.lease.life, Failed(number, task.attempt, Report(), Failure(kind=kind, message="no")))  # type: ignore[arg-type]

    def die(self, life: int) -> ev.Turn:
        """Report that a worker was killed."""
        return self.handle(ev.LifeEnded(life=life, cause="killed by SIGKILL", signal=9))

    def task(self, number: int) -> Task:
        """Return the task, ended or not."""
        return self.state.ledger.tasks.get(number) or self.ended[number]

    def life_of(self, number: int) -> int:
        """Return the life that has a task."""
        lease = self.task(number).lease
        assert lease is not None, f"task {number} is {self.task(number).state}"
        return lease.life

    def sent_to(self, life: int) -> list[Message]:
        """Return the messages sent to a worker in the last turn."""
        return [
            message
            for action in self.turn.actions
            if isinstance(action, ev.SendMessages) and action.life == life
            for message in action.messages
        ]

    def all(self, kind: type[T]) -> list[T]:
        """Return the last turn's actions of one kind."""
        return [action for action in self.turn.actions if isinstance(action, kind)]

    def one(self, kind: type[T]) -> T:
        """Return the only action of this kind in the last turn."""
        found = self.all(kind)
        assert len(found) == 1, f"{len(found)} of {kind.__name__} in {self.turn.actions}"
        return found[0]


def hello(life: int, holding: Sequence[object] = (), results: Sequence[tuple[int, int]] = ()) -> Hello:
    """Return a worker's Hello."""
    return Hello(life, 1000 + life, 1, PROTOCOL, "3.11.7", tuple(holding), tuple(results))  # type: ignore[arg-type]
