"""What a worker says about its tasks, and what follows from it.

Every message names (task, attempt); one that is not leased to this very life is late: it is acknowledged, counted
and changes nothing.  First commit wins.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from tmax.core import contexts, placement
from tmax.core.desk import KILL_MARGIN_S, PROOF, Desk
from tmax.core.endings import UNRUN, after_failure, outcome_of
from tmax.core.model import Outcome, Task, TaskState, WorkerState
from tmax.core.roster import Life
from tmax_pipes.messages import Beat, Done, Failed, FromWorker, Go, Recalled, Run, Started, Stop

S = TaskState


def on_said(desk: Desk, life: Life, message: FromWorker) -> None:
    """Take one message (anything but Hello) of a live worker."""
    life.heard_at = desk.now
    life.link.heard(message)
    rule = _RULES.get(type(message))
    if rule is not None:
        rule(desk, life, message)


def on_beat(_: Desk, life: Life, message: Beat) -> None:
    """It lives, and needs so much."""
    life.beat_rss_bytes, life.beat_cpu_s = message.rss_bytes, message.cpu_s


def leased_to(desk: Desk, life: Life, number: int, attempt: int) -> Task | None:
    """Return the task, if that very attempt is leased to that very life."""
    return desk.ledger.tasks[number] if life.held.get(number) == attempt else None


def on_started(desk: Desk, life: Life, message: Started) -> None:
    """Its turn has come: record it, and after that give ``Go`` to work that may run only once."""
    task = leased_to(desk, life, message.task, message.attempt)
    if task is None:
        # It must not run, and one that waits for Go would wait for ever, with everything behind it.
        if message.task:
            desk.tell(life.id, Stop(task=message.task, attempt=message.attempt, why="cancel", grace_s=desk.settings.tasks.grace_s))
        return
    assert task.lease is not None, "a started task has a lease"
    asks = task.delivery == "at-most-once"
    life.running = task.id
    life.withdrawn.discard(task.id)
    life.progress_at = desk.now
    lease = replace(task.lease, started_at=task.lease.started_at or message.at or desk.wall, group=message.group or task.lease.group)
    if task.state is S.SENT:
        # At-least-once work is found again by asking the worker; only what may not run twice must be on disk first.
        task = desk.ledger.move(task, S.RUNNING, keep=asks or bool(lease.group), lease=lease)
        if task.timeout_s:
            desk.backstop(task, desk.now + task.timeout_s + task.grace_s + KILL_MARGIN_S, "timeout")
    elif lease != task.lease:
        task = desk.ledger.note(task, lease=lease)
    if asks and not message.group and not task.cancelling:
        desk.tell(life.id, Go(task=task.id, attempt=task.attempt))


def on_recalled(desk: Desk, life: Life, message: Recalled) -> None:
    """It has not started and is given back; uncharged."""
    task = leased_to(desk, life, message.task, message.attempt)
    if task is not None:
        unwanted = task.cancelling or task.id in life.withdrawn
        desk.leave(life, task)
        if unwanted:
            desk.end(task, S.CANCELLED, outcome_of(UNRUN))
        else:
            desk.back(task)
    if message.why == "stale" and not life.retiring:
        _replace_used(desk, life)


def on_end(desk: Desk, life: Life, message: Done | Failed) -> None:
    """A result: recorded if it is this lease's, acknowledged in any case."""
    desk.stored(life, (message.task, message.attempt))
    if message.task == 0:
        if life.state is WorkerState.PROVING:
            life.state = WorkerState.IDLE
            contexts.free_unused(desk, life)
        return
    task = leased_to(desk, life, message.task, message.attempt)
    if task is None:
        desk.late_duplicates += 1
        return
    desk.leave(life, task)
    life.progress_at = desk.now
    if task.job.fresh and not life.retiring:
        _replace_used(desk, life)
    placement.learn(life, message.report.duration_s)
    if isinstance(message, Done):
        desk.move_life(life, tasks_done=life.record.tasks_done + 1)
        desk.end(task, S.DONE, Outcome(report=message.report, result=message.result, form=message.form))
    else:
        life.tasks_failed += 1
        _on_failed(desk, task, message)


def _on_failed(desk: Desk, task: Task, message: Failed) -> None:
    outcome = Outcome(report=message.report, failure=message.failure)
    leaving_now = desk.leaving is not None and desk.leaving.now
    verdict = after_failure(task, message.failure, desk.settings.tasks, leaving_now=leaving_now)
    if verdict.to is S.WAITING:
        desk.ledger.move(task, S.WAITING, lease=None, failures=task.failures + 1, outcome=outcome)
        heapq.heappush(desk.delayed, (desk.now + verdict.delay_s, task.id))
    elif verdict.to is S.READY:
        desk.back(task)
    else:
        desk.end(task, verdict.to, replace(outcome, failure=verdict.outcome.failure or message.failure))


def _replace_used(desk: Desk, life: Life) -> None:
    """This process is to run nothing more; its place is taken at once if it is empty, else when it has ended."""
    if life.held or life.pooled:
        desk.retire(life, now=False)
    else:
        contexts.replace(desk, life)


def prove(desk: Desk, life: Life) -> None:
    """Send the no-op that must come back before the worker is ready."""
    life.state = WorkerState.PROVING
    desk.tell(life.id, Run(task=0, attempt=life.id, job=PROOF))


_RULES: dict[type[Any], Callable[[Desk, Life, Any], None]] = {
    Done: on_end,
    Failed: on_end,
    Started: on_started,
    Recalled: on_recalled,
    Beat: on_beat,
}
