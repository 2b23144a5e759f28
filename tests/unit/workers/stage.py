"""A worker's state machine on a stage: events in, invariants checked after each."""

from __future__ import annotations

from tmax_pipes.jobs import KernelJob, PythonJob, ShellJob
from tmax_pipes.messages import (
    Done,
    Failed,
    Failure,
    Hello,
    Message,
    Report,
    Run,
    Who,
)
from tmax_pipes.options_struct import TaskOptions
from tmax_workers.state_machine import WorkerStateMachine
from tmax_workers.worker_events import (
    Event,
    Instruction,
    JobEnded,
    Send,
)

PYTHON = PythonJob(call=b"", label="f")
SHELL = ShellJob(argv=(b"true",))
KERNEL = KernelJob(name="matmul")
WHO = Who(1, "dev", "w1")


class Worker:
    """A state machine whose invariants are checked after each event."""

    def __init__(self, *, connected: bool = True, ttl_s: float = 900.0) -> None:
        self.now = 100.0
        self.state = WorkerStateMachine(Hello(7, 42, 4242, 1, "3.11.7"), now=self.now, orphan_ttl_s=ttl_s)
        if connected:
            self.do(WHO)

    def do(self, *events: Event, after_s: float = 0.0) -> list[Instruction]:
        dos: list[Instruction] = []
        for event in events:
            self.now += after_s
            dos += self.state.handle(event, self.now)
            self.state.check_invariants()
        return dos

    def says(self, *events: Event, after_s: float = 0.0) -> list[Message]:
        return [one.message for one in self.do(*events, after_s=after_s) if isinstance(one, Send)]


def run(task: int, attempt: int = 1, job: object = PYTHON, needs_go: bool = False, **options: object) -> Run:
    return Run(task=task, attempt=attempt, job=job, needs_go=needs_go, options=TaskOptions(**options))  # type: ignore[arg-type]


def done(task: int, attempt: int = 1) -> JobEnded:
    return JobEnded(Done(task, attempt, Report()))


def returned(task: int, attempt: int = 1) -> JobEnded:
    """A function returned a value."""
    return JobEnded(Done(task, attempt, Report(), b"1", "json"))


def failed(task: int, attempt: int = 1, kind: str = "exception") -> JobEnded:
    return JobEnded(Failed(task, attempt, Report(), Failure(kind, "boom", exit_code=3, signal=9 if kind == "signal" else None)))  # type: ignore[arg-type]


def kinds(dos: list[Instruction]) -> list[str]:
    return [type(one.message).__name__ if isinstance(one, Send) else type(one).__name__ for one in dos]
