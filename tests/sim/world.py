"""A simulated swarm without processes: the shipped loop, scheduler, worker state machines and links, with random faults.

    clients --> [events] --> Loop: Scheduler --> commit (in memory) --> act --> lanes --> worker state --> lanes --> [events]

Each step is one random event: a message is delivered, a task ends, time passes, a commit is written, or a process or connection ends.
The controller may die between any two steps of a turn; a worker or a connection at any moment.
The messages on a dead connection are delivered up to a random point and lost from there, as with FIFOs.

The oracle is independent of the swarm: the simulated programs write ``executions``, the client writes ``accepted``.

Some tasks submit tasks while they run, and end only when these have ended (``children_of``).  As many of them may run at once as
there are workers, so the simulation never comes to rest if no worker takes a child.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from tests.sim.fakes import ControllerKilled, Faults, SimEngine, SimReactor, SimStore, Violation, check_recorded
from tmax.controller.loop import RETRY_FULL_S, Loop
from tmax.core import events as ev
from tmax.core.model import ENDS, NewTask, Task, TaskState
from tmax.core.scheduler import Scheduler
from tmax.core.settings import Settings, TaskSettings, WorkerSettings
from tmax.engines.engine import Engine
from tmax.storage.memory_store import MemoryStore
from tmax_pipes.jobs import Job, PythonJob, ShellJob, context_key
from tmax_pipes.messages import PROTOCOL, Done, Failed, Failure, Hello, Message, Report, Run, ToWorker, Who
from tmax_pipes.options_struct import TaskOptions
from tmax_workers import worker_events as wev
from tmax_workers.state_machine import WorkerStateMachine

SETTINGS = Settings(
    tasks=TaskSettings(grace_s=1.0, retry_delay_s=0.1), worker=WorkerSettings(deaths_limit=0, prefetch=4, restart_delay_s=0.05)
)


@dataclass
class Execution:
    """One run of a task, as the oracle records it."""

    task: int
    attempt: int
    life: int
    ended: bool = False


@dataclass
class Process:
    """A worker process: its state, its lanes, and the task that runs in it."""

    life: int
    state: WorkerStateMachine
    connected: bool = False
    number: int = 0
    """Number of the connection."""
    can_send: bool = False
    """The worker opens its results lane when it reads Who."""
    to_worker: dict[str, deque[Message]] = field(default_factory=lambda: {"tasks": deque(), "control": deque()})
    results: deque[Message] = field(default_factory=deque)
    spilled: list[Message] = field(default_factory=list)
    """Results that it wrote to a file before it ended."""
    running: Execution | None = None
    cancelling: bool = False
    dead: bool = False
    first_hello: bool = True
    programs: set[str] = field(default_factory=set)
    """The programs whose code has run in it."""
    began: int = 0
    is_used_up: bool = False
    """A fresh task ran in it."""


class World:
    """The whole simulation, driven by one seeded random generator."""

    def __init__(self, seed: int, *, crashes: bool = True) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.crashes = crashes
        self.now = 1000.0
        self.disk = MemoryStore()
        self.processes: dict[int, Process] = {}
        self.executions: dict[int, list[Execution]] = defaultdict(list)
        self.accepted: dict[str, int] = {}
        self.cancelled: set[int] = set()
        self.withdrawn: set[int] = set()
        self.poison: set[str] = set()
        self.requests: dict[int, str] = {}
        self.token = 0
        self.deaths: dict[int, int] = defaultdict(int)
        self.is_draining = False
        self.faults = Faults()
        self.boot()

    # -- the controller ----------------------------------------------------------------------------

    @property
    def hostile(self) -> bool:
        """Whether faults may happen now."""
        return self.crashes and not self.is_draining

    @property
    def tasks(self) -> dict[int, Task]:
        """Every task that is on disk, by number."""
        return self.disk._reader.kept

    def boot(self) -> None:
        """Start a controller from the disk; it adopts the lives, which connect again or are found dead."""
        self.faults.plan(-1)
        loaded = self.disk.load()
        self.reactor = SimReactor(lambda: self.now)
        self.store = SimStore(self.disk, self.faults, self.random, hostile=lambda: self.hostile)
        self.scheduler = Scheduler(
            SETTINGS,
            workers=2,
            pool=1,
            tasks=loaded.tasks,
            lives=loaded.lives,
            next_task=loaded.next_task,
            next_life=loaded.next_life,
            now=self.now,
        )
        engine = SimEngine(self.faults, start=self.start, send=self.send, kill=lambda life, _: self.kill(life, "killed by us"))
        self.loop = Loop(self.scheduler, engine=cast("Engine", engine), store=self.store, reactor=self.reactor, wall_clock=lambda: self.now)
        self.loop.handle(ev.Accepted, self.answer)
        self.loop.handle(ev.CancelAnswered, lambda _: self.faults.step())
        self.loop.handle(ev.TasksEnded, lambda action: check_recorded(action, self.disk, self.seed))
        self.loop.handle(ev.SwarmReady, lambda _: self.faults.step())
        self.loop.after_turn(self.scheduler.check_invariants)
        self.emit(ev.Tick())
        for record in loaded.lives:
            if record.life not in self.processes or self.processes[record.life].dead:
                left = self.processes[record.life].spilled if record.life in self.processes else []
                for message in left:
                    self.emit(ev.LifeMessage(life=record.life, message=message))  # type: ignore[arg-type]
                self.emit(ev.LifeEnded(life=record.life, cause="found dead"))

    def emit(self, event: ev.Event) -> None:
        """Report an event to the controller that runs now."""
        self.loop.emit(event)
        self.has_events = True

    def turn(self) -> None:
        """Run one turn of the loop, perhaps with a crash at a random step of it."""
        if self.hostile and not self.faults.is_planned and self.random.random() < 0.12:
            self.faults.plan(self.random.randrange(12))
        if self.store.full:
            self.pass_time(RETRY_FULL_S)
        try:
            if self.random.random() < 0.7:
                self.store.write_in_flight()
            self.has_events = False
            self.loop.run_once()
        except ControllerKilled:
            self.crash_controller()

    def crash_controller(self) -> None:
        """Kill the controller: its memory, its connections and its unsent replies are lost."""
        for process in self.processes.values():
            self.drop_connection(process, report=False)
        self.requests.clear()
        self.boot()

    # -- workers -----------------------------------------------------------------------------------

    def start(self, life: int) -> None:
        """Start a worker process."""
        hello = Hello(life=life, pid=life, ticks=1, protocol=PROTOCOL, python="3.11.0")
        self.processes[life] = Process(life=life, state=WorkerStateMachine(hello, now=self.now, orphan_ttl_s=1e9))
        self.emit(ev.LifeStarted(life=life, pid=life, ticks=1, session=f"s{life}"))

    def send(self, life: int, messages: Sequence[ToWorker], connection: int | None) -> None:
        """Put messages on the lanes; without a connection they are dropped."""
        process = self.processes.get(life)
        if process is None or process.dead or not process.connected or connection != process.number:
            return
        for message in messages:
            process.to_worker["tasks" if isinstance(message, Run) else "control"].append(message)

    def connect(self, process: Process) -> None:
        """Open the FIFOs of a worker and send Who."""
        process.connected = True
        process.number += 1
        process.first_hello = True
        process.to_worker["control"].append(Who(epoch=1, swarm="sim", worker="w"))

    def drop_connection(self, process: Process, *, report: bool) -> None:
        """End a connection: each lane is delivered up to a random point, the rest is lost."""
        if not process.connected or process.dead:
            return
        process.connected = process.can_send = False
        for lane in process.to_worker.values():
            for _ in range(self.random.randrange(len(lane) + 1)):
                self.deliver(process, lane.popleft())
            lane.clear()
        # Messages that the worker sends from now on are lost; those sent before may arrive if the controller is alive.
        count = self.random.randrange(len(process.results) + 1) if report else 0
        for _ in range(min(count, len(process.results))):
            self.receive(process, process.results.popleft())
        process.results.clear()
        if not process.dead:
            self.carry_out(process, process.state.handle(wev.ConnectionDown(), self.now))
        if report and not process.dead:
            self.emit(ev.LifeSilent(life=process.life))

    def kill(self, life: int, cause: str) -> None:
        """End a worker process: some of what it had written is still read, then the kernel reports its end."""
        process = self.processes.get(life)
        if process is None or process.dead:
            return
        process.dead = True
        self.deaths[life] += 1
        if process.running is not None:
            process.running.ended = True
        for message in list(process.results)[: self.random.randrange(len(process.results) + 1)]:
            self.receive(process, message)
        for message in process.spilled:
            self.receive(process, message)
        self.emit(ev.LifeEnded(life=life, cause=cause, signal=9))

    def receive(self, process: Process, message: Message) -> None:
        """Pass one message of a worker to the controller, as the engine does."""
        if isinstance(message, Hello):
            self.emit(ev.LifeConnected(life=process.life, hello=message, reconnected=process.first_hello, connection=process.number))
            process.first_hello = False
        else:
            self.emit(ev.LifeMessage(life=process.life, message=message))  # type: ignore[arg-type]

    def deliver(self, process: Process, message: object) -> None:
        """Pass one message or event to a worker's state machine."""
        if not process.dead:
            process.can_send |= isinstance(message, Who) and process.connected
            self.carry_out(process, process.state.handle(message, self.now))  # type: ignore[arg-type]
            process.state.check_invariants()

    def carry_out(self, process: Process, dos: list[wev.Instruction]) -> None:
        """Carry out the actions of a worker's state machine."""
        for one in dos:
            if isinstance(one, wev.Send):
                if process.can_send:
                    process.results.append(one.message)
            elif isinstance(one, wev.Begin):
                self.begin(process, one.run)
            elif isinstance(one, wev.CancelTask):
                self.interrupt(process, one)
            elif isinstance(one, wev.KillTask):
                self.finish(process, how="killed")
            elif isinstance(one, wev.SpillResults):
                self.keep(process)
            elif isinstance(one, wev.ExitWorker):
                self.keep(process)
                self.kill(process.life, "killed by SIGTERM" if one.signal else "exited")

    def interrupt(self, process: Process, order: wev.CancelTask) -> None:
        """Interrupt user code; a violation when it has begun and was only withdrawn."""
        process.cancelling = True
        task = process.running.task if process.running else 0
        if order.why == "cancelled" and task in self.withdrawn - self.cancelled:
            raise Violation(f"seed {self.seed}: task {task} was withdrawn and had begun, and is ended")

    def keep(self, process: Process) -> None:
        """Keep the results that are not stored, as a worker writes them to a file."""
        process.spilled = [message for message in process.state.link.to_resend() if isinstance(message, (Done, Failed))]

    def begin(self, process: Process, run: Run) -> None:
        """Start user code, and record the run for the oracle."""
        execution = Execution(task=run.task, attempt=run.attempt, life=process.life)
        process.running, process.cancelling = execution, False
        if not run.task:
            return
        self.check_code(process, run)
        alive = [one for one in self.executions[run.task] if not one.ended]
        if alive:
            raise Violation(f"seed {self.seed}: task {run.task} runs twice at once: {alive} and {execution}")
        self.executions[run.task].append(execution)
        if run.needs_go and len(self.executions[run.task]) > 1 and self.tasks[run.task].failures == 0:
            raise Violation(f"seed {self.seed}: task {run.task} may run once and ran twice: {self.executions[run.task]}")

    def check_code(self, process: Process, run: Run) -> None:
        """Raise Violation if a process runs code of two programs, or another task beside a fresh one."""
        program = context_key(run.job)
        process.programs |= {program} - {""}
        if len(process.programs) > 1:
            raise Violation(f"seed {self.seed}: life {process.life} runs code of {len(process.programs)} programs")
        if process.is_used_up or (run.job.fresh and process.began):
            raise Violation(f"seed {self.seed}: task {run.task} shares the process of a fresh task")
        process.began += 1
        process.is_used_up = run.job.fresh

    def finish(self, process: Process, how: str = "") -> None:
        """End the running task, if it may end now."""
        execution = process.running
        if execution is None or process.dead:
            return
        name = self.name_of(execution.task)
        if how != "killed" and not process.cancelling and (self.waits(name) or self.takes_long(name)):
            return
        if name in self.poison and self.crashes:
            self.kill(process.life, "poisoned")
            return
        process.running = None
        execution.ended = True
        report = Report(duration_s=self.random.choice([0.001, 0.02, 1.0]))
        outcome: Done | Failed
        if how == "killed" or (process.cancelling and self.random.random() < 0.7) or (self.random.random() < 0.1 and execution.task):
            outcome = Failed(execution.task, execution.attempt, report, self.failure())
        else:
            outcome = Done(execution.task, execution.attempt, report, form=self.random.choice(["none", "json"]))
        self.deliver(process, wev.JobEnded(outcome))

    def failure(self) -> Failure:
        """Return a failure by exit status, or by a signal, which the worker reports with a delay."""
        if self.random.random() < 0.5:
            return Failure(kind="exit", message="exit 1", exit_code=1)
        return Failure(kind="signal", message="killed by SIGTERM", signal=15)

    def children_of(self, name: str) -> list[str]:
        """Return the requests that a task makes while it runs and waits for; for one seed of four, as they cost many steps."""
        number = int(name or 0)
        if self.seed % 4 or not number:
            return []
        if number < 100:
            return [f"{100 * number + 1}", f"{100 * number + 2}"] if number % 4 == 0 else []
        return [f"{100 * number + 1}"] if number < 10_000 and number % 100 == 1 else []

    def takes_long(self, name: str) -> bool:
        """Return whether a task keeps running, so that another worker may be started meanwhile."""
        return int(name or 0) % 6 == 1 and self.random.random() < 0.9

    def waits(self, name: str) -> bool:
        """Return whether a task of this name still waits for its children."""
        accepted = self.accepted
        return any(child not in accepted or self.tasks[accepted[child]].state not in ENDS for child in self.children_of(name))

    def submit_children(self, process: Process) -> None:
        """Have a running task submit a child, also again if there was no reply."""
        execution = process.running
        name = self.name_of(execution.task) if execution else ""
        missing = [child for child in self.children_of(name) if child not in self.accepted]
        if missing and execution is not None:
            self.submit(self.random.choice(missing), parent=execution.task)

    def name_of(self, task: int) -> str:
        """Return the request that made this task."""
        return next((name for name, number in self.accepted.items() if number == task), "")

    # -- clients -----------------------------------------------------------------------------------

    def submit(self, name: str, parent: int = 0) -> None:
        """Submit a request, also again if there was no reply; ``parent``: the running task that submits it."""
        number = int(name)
        is_fresh = number % 8 == 7
        program = (b"", b"program A", b"program B")[number % 3 if number % 4 else 0]
        python = PythonJob(call=b"", label="f", context=program, fresh=is_fresh, parent=parent)
        job: Job = ShellJob(argv=(b"x",), fresh=is_fresh, parent=parent) if number % 3 == 0 else python
        self.token += 1
        self.requests[self.token] = name
        known = {task.request_id: task.id for task in self.tasks.values() if task.request_id == name}
        task = NewTask(
            job=job, request_id=name, options=TaskOptions(retries=int(name) % 2, grace_s=1.0, timeout_s=5.0 if int(name) % 5 == 0 else 0.0)
        )
        self.emit(ev.Submitted(token=self.token, tasks=(task,), known=known))

    def answer(self, action: ev.Accepted) -> None:
        """Deliver the task's id to the client: the task is guaranteed from now on."""
        self.faults.step()
        name = self.requests.pop(action.token, None)
        if name is None:
            return
        number = action.ids[0]
        if self.accepted.setdefault(name, number) != number:
            raise Violation(f"seed {self.seed}: request {name} is task {self.accepted[name]} and task {number}")
        if number not in self.tasks:
            raise Violation(f"seed {self.seed}: task {number} was accepted and is not on disk")

    # -- the run -----------------------------------------------------------------------------------

    def step(self) -> None:
        """Make one random step."""
        process = self.random.choice(list(self.processes.values())) if self.processes else None
        roll = self.random.random()
        if process is None or roll < 0.25:
            self.turn()
        elif process.dead:
            self.now += 0.001
        elif not process.connected:
            self.connect(process)
        elif roll < 0.5:
            lanes = [lane for lane in process.to_worker.values() if lane]
            if lanes:
                self.deliver(process, self.random.choice(lanes).popleft())
        elif roll < 0.7 and process.results:
            self.receive(process, process.results.popleft())
        elif roll < 0.85:
            self.submit_children(process)
            self.finish(process)
        elif roll < 0.9:
            self.pass_time(self.random.choice([0.001, 0.05, 0.5]))
        elif self.hostile and roll > 0.99:
            self.kill(process.life, "killed by SIGKILL")
        elif self.hostile and roll > 0.98:
            self.deliver(process, wev.Terminated())
        elif self.hostile and roll > 0.96:
            self.drop_connection(process, report=True)

    def pass_time(self, seconds: float) -> None:
        """Advance the clock, for the workers too."""
        self.now += seconds
        for process in list(self.processes.values()):
            if not process.dead:
                self.deliver(process, wev.TimeElapsed())

    def run(self, tasks: int = 12, steps: int = 900) -> None:
        """Submit tasks under faults, let all of them end without faults, and check every guarantee."""
        names = [str(number) for number in range(1, tasks + 1)]
        self.poison = {name for name in names if int(name) % 11 == 0}
        for _ in range(steps):
            if self.random.random() < 0.1:
                missing = [name for name in names if name not in self.accepted]
                if missing:
                    self.submit(self.random.choice(missing))
            if self.random.random() < 0.004 and self.accepted:
                self.cancel(self.random.choice(list(self.accepted.values())))
            if self.random.random() < 0.008 and self.accepted:
                self.withdraw(self.random.choice(list(self.accepted.values())))
            self.step()
        self.drain()
        self.check_promises()

    def cancel(self, number: int) -> None:
        """Cancel a task."""
        self.cancelled.add(number)
        self.emit(ev.CancelRequested(token=0, tasks=(number,)))

    def withdraw(self, number: int) -> None:
        """Cancel a task unless it has begun."""
        self.withdrawn.add(number)
        self.emit(ev.CancelRequested(token=0, tasks=(number,), begun=False))

    def drain(self) -> None:
        """Run without faults until every accepted task has ended."""
        self.is_draining = True
        self.faults.plan(-1)
        for _ in range(12_000):  # many, as each step chooses one process and most of them are dead by now
            if self.has_events or self.reactor.is_due or self.random.random() < 0.2:
                self.turn()
            self.step()
            self.now += 0.002
            if not self.unfinished():
                return
            if self.random.random() < 0.02:
                self.pass_time(0.5)
        raise Violation(
            f"seed {self.seed}: {self.unfinished()} never ended: {[self.scheduler._state.ledger.tasks.get(n) for n in self.unfinished()]}"
        )

    def unfinished(self) -> list[int]:
        """Return accepted tasks that have not ended on disk."""
        return [number for number in self.accepted.values() if self.tasks[number].state not in ENDS]

    def check_promises(self) -> None:
        """Check the guarantees that can be checked only at the end."""
        for name, number in self.accepted.items():
            task = self.tasks[number]
            runs = self.executions[number]
            if task.state is TaskState.DONE and not runs:
                raise Violation(f"seed {self.seed}: task {number} is done and never ran")
            if task.state is TaskState.DEAD and len(task.crashes) < task.options.deliveries:
                raise Violation(f"seed {self.seed}: task {number} is dead after {len(task.crashes)} crashes")
            if task.state is TaskState.CANCELLED and number not in self.cancelled | self.withdrawn:
                raise Violation(f"seed {self.seed}: task {number} ({name}) is cancelled without a request")
            if len(runs) > 1 + task.failures + len(task.crashes) + self.lost_runs(runs):
                raise Violation(f"seed {self.seed}: task {number} ran {len(runs)} times without a reason: {runs}")

    def lost_runs(self, runs: list[Execution]) -> int:
        """Return how many runs were on lives that died."""
        return sum(1 for one in runs if self.processes[one.life].dead)
