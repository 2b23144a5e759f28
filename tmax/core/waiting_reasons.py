"""Explains in one line why a task has not started.  Reads the scheduler's state and changes nothing."""

from __future__ import annotations

from tmax.core import nesting
from tmax.core.model import Task, TaskState
from tmax.core.state import SchedulerState


def why_waiting(state: SchedulerState, task: Task, ahead: int | None = None) -> str:
    """Return in one line why this task has not started; empty when it has.

    ``ahead``: how many tasks are ahead of it in the queue; None: they are counted, which is O(n).
    """
    if task.state is TaskState.WAITING:
        return f"retry {task.failures} of {task.options.retries} after a pause"
    if task.state is TaskState.SENT and task.lease:
        return f"sent ahead to {task.lease.worker}"
    if task.state is not TaskState.READY:
        return ""
    if state.held:
        return "the queue is held: tmax resume"
    lives = [life for life in state.roster.lives.values() if life.takes_work and not state.roster.is_nested(life)]
    if not lives:
        return "no worker is ready"
    if any(not life.held for life in lives):
        own = "a worker of its own (--fresh)" if task.job.fresh else "a worker that has run no other program's code"
        return f"{own} is being started"
    nested = nesting.waiting_reason(state, task)
    if nested:
        return nested
    ahead = state.ready.ahead_of(task.id) if ahead is None else ahead
    busy = f"all {len(lives)} workers are busy"
    return f"{busy}; {ahead} task{'s' if ahead != 1 else ''} ahead of it" if ahead else f"{busy}; it is next"
