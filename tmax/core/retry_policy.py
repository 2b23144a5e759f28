"""Decides what happens to a task whose worker died, and to a task that failed; the rules are in ``docs/reliability.md``."""

from __future__ import annotations

from dataclasses import dataclass, field

from tmax.core.events import LifeEnded
from tmax.core.model import Crash, Outcome, Task, TaskState
from tmax.core.roster import Life
from tmax.core.settings import TaskSettings
from tmax_pipes.messages import Failure, Report

S = TaskState

RETRIED = frozenset({"exception", "exit", "signal", "timeout"})
"""Kinds of failure that are retried.  A retry cannot repair the others, such as a missing module."""


SIGKILL = 9
KILLED_HINT = "tmax did not kill it; the kernel does when memory runs out (see dmesg), or another process did"
NOT_AGAIN = "it is not run again because it may have side effects"
AGAIN = "submit it again, or use --deliveries N"
UNRUN = Failure(kind="cancelled", message="cancelled before it ran")
LOST = Failure(kind="cancelled", message="cancelled; its worker does not have it any more")
TAKEN_DOWN = Failure(kind="signal", message=f"the swarm was taken down while it ran; {NOT_AGAIN}", hint=AGAIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The next state of the task: back in the queue, a pause before a retry, or an end with its outcome."""

    to: TaskState
    outcome: Outcome = field(default_factory=Outcome)
    crashes: tuple[Crash, ...] = ()
    solo: bool = False
    delay_s: float = 0.0


def outcome_of(failure: Failure, report: Report | None = None) -> Outcome:
    """Return the outcome of a task that the controller, not a worker, ended."""
    return Outcome(failure=failure, report=report or Report())


def _run_of(task: Task, wall: float) -> Report:
    """Return what is known of a run whose worker died before it could report it: when it began, and how long it ran."""
    began = task.lease.started_at if task.lease else 0.0
    return Report(started_at=began, duration_s=max(0.0, wall - began)) if began else Report()


def after_death(task: Task, life: Life, event: LifeEnded, *, culprit: bool, wall: float, leaving: bool) -> Verdict:
    """Decide about a task whose worker died.

    Only the culprit (the task that had started, or the only one held) is charged, and no task when the whole swarm
    ended; the others return to the queue unchanged.  After any death the tasks run one at a time, so that the next death shows its culprit.
    """
    started = task.state is S.RUNNING
    if task.cancelling and not (life.killed == "timeout" and culprit):
        return Verdict(
            to=S.CANCELLED, crashes=task.crashes, outcome=outcome_of(Failure(kind="cancelled", message="cancelled; its worker was ended"))
        )
    if life.killed == "timeout" and culprit:
        message = f"did not end within its {task.options.timeout_s:g} s nor {task.options.grace_s:g} s after being interrupted; its worker was ended"
        return Verdict(to=S.FAILED, crashes=task.crashes, outcome=outcome_of(Failure(kind="timeout", message=message), _run_of(task, wall)))
    if started and task.delivery == "at-most-once":
        return _interrupted(task, life, event, wall, leaving=leaving)
    if not culprit or leaving or event.whole:
        return Verdict(to=S.READY, crashes=task.crashes, solo=task.solo or not (leaving or event.whole))
    crashes = (*task.crashes, _crash(life, event, wall))
    if len(crashes) < task.options.deliveries:
        return Verdict(to=S.READY, crashes=crashes, solo=True)
    message = f"{len(crashes)} worker{'s' if len(crashes) > 1 else ''} died under it; the last one: {event.cause}"
    return Verdict(
        to=S.DEAD,
        crashes=crashes,
        outcome=outcome_of(Failure(kind="signal", message=message, signal=event.signal, hint=_hint(event)), _run_of(task, wall)),
    )


def _hint(event: LifeEnded) -> str:
    """Return the likely cause of a death by SIGKILL; empty for any other death."""
    return KILLED_HINT if event.signal == SIGKILL else ""


def _interrupted(task: Task, life: Life, event: LifeEnded, wall: float, *, leaving: bool) -> Verdict:
    if leaving:
        return Verdict(to=S.INTERRUPTED, crashes=task.crashes, outcome=outcome_of(TAKEN_DOWN, _run_of(task, wall)))
    message = f"its worker {life.name} ended while it ran ({event.cause}); {NOT_AGAIN}"
    hint = AGAIN if life.killed or not _hint(event) else f"{_hint(event)}; {AGAIN}"
    failure = Failure(kind="signal", message=message, signal=event.signal, hint=hint)
    return Verdict(to=S.INTERRUPTED, crashes=(*task.crashes, _crash(life, event, wall)), outcome=outcome_of(failure, _run_of(task, wall)))


def _crash(life: Life, event: LifeEnded, wall: float) -> Crash:
    return Crash(
        at=wall,
        life=life.id,
        worker=life.name,
        cause=event.cause,
        signal=event.signal,
        exit_code=event.exit_code,
        peak_rss_bytes=event.peak_rss_bytes or life.beat_rss_bytes,
    )


def after_failure(task: Task, failure: Failure, settings: TaskSettings, *, leaving_now: bool) -> Verdict:
    """Decide about a task that a worker reported as failed."""
    if failure.kind == "cancelled":
        if task.cancelling or not leaving_now:
            return Verdict(to=S.CANCELLED)
        # `down --now` ended it, not a cancellation: a task that may run again stays in the queue.
        if task.delivery == "at-most-once" and task.state is S.RUNNING:
            return Verdict(to=S.INTERRUPTED, outcome=outcome_of(TAKEN_DOWN))
        return Verdict(to=S.READY)
    if task.failures < task.options.retries and failure.kind in RETRIED and not task.cancelling:
        delay_s = min(settings.retry_delay_s * 2**task.failures, settings.retry_delay_max_s)
        return Verdict(to=S.WAITING, delay_s=delay_s)
    return Verdict(to=S.FAILED)
