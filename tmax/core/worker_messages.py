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
from tmax.core.model import Outcome, Task, TaskState, WorkerState
from tmax.core.retry_policy import UNRUN, after_failure, outcome_of
from tmax.core.roster import Life
from tmax.core.state import KILL_MARGIN_S, PROOF, SchedulerState
from tmax_pipes.messages import Beat, Done, Failed, FromWorker, Go, Recalled, Run, Started, Stop

S = TaskState


def on_message(state: SchedulerState, life: Life, message: FromWorker) -> None:
    """Take one message (anything but Hello) of a live worker."""
    life.last_message_at = state.now
    life.link.received(message)
    rule = _RULES.get(type(message))
    if rule is not None:
        rule(state, life, message)


def on_beat(_: SchedulerState, life: Life, message: Beat) -> None:
    """It lives, and needs so much."""
    life.beat_rss_bytes, life.beat_cpu_s = message.rss_bytes, message.cpu_s


def leased_to(state: SchedulerState, life: Life, number: int, attempt: int) -> Task | None:
    """Return the task, if that very attempt is leased to that very life."""
    return state.ledger.tasks[number] if life.held.get(number) == attempt else None


def on_started(state: SchedulerState, life: Life, message: Started) -> None:
    """Its turn has come: record it, and after that give ``Go`` to work that may run only once."""
    task = leased_to(state, life, message.task, message.attempt)
    if task is None:
        # It must not run, and one that waits for Go would wait for ever, with everything behind it.
        if message.task:
            state.send(life.id, Stop(task=message.task, attempt=message.attempt, why="cancel", grace_s=state.settings.tasks.grace_s))
        return
    assert task.lease is not None, "a started task has a lease"
    asks = task.delivery == "at-most-once"
    life.running = task.id
    life.withdrawn.discard(task.id)
    life.progress_at = state.now
    lease = replace(task.lease, started_at=task.lease.started_at or message.at or state.wall, group=message.group or task.lease.group)
    if task.state is S.SENT:
        # At-least-once work is found again by asking the worker; only what may not run twice must be on disk first.
        task = state.ledger.move(task, S.RUNNING, keep=asks or bool(lease.group), lease=lease)
        if task.options.timeout_s:
            state.backstop(task, state.now + task.options.timeout_s + task.options.grace_s + KILL_MARGIN_S, "timeout")
    elif lease != task.lease:
        task = state.ledger.note(task, lease=lease)
    if asks and not message.group and not task.cancelling:
        state.send(life.id, Go(task=task.id, attempt=task.attempt))


def on_recalled(state: SchedulerState, life: Life, message: Recalled) -> None:
    """It has not started and is given back; uncharged."""
    task = leased_to(state, life, message.task, message.attempt)
    if task is not None:
        unwanted = task.cancelling or task.id in life.withdrawn
        state.leave(life, task)
        if unwanted:
            state.end(task, S.CANCELLED, outcome_of(UNRUN))
        else:
            state.requeue(task)
    if message.why == "stale" and not life.retiring:
        _replace_used(state, life)


def on_end(state: SchedulerState, life: Life, message: Done | Failed) -> None:
    """A result: recorded if it is this lease's, acknowledged in any case."""
    state.stored(life, (message.task, message.attempt))
    if message.task == 0:
        if life.state is WorkerState.PROVING:
            life.state = WorkerState.IDLE
            contexts.free_unused(state, life)
        return
    task = leased_to(state, life, message.task, message.attempt)
    if task is None:
        state.late_duplicates += 1
        return
    state.leave(life, task)
    life.progress_at = state.now
    if task.job.fresh and not life.retiring:
        _replace_used(state, life)
    placement.learn(life, message.report.duration_s)
    if isinstance(message, Done):
        state.move_life(life, tasks_done=life.record.tasks_done + 1)
        state.end(task, S.DONE, Outcome(report=message.report, result=message.result, form=message.form))
    else:
        life.tasks_failed += 1
        _on_failed(state, task, message)


def _on_failed(state: SchedulerState, task: Task, message: Failed) -> None:
    outcome = Outcome(report=message.report, failure=message.failure)
    leaving_now = state.leaving is not None and state.leaving.now
    verdict = after_failure(task, message.failure, state.settings.tasks, leaving_now=leaving_now)
    if verdict.to is S.WAITING:
        state.ledger.move(task, S.WAITING, lease=None, failures=task.failures + 1, outcome=outcome)
        heapq.heappush(state.delayed, (state.now + verdict.delay_s, task.id))
    elif verdict.to is S.READY:
        state.requeue(task)
    else:
        state.end(task, verdict.to, replace(outcome, failure=verdict.outcome.failure or message.failure))


def _replace_used(state: SchedulerState, life: Life) -> None:
    """This process is to run nothing more; its place is taken at once if it is empty, else when it has ended."""
    if life.held or life.pooled:
        state.retire(life, now=False)
    else:
        contexts.replace(state, life)


def prove(state: SchedulerState, life: Life) -> None:
    """Send the no-op that must come back before the worker is ready."""
    life.state = WorkerState.PROVING
    state.send(life.id, Run(task=0, attempt=life.id, job=PROOF))


_RULES: dict[type[Any], Callable[[SchedulerState, Life, Any], None]] = {
    Done: on_end,
    Failed: on_end,
    Started: on_started,
    Recalled: on_recalled,
    Beat: on_beat,
}
