r"""A worker's state and decisions; pure: no clock, no file, no process.

::

    message or local event, now  -->  WorkerStateMachine.handle  -->  instructions: Send Begin CancelTask KillTask ExitWorker

    Idle ------Run------> Running --JobEnded--> Idle        one task at a time, in the order of arrival
      \--Run(needs_go)--> AwaitingGo --Go--> Running
                      Running --command ended by a signal from outside--> Settling --SETTLE_S--> Idle
                      Running --grace over, in this process--> Dying --all Stored, or time over--> Gone
    leaving ("drain", "now", "pane"): no task begins, queued tasks are given back; Idle and all Stored --> Gone
    leaving ("killed": TERM from outside): the same, but Idle --> Gone at once; results that are not Stored go to a file

Results are kept (in the link) until ``Stored``.  Messages without a connection may be dropped: after the next ``Who``
the ``Hello`` and the link repeat all that matters.

A task in this process that ignores its cancellation can only be ended with the process.  Its ``Failed`` is sent first,
then the worker waits for ``Stored`` (``Dying``), then the process ends: the controller gets the reason before the death.

The end of a task that only its worker's leaving caused is not reported.  The controller sees the death, and runs the task
again or marks it interrupted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal

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
from tmax_workers.phases import (
    DYING_S,
    SETTLE_S,
    SIGTERM,
    AwaitingGo,
    Dying,
    Ending,
    Gone,
    Idle,
    Leaving,
    Phase,
    Reason,
    Running,
    Settling,
    UnknownTransition,
    due,
    is_own_end,
    may_be_shutdown,
    message_of,
)
from tmax_workers.task_admission import AcceptedTasks, EarlyRequests, is_about
from tmax_workers.worker_events import (
    Begin,
    CancelTask,
    ChildGroup,
    ConnectionDown,
    Event,
    ExitWorker,
    Instruction,
    JobEnded,
    KillTask,
    PaneCancel,
    PaneLost,
    Send,
    SpillResults,
    StaleFound,
    Terminated,
    TimeElapsed,
    Unreported,
    UsedUp,
)


class WorkerStateMachine:
    """One worker's state machine.

    ``hello`` is the ``Hello`` of this process without what it holds.  ``now`` is monotonic seconds everywhere;
    ``offset_s`` added to it gives UTC epoch seconds, and is the owner's to keep right.
    """

    def __init__(self, hello: Hello, *, now: float, offset_s: float = 0.0, orphan_ttl_s: float = 900.0) -> None:
        self.hello = hello
        self.offset_s = offset_s
        self.link = WorkerLink()
        self.phase: Phase = Idle()
        self.queue: dict[int, Run] = {}
        self.leaving: Leaving = ""
        self.stale: tuple[type[JobOptions], ...] = ()  # kinds of job that this process must not run any more
        self._taken = AcceptedTasks()
        self.alone_since: float | None = now
        self._orphan_ttl_s = orphan_ttl_s
        self._last: tuple[float, Done | Failed] | None = None
        """The last command's outcome, and when it was reported."""
        self._early_requests = EarlyRequests()
        self._kept: set[Key] = set()  # the keys of link.results(), kept to avoid building that tuple for each check
        self._past: deque[object] = deque(maxlen=20)
        self._instructions: list[Instruction] = []
        self._now = now

    # -- interface ---------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Handle one event; return the instructions, in order.  Raises UnknownTransition for an event that this phase does not allow."""
        self._past.append(event)
        rule = _RULES.get((type(self.phase), type(event)))
        if rule is None:
            raise UnknownTransition(self.phase, event, list(self._past))
        self._instructions, self._now = [], now
        rule(self, event)
        self._settle()
        return self._instructions

    def keep(self, results: Iterable[Done | Failed]) -> None:
        """Take over results of this life that may not be ``Stored``."""
        for one in results:
            self._send(one)

    def next_deadline(self) -> float | None:
        """Return when ``TimeElapsed`` is due without another event; None: never."""
        times = []
        if isinstance(self.phase, Running):
            times.append(due(self.phase))
        elif isinstance(self.phase, (Settling, Dying)):
            times.append(self.phase.until)
        if self.alone_since is not None and not self.is_orphan(self._now) and not isinstance(self.phase, (Dying, Gone)):
            times.append(self.alone_since + self._orphan_ttl_s)
        return min((time for time in times if time is not None), default=None)

    def is_orphan(self, now: float) -> bool:
        """Whether this worker had no controller for ``orphan_ttl_s``, so that it finishes what it runs and leaves."""
        return self.alone_since is not None and now - self.alone_since >= self._orphan_ttl_s

    @property
    def is_gone(self) -> bool:
        """Whether ``ExitWorker`` was issued."""
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
        return self.phase.run if isinstance(self.phase, (AwaitingGo, Running)) else None

    # -- messages ----------------------------------------------------------------------------------

    def _who(self, who: Who) -> None:
        self.alone_since = None
        self._send(msgspec.structs.replace(self.hello, holding=tuple(self._holding()), results=self.link.results()))
        for message in self.link.to_resend():
            self._instructions.append(Send(message))
        self._request_replacement()

    def _run(self, run: Run) -> None:
        if self._is_known(run):
            return
        early = self._early_requests.take((run.task, run.attempt))
        if isinstance(early, Stop):
            self._end_unstarted(run, early.why)
        elif isinstance(early, Recall):
            self._give_back(run, "asked")
        elif self.leaving or isinstance(self.phase, Dying):
            self._give_back(run, "drain")
        elif isinstance(run.job, self.stale) or not self._taken.fits(run):
            self._give_back(run, "stale")
        elif isinstance(self.phase, AwaitingGo) and self.phase.run.task == run.task:
            old, self.phase = self.phase.run, Idle()
            self._give_back(old, "asked")
            self.queue = {run.task: run, **self.queue}
        else:
            self.queue[run.task] = run

    def _is_known(self, run: Run) -> bool:
        """Whether this attempt, or a later one of the task, is known already.  Sends its answer again."""
        key = (run.task, run.attempt)
        held = self.phase.run if isinstance(self.phase, (AwaitingGo, Running, Settling)) else None
        if key in self._kept or (held is not None and _key(held) == key):
            self._instructions += [Send(message) for message in self.link.to_resend() if _key(message) == key]
            return True
        queued = self.queue.get(run.task)
        return any(one is not None and one.task == run.task and one.attempt >= run.attempt for one in (queued, held))

    def _go(self, go: Go) -> None:
        if isinstance(self.phase, AwaitingGo) and _key(self.phase.run) == (go.task, go.attempt):
            self._begin(self.phase.run)

    def _recall(self, recall: Recall) -> None:
        key = (recall.task, recall.attempt)
        run = self._take_unstarted(recall.task, recall.attempt)
        if run is not None:
            self._give_back(run, "asked")
        elif not self._has_started(key):
            self._early_requests.remember(key, recall)

    def _stored(self, stored: Stored) -> None:
        self.link.received(stored)
        self._kept.difference_update(stored.keys)

    def _stop(self, stop: Stop) -> None:
        if not stop.task:
            self._leave("now" if stop.why == "now" else "drain")
            if stop.why == "now":
                self._cancel_running("leaving", "", stop.grace_s)
            return
        run = self._take_unstarted(stop.task, stop.attempt)
        if run is not None:
            self._end_unstarted(run, stop.why)
        elif isinstance(self.phase, Running) and is_about(self.phase.run, stop.task, stop.attempt):
            kind: Reason = "timeout" if stop.why == "timeout" else "cancelled"
            self._cancel_running(kind, message_of(kind, self.phase.run), stop.grace_s)
        elif stop.attempt and not self._has_started((stop.task, stop.attempt)):
            self._early_requests.remember((stop.task, stop.attempt), stop)

    # -- local events ------------------------------------------------------------------------------

    def _job_ended(self, ended: JobEnded) -> None:
        phase, outcome = self.phase, ended.outcome
        assert isinstance(phase, Running)
        if _key(phase.run) != _key(outcome):
            raise UnknownTransition(phase, ended, list(self._past))
        ending, self.phase = phase.ending, Idle()
        if ending is None and may_be_shutdown(phase.run, outcome) and isinstance(outcome, Failed):
            self.phase = Settling(run=phase.run, outcome=outcome, until=self._now + SETTLE_S)
            return
        if ending is not None and ending.kind == "leaving":
            if is_own_end(phase.run, outcome):
                self._send(outcome)
            else:
                self._instructions.append(Unreported(outcome))
            return
        if isinstance(outcome, Failed) and (ending is not None or outcome.failure.kind == "cancelled"):
            # Without an ``ending`` it was not cancelled: the task raised TaskCancelled itself.
            kind, message = (ending.kind, ending.message) if ending is not None else ("exception", "TaskCancelled")
            outcome = msgspec.structs.replace(outcome, failure=msgspec.structs.replace(outcome.failure, kind=kind, message=message))
        elif isinstance(phase.run.job, ShellJob):
            self._last = (self._now, outcome)
        self._send(outcome)
        self._request_replacement()

    def _stale_found(self, found: StaleFound | UsedUp) -> None:
        self.stale = (JobOptions,) if isinstance(found, UsedUp) else self.stale or (PythonJob,)
        for run in [run for run in self.queue.values() if isinstance(run.job, self.stale)]:
            del self.queue[run.task]
            self._give_back(run, "stale")
        if isinstance(self.phase, AwaitingGo) and isinstance(self.phase.run.job, self.stale):
            run, self.phase = self.phase.run, Idle()
            self._give_back(run, "stale")

    def _child_group(self, child: ChildGroup) -> None:
        if isinstance(self.phase, Running) and _key(self.phase.run) == (child.task, child.attempt):
            self._send(Started(child.task, child.attempt, at=self.phase.since + self.offset_s, group=child.group))

    def _connection_down(self, _: ConnectionDown) -> None:
        self._early_requests.clear()  # the next controller repeats what it still wants
        if self.alone_since is None:
            self.alone_since = self._now

    def _pane_cancel(self, _: PaneCancel) -> None:
        if isinstance(self.phase, Running):
            self._cancel_running("cancelled", "cancelled from the pane", self.phase.run.options.grace_s)
        elif isinstance(self.phase, AwaitingGo):
            run, self.phase = self.phase.run, Idle()
            self._end_unstarted(run, "pane")

    def _pane_lost(self, _: PaneLost) -> None:
        self._leave("pane")

    def _terminated(self, _: Terminated) -> None:
        """TERM from outside counts as a death, with time to give back what has not started; it cancels no task."""
        self._take_back()
        self._leave("killed")
        if isinstance(self.phase, Settling):
            outcome, self.phase = self.phase.outcome, Idle()
            self._instructions.append(Unreported(outcome))
        elif isinstance(self.phase, Running):
            self._cancel_running("leaving", "", self.phase.run.options.grace_s)
            if self._kept:
                self._instructions.append(SpillResults())
        elif isinstance(self.phase, Dying):
            self._exit("a task in this process had to be killed", kill=True)

    def _take_back(self) -> None:
        """Withdraw the unstored end of a command that ended just before, with any status: it may have received the same TERM."""
        at, outcome = self._last or (0.0, None)
        if outcome is not None and _key(outcome) in self._kept and self._now - at < SETTLE_S:
            self._stored(Stored((_key(outcome),)))
            self._instructions.append(Unreported(outcome))

    def _nothing(self, _: object) -> None:
        """For ``TimeElapsed`` (``_settle`` checks the time anyway), and for events that arrive too late to matter."""

    # -- steps -------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """After every event: apply limits, begin the next task, leave if nothing is left."""
        for _ in ("cancelled", "killed"):  # with a grace of 0 both apply at once
            if isinstance(self.phase, Running):
                self._look_at_limits(self.phase)
        if isinstance(self.phase, Settling) and self._now >= self.phase.until:
            outcome, self.phase = self.phase.outcome, Idle()
            self._send(outcome)
        if isinstance(self.phase, Idle) and self.queue and not self.leaving and not self.is_orphan(self._now):
            self._take_turn()
        if isinstance(self.phase, Idle) and self.leaving == "killed":
            self._exit("killed by SIGTERM", signal=SIGTERM)
        elif isinstance(self.phase, (Idle, AwaitingGo)) and self.is_orphan(self._now):
            self._exit(f"no controller for {self._orphan_ttl_s:g} s")
        elif isinstance(self.phase, Idle) and self.leaving and not self._kept:
            self._exit(f"asked to leave ({self.leaving})")
        elif isinstance(self.phase, Dying) and (self._now >= self.phase.until or not self._kept):
            self._exit("a task in this process had to be killed", kill=True)

    def _exit(self, why: str, *, kill: bool = False, signal: int = 0) -> None:
        self.phase = Gone()
        self._instructions.append(ExitWorker(why, kill, signal))

    def _look_at_limits(self, phase: Running) -> None:
        limit = due(phase)
        if limit is None or self._now < limit:
            return
        if phase.ending is None:
            self._cancel_running("timeout", message_of("timeout", phase.run), phase.run.options.grace_s)
        elif isinstance(phase.run.job, ShellJob):
            phase.killed = True
            self._instructions.append(KillTask(phase.run.task, phase.run.attempt))
        elif phase.ending.kind != "leaving":
            self._die_with(phase, phase.ending)
        elif self.leaving == "killed":
            self._exit("killed by SIGTERM", signal=SIGTERM)
        else:
            self._exit("the running task did not end", kill=True)

    def _die_with(self, phase: Running, ending: Ending) -> None:
        run = phase.run
        report = Report(started_at=phase.since + self.offset_s, duration_s=self._now - phase.since)
        hint = f"it did not end within its grace of {run.options.grace_s:g} s, so its worker was killed with it"
        self.phase = Dying(until=self._now + DYING_S)
        kind: Literal["cancelled", "timeout"] = "timeout" if ending.kind == "timeout" else "cancelled"
        self._send(Failed(run.task, run.attempt, report, Failure(kind, ending.message, hint=hint)))
        self._give_back_queue()

    def _cancel_running(self, kind: Reason, message: str, grace_s: float) -> None:
        phase = self.phase
        if not isinstance(phase, Running):
            return
        kill_at = self._now + grace_s
        if phase.ending is not None:
            # A repeated request: the earlier kill counts and the first reason stays, except that a cancellation replaces "leaving".
            first = phase.ending if phase.ending.kind != "leaving" else Ending(kind=kind, message=message, kill_at=kill_at)
            phase.ending = Ending(kind=first.kind, message=first.message, kill_at=min(kill_at, phase.ending.kill_at))
            return
        phase.ending = Ending(kind=kind, message=message, kill_at=kill_at)
        self._instructions.append(CancelTask(phase.run.task, phase.run.attempt, kind, grace_s))

    def _take_turn(self) -> None:
        run = self.queue.pop(next(iter(self.queue)))
        self._send(Started(run.task, run.attempt, at=self._now + self.offset_s))
        if run.needs_go:
            self.phase = AwaitingGo(run=run)
        else:
            self._begin(run)

    def _begin(self, run: Run) -> None:
        self.phase = Running(run=run, since=self._now)
        self._instructions.append(Begin(run))

    def _leave(self, why: Leaving) -> None:
        if self.leaving != "killed" and (not self.leaving or why in {"now", "killed"}):
            self.leaving = why
        if isinstance(self.phase, AwaitingGo):
            run, self.phase = self.phase.run, Idle()
            self._give_back(run, "drain")
        self._give_back_queue()

    def _give_back_queue(self) -> None:
        for run in self.queue.values():
            self._give_back(run, "drain")
        self.queue.clear()

    def _give_back(self, run: Run, why: Literal["asked", "stale", "drain"]) -> None:
        self._send(Recalled(run.task, run.attempt, why))

    def _request_replacement(self) -> None:
        if JobOptions in self.stale:
            self._send(Recalled(0, 0, "stale"))

    def _end_unstarted(self, run: Run, why: str) -> None:
        kind: Literal["cancelled", "timeout"] = "timeout" if why == "timeout" else "cancelled"
        message = "cancelled from the pane before it started" if why == "pane" else f"{kind} before it started"
        self._send(Failed(run.task, run.attempt, Report(), Failure(kind, message)))

    def _take_unstarted(self, task: int, attempt: int) -> Run | None:
        """Remove and return a task that is queued or awaits ``Go``; ``attempt`` 0 matches any."""
        if isinstance(self.phase, AwaitingGo) and is_about(self.phase.run, task, attempt):
            run, self.phase = self.phase.run, Idle()
            return run
        queued = self.queue.get(task)
        return self.queue.pop(task) if queued is not None and is_about(queued, task, attempt) else None

    def _has_started(self, key: Key) -> bool:
        return key in self._kept or (isinstance(self.phase, (Running, Settling)) and _key(self.phase.run) == key)

    def _send(self, message: Message) -> None:
        self.link.sent(message)
        if isinstance(message, (Done, Failed)):
            self._kept.add((message.task, message.attempt))
        self._instructions.append(Send(message))

    def _holding(self) -> list[Holding]:
        held = [Holding(run.task, run.attempt, "queued") for run in self.queue.values()]
        if isinstance(self.phase, (AwaitingGo, Running, Settling)):
            run = self.phase.run
            held.insert(0, Holding(run.task, run.attempt, "asked" if isinstance(self.phase, AwaitingGo) else "running"))
        return held

    # -- checks ------------------------------------------------------------------------------------

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
            assert not self.leaving or self.link.results(), "nothing is left to do, and the worker is still alive"
        assert not (isinstance(self.phase, (Idle, AwaitingGo)) and orphan), "an orphan that runs nothing is still alive"
        assert not (isinstance(self.phase, (Idle, AwaitingGo, Settling)) and self.leaving == "killed"), "killed, and still alive"
        if isinstance(self.phase, Settling):
            assert self.phase.until > self._now, "the end of a command is withheld for too long"
        if self.leaving or isinstance(self.phase, Dying):
            assert not self.queue, "a leaving worker holds tasks it will not run"
            assert not isinstance(self.phase, AwaitingGo)
        assert not any(isinstance(run.job, self.stale) for run in self.queue.values()), "a stale process would run it"
        if isinstance(self.phase, Running) and not self.phase.killed:
            limit = due(self.phase)
            assert limit is None or limit > self._now, f"a limit passed {self._now - (limit or 0):.3f} s ago"


