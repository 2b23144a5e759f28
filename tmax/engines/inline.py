"""An engine for tests: workers without processes, the worker's own state machine and job table on the loop's thread.

::

    send([...]) --> inbox of the life --call_soon--> WorkerStateMachine --> Send:  emitted as LifeConnected / LifeMessage
                                                                      --> Begin: the job runs, the loop waits for it
                                                                      --> Exit:  LifeEnded

No swarm starts it.  What it cannot do: end a Python task that runs (no other thread is there), survive one that ends the
process, run two at once.  Shell commands are ended when their time is over, as in a real worker.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial

from tmax.core.events import Event, LifeConnected, LifeEnded, LifeMessage, LifeStarted
from tmax.core.model import LifeRecord
from tmax.core.settings import Settings
from tmax.engines.engine import WorkerFigures
from tmax.layout import Layout
from tmax.reactor import Reactor
from tmax_pipes.jobs import PythonJob, ShellJob
from tmax_pipes.messages import PROTOCOL, TAIL_BYTES, Done, Failed, Hello, Message, Report, Run, ToWorker, Who
from tmax_pipes.proc_stat import start_ticks
from tmax_workers import worker_events as local
from tmax_workers.capture import log_of
from tmax_workers.epoll_loop import EpollLoop
from tmax_workers.failure_report import failure_of_job
from tmax_workers.kinds import registry
from tmax_workers.kinds.python import Output
from tmax_workers.kinds.shell import NotStarted, ShellRun, ShellSettings
from tmax_workers.memory import own_rss_bytes, own_usage
from tmax_workers.process_context import ProcessContext
from tmax_workers.state_machine import WorkerStateMachine
from tmax_workers.task_environment import TaskEnvironment
from tmax_workers.worker_events import Begin, CancelTask, ExitWorker, Instruction, JobEnded, KillTask, Send, TimeElapsed

_SIZE = (50, 200)


class _InlineWorker:
    """One pretended worker."""

    def __init__(self, state: WorkerStateMachine, worker: str) -> None:
        self.state = state
        self.worker = worker
        self.inbox: deque[local.Event] = deque()
        self.greeted = False
        self.scheduled = False


class InlineEngine:
    """See ``engine.Engine`` for what each method promises.  Every job runs inside this process, one at a time."""

    terminals = None

    def __init__(self, layout: Layout, settings: Settings, reactor: Reactor) -> None:
        self._layout = layout
        self._settings = settings
        self._reactor = reactor
        self._epoch = 0
        self._emit: Callable[[Event], None] = lambda _event: None
        self._lives: dict[int, _InlineWorker] = {}
        self._submitter_environment: TaskEnvironment | None = None
        self._context = ProcessContext(layout.blobs)
        self._closed = False

    # -- Engine ------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Nothing takes long."""

    def abandon(self) -> None:
        """Nothing was begun."""

    def open(self, emit: Callable[[Event], None], *, epoch: int) -> None:
        """As ``Engine.open``; the folders of the layout exist already."""
        self._emit = emit
        self._epoch = epoch
        self._submitter_environment = TaskEnvironment(lambda: None, self._layout.blobs)

    def start(self, lives: Sequence[tuple[int, str]]) -> None:
        """As ``Engine.start``."""
        for number, worker in lives:
            self._lives[number] = life = _InlineWorker(WorkerStateMachine(self._greeting(number), now=time.monotonic()), worker)
            life.state.offset_s = time.time() - time.monotonic()
            pid, ticks = life.state.hello.pid, life.state.hello.ticks
            started = LifeStarted(life=number, pid=pid, ticks=ticks, session="")
            self._soon(number, life, partial(self._emit, started))
            self._deliver(number, life, self._who(life))

    def adopt(self, records: Sequence[LifeRecord], *, cause: str = "") -> None:
        """Workers of an earlier controller ended with it."""
        for record in records:
            if record.alive:
                self._reactor.call_soon(partial(self._report_end, record.life, "ran inside its controller, which ended", None))

    def name(self, life: int, worker: str) -> None:
        """As ``Engine.name``."""
        known = self._lives.get(life)
        if known is not None:
            known.worker = worker
            self._deliver(life, known, self._who(known))

    def send(self, life: int, messages: Sequence[ToWorker], connection: int | None = None) -> None:
        """As ``Engine.send``."""
        known = self._lives.get(life)
        if known is not None:
            self._deliver(life, known, *messages)

    def kill(self, life: int, why: str) -> None:
        """As ``Engine.kill``: no job runs while this is called, so what goes is what had not begun."""
        known = self._lives.get(life)
        if known is not None:
            del self._lives[life]  # from now on nothing of it is emitted
            self._reactor.call_soon(lambda: self._report_end(life, why, None))

    def announced(self, life: int, place: str, pid: int) -> bool:
        """No worker has FIFOs."""
        return True

    def reopen(self) -> list[str]:
        """There is nothing in the runtime folder."""
        return []

    def receive_all(self) -> None:
        """Nothing is under way between two turns."""

    def figures(self, lives: Iterable[int]) -> Mapping[int, WorkerFigures]:
        """As ``Engine.figures``: of this process, which all workers share."""
        used = own_usage()
        figures = WorkerFigures(cpu_s=used.cpu_s, rss_bytes=own_rss_bytes())
        return dict.fromkeys(set(lives) & self._lives.keys(), figures)

    def output_file(self, life: int) -> str:
        """There is none."""
        return ""

    def close(self, *, sessions: bool) -> None:
        """Forget the workers; twice is harmless."""
        self._closed = True
        self._lives.clear()
        if self._submitter_environment is not None:
            self._submitter_environment.close()
            self._submitter_environment = None

    # -- one worker --------------------------------------------------------------------------------

    def _greeting(self, life: int) -> Hello:
        pid = os.getpid()
        version = ".".join(map(str, sys.version_info[:3]))
        return Hello(life=life, pid=pid, ticks=start_ticks(pid), protocol=PROTOCOL, python=version)

    def _who(self, life: _InlineWorker) -> Who:
        return Who(epoch=self._epoch, swarm=self._layout.swarm, worker=life.worker, beat_s=self._settings.worker.beat_s)

    def _soon(self, number: int, life: _InlineWorker, call: Callable[[], None]) -> None:
        """Call later, if this life is still there: nothing is emitted from within a method of ours."""

        def later() -> None:
            if self._lives.get(number) is life:
                call()

        self._reactor.call_soon(later)

    def _deliver(self, number: int, life: _InlineWorker, *events: local.Event) -> None:
        life.inbox.extend(events)
        if not life.scheduled:
            life.scheduled = True
            self._soon(number, life, lambda: self._turn(number, life))

    def _turn(self, number: int, life: _InlineWorker) -> None:
        """Take in what has arrived, and run at most one job; the loop gets its turn before the next."""
        life.scheduled = False
        begun: Run | None = None
        while life.inbox and begun is None and self._lives.get(number) is life:
            for do in life.state.handle(life.inbox.popleft(), time.monotonic()):
                begun = self._perform(number, life, do) or begun
        if begun is not None and self._lives.get(number) is life:
            life.inbox.appendleft(JobEnded(self._run(life, begun)))
        if life.inbox:
            self._deliver(number, life)

    def _perform(self, number: int, life: _InlineWorker, do: Instruction) -> Run | None:
        if isinstance(do, Send):
            self._sent(number, life, do.message)
        elif isinstance(do, ExitWorker):
            self._end(number, life, "exited with 0", 0)
        elif isinstance(do, Begin):
            return do.run
        return None

    def _sent(self, number: int, life: _InlineWorker, message: Message) -> None:
        if isinstance(message, Hello):
            is_new, life.greeted = not life.greeted, True
            self._emit(LifeConnected(life=number, hello=message, reconnected=is_new))
        else:
            self._emit(LifeMessage(life=number, message=message))  # type: ignore[arg-type]  # a state machine sends nothing that is for a worker

    def _end(self, number: int, life: _InlineWorker, why: str, exit_code: int | None) -> None:
        if self._lives.get(number) is life:
            del self._lives[number]
            self._report_end(number, why, exit_code)

    def _report_end(self, number: int, why: str, exit_code: int | None) -> None:
        if not self._closed:
            self._emit(LifeEnded(life=number, cause=why, exit_code=exit_code, peak_rss_bytes=own_usage().peak_rss_bytes))

    # -- one job -----------------------------------------------------------------------------------

    def _run(self, life: _InlineWorker, run: Run) -> Done | Failed:
        return self._run_shell(life, run) if isinstance(run.job, ShellJob) else self._run_here(run)

    def _run_here(self, run: Run) -> Done | Failed:
        assert not isinstance(run.job, ShellJob)
        assert self._submitter_environment is not None
        printed = io.StringIO()
        before, started_at, began = own_usage(), time.time(), time.monotonic()
        output, failure = Output(), None
        try:
            with redirect_stdout(printed), redirect_stderr(printed):
                self._submitter_environment.enter(run.job, _marks(run))
                if isinstance(run.job, PythonJob):
                    self._context.enter(run.job)
                output = registry.call(run.job, self._layout.blobs)
        except (Exception, SystemExit) as error:  # whatever a user's task raises is its result; Ctrl-C is a person's, and goes on
            failure = failure_of_job(run.job, error, self._layout.blobs)
        finally:
            self._submitter_environment.leave()
        after = own_usage()
        report = Report(
            started_at=started_at,
            duration_s=time.monotonic() - began,
            cpu_s=max(0.0, after.cpu_s - before.cpu_s),
            peak_rss_bytes=after.peak_rss_bytes,
            device=output.device,
            strategy=output.strategy,
            **self._kept(run, printed.getvalue().encode("utf-8", "backslashreplace")),  # type: ignore[arg-type]
        )
        if failure is not None:
            return Failed(run.task, run.attempt, report, failure)
        return Done(run.task, run.attempt, report, output.result, output.form)

    def _kept(self, run: Run, printed: bytes) -> dict[str, int | bytes]:
        """Keep what was printed as a worker does: short in the report, long in the task's log."""
        if len(printed) > TAIL_BYTES:
            with open(log_of(self._layout.logs, run.task), "ab") as log:
                log.write(printed)
        return {"output_bytes": len(printed), "tail": printed if len(printed) <= TAIL_BYTES else b""}

    def _run_shell(self, life: _InlineWorker, run: Run) -> Done | Failed:
        outcomes: list[Done | Failed] = []
        loop = EpollLoop()
        try:
            env = {b"TMAX_WORKER": life.worker.encode(), b"TMAX_SWARM": self._layout.swarm.encode()}
            place = ShellSettings(logs=self._layout.logs, own_env=os.environb, env=env, size=_SIZE, blobs=self._layout.blobs)
            shell = ShellRun(run, place, loop, _unseen, _started, outcomes.append)
            shell.begin()
        except NotStarted as error:
            loop.close()
            return Failed(run.task, run.attempt, Report(started_at=time.time()), error.failure)
        try:
            while not outcomes:
                self._shell_turn(life, shell, loop)
        finally:
            loop.close()
        return outcomes[0]

    def _shell_turn(self, life: _InlineWorker, shell: ShellRun, loop: EpollLoop) -> None:
        """Wait for the program, or for the end of its time: the state machine decides what then."""
        times = [time_s for time_s in (life.state.next_deadline(), shell.deadline()) if time_s is not None]
        loop.turn(max(0.0, min(times) - time.monotonic()) if times else None)
        now = time.monotonic()
        shell.tick(now)
        due = life.state.next_deadline()
        for do in life.state.handle(TimeElapsed(), now) if due is not None and now >= due else []:
            if isinstance(do, CancelTask):
                shell.cancel()
            elif isinstance(do, KillTask):
                shell.kill()


def _marks(run: Run) -> dict[bytes, bytes]:
    return {b"TMAX_TASK_ID": b"%d" % run.task, b"TMAX_ATTEMPT": b"%d" % run.attempt}


def _started() -> None:
    """Its process group is of no interest here."""


def _unseen(_output: bytes) -> None:
    """There is no pane to show it in."""
