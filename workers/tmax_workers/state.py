r"""What a worker knows and decides: no clock, no file, no process in here.

::

    message or local event, now  -->  WorkerState.handle  -->  what to do: Say Begin Cancel KillTask Exit

    Idle ----Run----> Running --JobEnded--> Idle            one task at a time, in the order they came
      \--Run(ask)--> Asking --Go--> Running
                      Running --grace over, in this process--> Dying --all Stored, or time over--> Gone
    leaving ("drain", "now", "pane"): nothing begins any more, queued tasks went back; Idle and all Stored --> Gone

Results are kept (in the link) until ``Stored``.  What is said without a connection may be dropped: after the next
``Who`` the ``Hello`` and the link say all that matters again.

A task in this process that ignores its cancellation can only be ended with the process.  Its ``Failed`` is said first,
then everything waits for ``Stored`` (``Dying``), then the process goes: the controller hears why before it sees the death.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec

from tmax_pipes.jobs import JobOptions, PythonJob, ShellJob
from tmax_pipes.link import WorkerLink
from tmax_pipes.messages import (
    Done,
    Failed,
    Failure,
    Go,
    Hello,
    Holding,
    Key,
    Message,
    Recall,
    Recalled,
    Report,
    Run,
    Started,
    Stop,
    Stored,
    Who,
)
from tmax_workers.events import (
    Begin,
    Cancel,
    ChildGroup,
    ConnectionDown,
    Do,
    Event,
    Exit,
    JobEnded,
    KillTask,
    PaneCancel,
    PaneLost,
    Say,
    StaleFound,
    Tick,
    UsedUp,
)

DYING_S = 5.0
"""How long a worker that must die waits for its last results to be ``Stored``."""
_EARLY_COUNT = 256
_PAST_COUNT = 20

# -- phases ----------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Idle:
    """Nothing runs."""


@dataclass(slots=True, kw_only=True)
class Asking:
    """It is this task's turn; it waits for ``Go``."""

    run: Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The running task was asked to end."""

    kind: Literal["cancelled", "timeout"]
    message: str
    kill_at: float


@dataclass(slots=True, kw_only=True)
class Running:
    """This task runs."""

    run: Run
    since: float
    ending: Ending | None = None
    killed: bool = False


@dataclass(slots=True, kw_only=True)
class Dying:
    """The process must end, because of a task that runs in it; it waits for its results to be ``Stored``."""

    until: float


@dataclass(slots=True, kw_only=True)
class Gone:
    """``Exit`` was said; nothing may follow."""


Phase: TypeAlias = Idle | Asking | Running | Dying | Gone
Leaving: TypeAlias = Literal["", "drain", "now", "pane"]


class UnknownTransition(Exception):
    """An event came in a phase that has no rule for it: a mistake of ours.  ``past``: the last events, oldest first."""

    def __init__(self, phase: Phase, event: object, past: list[object]) -> None:
        self.phase = phase
        self.event = event
        self.past = past
        told = "\n".join(f"  {one!r:.300}" for one in past)
        super().__init__(f"no rule for {type(event).__name__} while {type(phase).__name__}; the last events:\n{told}")


class WorkerState:
    """One worker's state machine.

    ``greeting`` is the ``Hello`` of this process without what it holds.  ``now`` is monotonic seconds everywhere;
    ``offset_s`` added to it gives UTC epoch seconds, and is the owner's to keep right.
    """

    def __init__(self, greeting: Hello, *, now: float, offset_s: float = 0.0, orphan_ttl_s: float = 900.0) -> None:
        self.greeting = greeting
        self.offset_s = offset_s
        self.link = WorkerLink()
        self.phase: Phase = Idle()
        self.queue: dict[int, Run] = {}
        self.leaving: Leaving = ""
        self.stale: tuple[type[JobOptions], ...] = ()  # the kinds of job this process must not run any more
        self.alone_since: float | None = now
        self._orphan_ttl_s = orphan_ttl_s
        self._early: dict[Key, Recall | Stop] = {}
        self._kept: set[Key] = set()  # the keys of link.results(), which would have to be built for every question
        self._past: deque[object] = deque(maxlen=_PAST_COUNT)
        self._dos: list[Do] = []
        self._now = now

    # -- the door ----------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Do]:
        """Take in one event; return what to do, in this order.  Raises UnknownTransition for an event that cannot be."""
        self._past.append(event)
        rule = _RULES.get((type(self.phase), type(event)))
        if rule is None:
            raise UnknownTransition(self.phase, event, list(self._past))
        self._dos, self._now = [], now
        rule(self, event)
        self._settle()
        return self._dos

    def next_deadline(self) -> float | None:
        """Return when ``Tick`` is due if nothing else happens before; None: never."""
        times = []
        if isinstance(self.phase, Running):
            times.append(_due(self.phase))
        elif isinstance(self.phase, Dying):
            times.append(self.phase.until)
        if self.alone_since is not None and not self.is_orphan(self._now) and not isinstance(self.phase, (Dying, Gone)):
            times.append(self.alone_since + self._orphan_ttl_s)
        return min((time for time in times if time is not None), default=None)

    def is_orphan(self, now: float) -> bool:
        """Whether no controller was there for so long that this worker finishes what it runs and leaves."""
        return self.alone_since is not None and now - self.alone_since >= self._orphan_ttl_s

    @property
    def is_gone(self) -> bool:
        """Whether ``Exit`` was said."""
        return isinstance(self.phase, Gone)

    @property
    def running(self) -> Run | None:
        """The task that runs."""
        return self.phase.run if isinstance(self.phase, Running) else None

    @property
    def running_since(self) -> float | None:
        """When the task that runs began."""
        return self.phase.since if isinstance(self.phase, Running) else None

    @property
    def in_turn(self) -> Run | None:
        """The task that runs, or that waits for its ``Go``."""
        return self.phase.run if isinstance(self.phase, (Asking, Running)) else None

    def wait_for_nobody(self) -> None:
        """From now on, leave as soon as nothing runs and there is no controller."""
        self._orphan_ttl_s = 0.0

    # -- messages ----------------------------------------------------------------------------------

    def _who(self, who: Who) -> None:
        self.alone_since = None
        self._say(msgspec.structs.replace(self.greeting, holding=tuple(self._holding()), results=self.link.results()))
        for message in self.link.again():
            self._dos.append(Say(message))
        self._ask_for_replacement()

    def _run(self, run: Run) -> None:
        if self._is_known(run):
            return
        early = self._early.pop((run.task, run.attempt), None)
        if isinstance(early, Stop):
            self._end_unstarted(run, early.why)
        elif isinstance(early, Recall):
            self._give_back(run, "asked")
        elif self.leaving or isinstance(self.phase, Dying):
            self._give_back(run, "drain")
        elif isinstance(run.job, self.stale):
            self._give_back(run, "stale")
        elif isinstance(self.phase, Asking) and self.phase.run.task == run.task:
            old, self.phase = self.phase.run, Idle()
            self._give_back(old, "asked")
            self.queue = {run.task: run, **self.queue}
        else:
            self.queue[run.task] = run

    def _is_known(self, run: Run) -> bool:
        """Whether this attempt, or a later one of the task, is here already.  Says again what answers it."""
        key = (run.task, run.attempt)
        held = self.phase.run if isinstance(self.phase, (Asking, Running)) else None
        if key in self._kept or (held is not None and _key(held) == key):
            self._dos += [Say(message) for message in self.link.again() if _key(message) == key]
            return True
        queued = self.queue.get(run.task)
        return any(one is not None and one.task == run.task and one.attempt >= run.attempt for one in (queued, held))

    def _go(self, go: Go) -> None:
        if isinstance(self.phase, Asking) and _key(self.phase.run) == (go.task, go.attempt):
            self._begin(self.phase.run)

    def _recall(self, recall: Recall) -> None:
        key = (recall.task, recall.attempt)
        run = self._take_unstarted(recall.task, recall.attempt)
        if run is not None:
            self._give_back(run, "asked")
        elif not self._has_started(key):
            self._remember_early(key, recall)

    def _stored(self, stored: Stored) -> None:
        self.link.heard(stored)
        self._kept.difference_update(stored.keys)

    def _stop(self, stop: Stop) -> None:
        if not stop.task:
            self._leave("now" if stop.why == "now" else "drain")
            if stop.why == "now":
                self._cancel_running("cancelled", "cancelled: the worker was told to end", stop.grace_s)
            return
        run = self._take_unstarted(stop.task, stop.attempt)
        if run is not None:
            self._end_unstarted(run, stop.why)
        elif isinstance(self.phase, Running) and _fits(self.phase.run, stop.task, stop.attempt):
            kind: Literal["cancelled", "timeout"] = "timeout" if stop.why == "timeout" else "cancelled"
            self._cancel_running(kind, _message_of(kind, self.phase.run), stop.grace_s)
        elif stop.attempt and not self._has_started((stop.task, stop.attempt)):
            self._remember_early((stop.task, stop.attempt), stop)

    # -- local events ------------------------------------------------------------------------------

    def _job_ended(self, ended: JobEnded) -> None:
        phase, outcome = self.phase, ended.outcome
        assert isinstance(phase, Running)
        if _key(phase.run) != _key(outcome):
            raise UnknownTransition(phase, ended, list(self._past))
        if phase.ending is not None and isinstance(outcome, Failed):
            failure = msgspec.structs.replace(outcome.failure, kind=phase.ending.kind, message=phase.ending.message)
            outcome = msgspec.structs.replace(outcome, failure=failure)
        self.phase = Idle()
        self._say(outcome)
        self._ask_for_replacement()

    def _stale_found(self, found: StaleFound | UsedUp) -> None:
        self.stale = (JobOptions,) if isinstance(found, UsedUp) else self.stale or (PythonJob,)
        for run in [run for run in self.queue.values() if isinstance(run.job, self.stale)]:
            del self.queue[run.task]
            self._give_back(run, "stale")
        if isinstance(self.phase, Asking) and isinstance(self.phase.run.job, self.stale):
            run, self.phase = self.phase.run, Idle()
            self._give_back(run, "stale")

    def _child_group(self, child: ChildGroup) -> None:
        if isinstance(self.phase, Running) and _key(self.phase.run) == (child.task, child.attempt):
            self._say(Started(child.task, child.attempt, at=self.phase.since + self.offset_s, group=child.group))

    def _connection_down(self, _: ConnectionDown) -> None:
        self._early.clear()  # the next controller says again what it still wants
        if self.alone_since is None:
            self.alone_since = self._now

    def _pane_cancel(self, _: PaneCancel) -> None:
        if isinstance(self.phase, Running):
            self._cancel_running("cancelled", "cancelled from the pane", self.phase.run.grace_s)
        elif isinstance(self.phase, Asking):
            run, self.phase = self.phase.run, Idle()
            self._end_unstarted(run, "pane")

    def _pane_lost(self, _: PaneLost) -> None:
        self._leave("pane")

    def _nothing(self, _: object) -> None:
        """For a tick (``_settle`` looks at the time anyway), and for what comes too late to matter."""

    # -- steps -------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """After every event: what is overdue, whose turn it is, whether this was the end."""
        for _ in ("asked to end", "killed"):  # with a grace of 0 both at once
            if isinstance(self.phase, Running):
                self._look_at_limits(self.phase)
        if isinstance(self.phase, Idle) and self.queue and not self.leaving and not self.is_orphan(self._now):
            self._take_turn()
        if isinstance(self.phase, (Idle, Asking)) and self.is_orphan(self._now):
            self._exit(f"no controller for {self._orphan_ttl_s:g} s")
        elif isinstance(self.phase, Idle) and self.leaving and not self._kept:
            self._exit(f"asked to leave ({self.leaving})")
        elif isinstance(self.phase, Dying) and (self._now >= self.phase.until or not self._kept):
            self._exit("a task in this process had to be killed", kill=True)

    def _exit(self, why: str, *, kill: bool = False) -> None:
        self.phase = Gone()
        self._dos.append(Exit(why, kill))

    def _look_at_limits(self, phase: Running) -> None:
        due = _due(phase)
        if due is None or self._now < due:
            return
        if phase.ending is None:
            self._cancel_running("timeout", _message_of("timeout", phase.run), phase.run.grace_s)
        elif isinstance(phase.run.job, ShellJob):
            phase.killed = True
            self._dos.append(KillTask(phase.run.task, phase.run.attempt))
        else:
            self._die_with(phase, phase.ending)

    def _die_with(self, phase: Running, ending: Ending) -> None:
        run = phase.run
        report = Report(started_at=phase.since + self.offset_s, duration_s=self._now - phase.since)
        hint = f"it did not end within its grace of {run.grace_s:g} s, so its worker was killed with it"
        self.phase = Dying(until=self._now + DYING_S)
        self._say(Failed(run.task, run.attempt, report, Failure(ending.kind, ending.message, hint=hint)))
        self._give_back_queue()

    def _cancel_running(self, kind: Literal["cancelled", "timeout"], message: str, grace_s: float) -> None:
        phase = self.phase
        if not isinstance(phase, Running):
            return
        kill_at = self._now + grace_s
        if phase.ending is not None:
            # Asked again: the sooner end counts, the first reason stays.
            phase.ending = Ending(kind=phase.ending.kind, message=phase.ending.message, kill_at=min(kill_at, phase.ending.kill_at))
            return
        phase.ending = Ending(kind=kind, message=message, kill_at=kill_at)
        self._dos.append(Cancel(phase.run.task, phase.run.attempt, kind, grace_s))

    def _take_turn(self) -> None:
        run = self.queue.pop(next(iter(self.queue)))
        self._say(Started(run.task, run.attempt, at=self._now + self.offset_s))
        if run.ask:
            self.phase = Asking(run=run)
        else:
            self._begin(run)

    def _begin(self, run: Run) -> None:
        self.phase = Running(run=run, since=self._now)
        self._dos.append(Begin(run))

    def _leave(self, why: Leaving) -> None:
        if not self.leaving or why == "now":
            self.leaving = why
        if isinstance(self.phase, Asking):
            run, self.phase = self.phase.run, Idle()
            self._give_back(run, "drain")
        self._give_back_queue()

    def _give_back_queue(self) -> None:
        for run in self.queue.values():
            self._give_back(run, "drain")
        self.queue.clear()

    def _give_back(self, run: Run, why: Literal["asked", "stale", "drain"]) -> None:
        self._say(Recalled(run.task, run.attempt, why))

    def _ask_for_replacement(self) -> None:
        if JobOptions in self.stale:
            self._say(Recalled(0, 0, "stale"))

    def _end_unstarted(self, run: Run, why: str) -> None:
        kind: Literal["cancelled", "timeout"] = "timeout" if why == "timeout" else "cancelled"
        message = "cancelled from the pane before it started" if why == "pane" else f"{kind} before it started"
        self._say(Failed(run.task, run.attempt, Report(), Failure(kind, message)))

    def _take_unstarted(self, task: int, attempt: int) -> Run | None:
        """Take out and return a task that is queued or asked for; ``attempt`` 0 fits any."""
        if isinstance(self.phase, Asking) and _fits(self.phase.run, task, attempt):
            run, self.phase = self.phase.run, Idle()
            return run
        queued = self.queue.get(task)
        return self.queue.pop(task) if queued is not None and _fits(queued, task, attempt) else None

    def _has_started(self, key: Key) -> bool:
        return key in self._kept or (isinstance(self.phase, Running) and _key(self.phase.run) == key)

    def _remember_early(self, key: Key, message: Recall | Stop) -> None:
        """Keep a wish about a task that is still on its way: between the two lanes there is no order."""
        self._early[key] = message
        if len(self._early) > _EARLY_COUNT:
            del self._early[next(iter(self._early))]

    def _say(self, message: Message) -> None:
        self.link.sent(message)
        if isinstance(message, (Done, Failed)):
            self._kept.add((message.task, message.attempt))
        self._dos.append(Say(message))

    def _holding(self) -> list[Holding]:
        held = [Holding(run.task, run.attempt, "queued") for run in self.queue.values()]
        if isinstance(self.phase, (Asking, Running)):
            run = self.phase.run
            held.insert(0, Holding(run.task, run.attempt, "running" if isinstance(self.phase, Running) else "asked"))
        return held

    # -- proof -------------------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """Raise AssertionError when what must always hold between two events does not."""
        held = [(one.task, one.attempt) for one in self._holding()]
        assert len(held) == len(set(held)), f"held twice: {held}"
        assert not set(held) & set(self.link.results()), f"held and ended: {held} {self.link.results()}"
        assert self._kept == set(self.link.results())
        assert all(task == run.task for task, run in self.queue.items())
        if isinstance(self.phase, Gone):
            return
        orphan = self.is_orphan(self._now)
        if isinstance(self.phase, Idle):
            assert not self.queue or self.leaving or orphan, f"{len(self.queue)} tasks wait and nothing runs"
            assert not self.leaving or self.link.results(), "nothing is left to do, and the worker is still here"
        assert not (isinstance(self.phase, (Idle, Asking)) and orphan), "an orphan that runs nothing is still here"
        if self.leaving or isinstance(self.phase, Dying):
            assert not self.queue, "a leaving worker holds tasks it will not run"
            assert not isinstance(self.phase, Asking)
        assert not any(isinstance(run.job, self.stale) for run in self.queue.values()), "a stale process would run it"
        if isinstance(self.phase, Running) and not self.phase.killed:
            due = _due(self.phase)
            assert due is None or due > self._now, f"a limit passed {self._now - (due or 0):.3f} s ago"


def _key(one: Any) -> Key:
    return (one.task, one.attempt)


def _fits(run: Run, task: int, attempt: int) -> bool:
    return run.task == task and attempt in {0, run.attempt}


def _due(phase: Running) -> float | None:
    """When the running task must be asked to end, or be killed; None: no limit, or killed already."""
    if phase.ending is not None:
        return None if phase.killed else phase.ending.kill_at
    return phase.since + phase.run.timeout_s if phase.run.timeout_s > 0 else None


def _message_of(kind: Literal["cancelled", "timeout"], run: Run) -> str:
    if kind == "cancelled":
        return "cancelled"
    return f"timed out after {run.timeout_s:g} s" if run.timeout_s > 0 else "timed out"


_ALIVE: tuple[type[Phase], ...] = (Idle, Asking, Running, Dying)
_TRANSITIONS: tuple[tuple[type[object], str, tuple[type[Phase], ...]], ...] = (
    # what happens, what is done, in which phases it may come
    (Who, "_who", _ALIVE),
    (Run, "_run", _ALIVE),
    (Go, "_go", _ALIVE),
    (Recall, "_recall", _ALIVE),
    (Stored, "_stored", _ALIVE),
    (Stop, "_stop", _ALIVE),
    (JobEnded, "_job_ended", (Running,)),
    (JobEnded, "_nothing", (Dying,)),  # it ended after all, just after its Failed was said
    (StaleFound, "_stale_found", _ALIVE),
    (UsedUp, "_stale_found", (Running, Dying)),
    (ChildGroup, "_child_group", (Running,)),
    (ConnectionDown, "_connection_down", _ALIVE),
    (PaneCancel, "_pane_cancel", _ALIVE),
    (PaneLost, "_pane_lost", _ALIVE),
    (Tick, "_nothing", _ALIVE),
)
_RULES: dict[tuple[type[Phase], type[object]], Callable[[WorkerState, Any], None]] = {
    (phase, event): getattr(WorkerState, rule) for event, rule, phases in _TRANSITIONS for phase in phases
}