def _key(one: Any) -> Key:
    return (one.task, one.attempt)


_ALIVE: tuple[type[Phase], ...] = (Idle, AwaitingGo, Running, Settling, Dying)
_TRANSITIONS: tuple[tuple[type[object], str, tuple[type[Phase], ...]], ...] = (
    # event, rule, phases in which it may arrive
    (Who, "_who", _ALIVE),
    (Run, "_run", _ALIVE),
    (Go, "_go", _ALIVE),
    (Recall, "_recall", _ALIVE),
    (Stored, "_stored", _ALIVE),
    (Stop, "_stop", _ALIVE),
    (JobEnded, "_job_ended", (Running,)),
    (JobEnded, "_nothing", (Dying,)),  # it ended just after its Failed was sent
    (StaleFound, "_stale_found", _ALIVE),
    (UsedUp, "_stale_found", (Running, Dying)),
    (ChildGroup, "_child_group", (Running,)),
    (ConnectionDown, "_connection_down", _ALIVE),
    (PaneCancel, "_pane_cancel", _ALIVE),
    (PaneLost, "_pane_lost", _ALIVE),
    (Terminated, "_terminated", _ALIVE),
    (TimeElapsed, "_nothing", _ALIVE),
)
_RULES: dict[tuple[type[Phase], type[object]], Callable[[WorkerStateMachine, Any], None]] = {
    (phase, event): getattr(WorkerStateMachine, rule) for event, rule, phases in _TRANSITIONS for phase in phases
}
