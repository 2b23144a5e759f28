"""Handles messages from workers about their tasks.

Every message names (task, attempt).  A message about an attempt that is not leased to its sender is late: it is acknowledged
and changes nothing, so the first committed result wins.
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
from tmax.core.state import KILL_MARGIN_S, READINESS_PROBE, SchedulerState
from tmax_pipes.messages import Beat, Done, Failed, FromWorker, Go, Recalled, Run, Started, Stop

S = TaskState


def on_message(state: SchedulerState, life: Life, message: FromWorker) -> None:
    """Handle one message, other than Hello, of a live worker."""
    life.last_message_at = state.now
    life.link.received(message)
    handler = _HANDLERS.get(type(message))
    if handler is not None:
        handler(state, life, message)


def on_beat(_: SchedulerState, life: Life, message: Beat) -> None:
    """Record the memory of a heartbeat: a crash report names it."""
    life.beat_rss_bytes = message.rss_bytes


def leased_to(state: SchedulerState, life: Life, number: int, attempt: int) -> Task | None:
    """Return the task, if this attempt of it is leased to this life."""
    return state.ledger.tasks[number] if life.held.get(number) == attempt else None


def on_started(state: SchedulerState, life: Life, message: Started) -> None:
    """Record that a task starts; at-most-once work is sent ``Go`` after the commit."""
    task = leased_to(state, life, message.task, message.attempt)
    if task is None:
        # It must not run; and while it waits for Go, the tasks queued behind it wait too.
        if message.task:
            state.send(life.id, Stop(task=message.task, attempt=message.attempt, why="cancel", grace_s=state.settings.tasks.grace_s))
        return
    assert task.lease is not None, "a started task has a lease"
    needs_go = task.delivery == "at-most-once"
    life.running = task.id
    life.withdrawn.discard(task.id)
    life.progress_at = state.now
    lease = replace(task.lease, started_at=task.lease.started_at or message.at or state.wall, group=message.group or task.lease.group)
    if task.state is S.SENT:
        # The worker can report the start of at-least-once work again; only the start of at-most-once work must be on disk first.
        task = state.ledger.move(task, S.RUNNING, keep=needs_go or bool(lease.group), lease=lease)
        if task.options.timeout_s:
            state.set_deadline(task, state.now + task.options.timeout_s + task.options.grace_s + KILL_MARGIN_S, "timeout")
    elif lease != task.lease:
        task = state.ledger.note(task, lease=lease)
    if needs_go and not message.group and not task.cancelling:
        state.send(life.id, Go(task=task.id, attempt=task.attempt))


def on_recalled(state: SchedulerState, life: Life, message: Recalled) -> None:
    """Requeue a task that its worker returned before starting it; it is not charged."""
    task = leased_to(state, life, message.task, message.attempt)
    if task is not None:
        unwanted = task.cancelling or task.id in life.withdrawn
        state.release_task(life, task)
        if unwanted:
            state.end(task, S.CANCELLED, outcome_of(UNRUN))
        else:
            state.requeue(task)
    if message.why == "stale" and not life.retiring:
        _replace_used(state, life)


def on_end(state: SchedulerState, life: Life, message: Done | Failed) -> None:
    """Record a result if its attempt is leased to this life; acknowledge it in any case."""
    state.acknowledge(life, (message.task, message.attempt))
    if message.task == 0:
        if life.state is WorkerState.PROVING:
            life.state = WorkerState.IDLE
            contexts.free_unused(state, life)
        return
    task = leased_to(state, life, message.task, message.attempt)
    if task is None:
        return
    state.release_task(life, task)
    life.progress_at = state.now
    if task.job.fresh and not life.retiring:
        _replace_used(state, life)
    placement.record_duration(life, message.report.duration_s)
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
    """Replace a process that must run no other task: at once if it is empty, else when it has ended."""
    if life.held or life.pooled:
        state.retire(life, now=False)
    else:
        contexts.replace(state, life)


def send_probe(state: SchedulerState, life: Life) -> None:
    """Send the no-op whose result makes the worker ready."""
    life.state = WorkerState.PROVING
    state.send(life.id, Run(task=0, attempt=life.id, job=READINESS_PROBE))


_HANDLERS: dict[type[Any], Callable[[SchedulerState, Life, Any], None]] = {
    Done: on_end,
    Failed: on_end,
    Started: on_started,
    Recalled: on_recalled,
    Beat: on_beat,
}
