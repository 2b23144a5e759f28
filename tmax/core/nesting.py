"""Starts extra workers (nested workers) for tasks that running tasks submit, so that a task can wait for its own children.

::

    task 5 runs on w1, submits task 6 to the same swarm and waits for it        no other worker is free:
        --> the nested worker w2 is started for task 6  --> 6 ends --> 5 continues --> w2 ends

The scheduler cannot see whether a task waits, so each running task with unfinished children (tasks it submitted) counts as waiting.
Nested workers run children of leased tasks only, the youngest first: a tree of tasks is walked depth first and needs as many
workers as it is deep, not as it is wide.  At most ``swarm.nested_workers`` are started; the second half of them one at a time and only
when no other task can proceed.

A child runs only in a worker of its own context, or one without a context (``contexts.py``): a nested worker is started for the
context of the child that needs it, and an idle one of another context is replaced at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tmax.core import contexts, placement
from tmax.core.model import Task, TaskState, WorkerState
from tmax.core.queue import part_of
from tmax.core.roster import Life
from tmax.core.state import SchedulerState

LINGER_S = 5.0
"""How long idle nested workers stay: a task that submits one child after another should not wait for a start each time."""


def parent_of(state: SchedulerState, task: Task) -> Task | None:
    """Return the task that submitted this one, if it is leased to a worker and so may be waiting."""
    parent = state.ledger.tasks.get(task.job.parent)
    return parent if parent is not None and parent.lease is not None else None


def accepts_child_of(state: SchedulerState, parent: int) -> bool:
    """Return whether a task that ``parent`` submits would still run while the swarm goes down; else the parent would wait in vain."""
    task = state.ledger.tasks.get(parent)
    return state.may_start and state.settings.swarm.nested_workers > 0 and task is not None and task.lease is not None


def waits(state: SchedulerState, life: Life) -> bool:
    """Return whether this worker has a task that may be waiting for its children; no other task may be queued behind it."""
    return state.ledger.task_tree.waits(life.held)


def serve(state: SchedulerState, lease: Callable[[Task, Life, str], None]) -> bool:
    """Lease children of leased tasks to idle nested workers, and set how many nested workers there should be.

    Returns whether the slots of nested workers changed: once these are filled, perhaps from the pool, call again to lease more.
    """
    roster = state.roster
    if not state.ledger.task_tree.children and not roster.nested:
        return False  # the usual case, and this runs in each turn
    idle = [life for life in roster.lives.values() if roster.is_nested(life) and life.takes_work and not life.held]
    ready = _ready_children(state, len(idle) + 1)
    before, replaced = roster.nested, False
    if state.may_start:
        ready = _hand_out(state, idle, ready, lease)
        replaced = _replace_unsuited(state, [life for life in idle if not life.held], ready)
    _size(state, ready=bool(ready))
    return replaced or roster.nested != before


def _hand_out(state: SchedulerState, idle: list[Life], ready: list[int], lease: Callable[[Task, Life, str], None]) -> list[int]:
    """Lease children, the youngest first, to idle nested workers that may run them; return the rest, the youngest first."""
    slots = placement.FreeSlots(idle, 1, frozenset(), state.now)
    left: list[int] = []
    for number in reversed(ready):
        task = state.ledger.tasks[number]
        part = part_of(task)
        life = slots.take(part, alone=True)
        if life is None:
            left.append(number)
        else:
            state.ready.discard(number)
            lease(task, life, part)
    return left


def _replace_unsuited(state: SchedulerState, idle: list[Life], left: list[int]) -> bool:
    """Replace idle nested workers, which may run none of these children, for the children that no starting worker is for."""
    coming = Counter(life.context for life in state.roster.lives.values() if _is_coming(state, life))
    spare = iter(idle)
    replaced = False
    for number in left:
        part = part_of(state.ledger.tasks[number])
        context = part if coming[part] else ""
        if coming[context]:
            coming[context] -= 1
        elif (life := next(spare, None)) is not None:
            contexts.replace(state, life, part)
            replaced = True
    return replaced


def _is_coming(state: SchedulerState, life: Life) -> bool:
    return state.roster.is_nested(life) and not life.is_proven and not life.retiring and not life.killed


def _ready_children(state: SchedulerState, count: int) -> list[int]:
    """Return up to ``count`` ready children of leased tasks, the youngest last."""
    task_tree = state.ledger.task_tree
    found: list[int] = []
    for life in state.roster.lives.values():
        for parent in task_tree.children.keys() & life.held.keys():
            found += task_tree.youngest(parent, state.ready, count)
    return sorted(found)[-count:]


def _size(state: SchedulerState, *, ready: bool) -> None:
    """Set how many nested workers there should be: more at once, fewer when they have not been needed for LINGER_S."""
    roster = state.roster
    limit = state.settings.swarm.nested_workers
    used = max((roster.nested_number(life) for life in roster.lives.values() if roster.is_nested(life) and life.held), default=0)
    wanted = used
    if roster.nested_used or (ready and any(_is_coming(state, life) for life in roster.lives.values())):
        roster.nested_until = state.now + LINGER_S
    roster.nested_used = used
    if ready and state.may_start and _all_busy(state):
        waiting = [life for life in roster.lives.values() if waits(state, life)]
        wanted = max(used, min(len(waiting), (limit + 1) // 2))
        if len(waiting) == sum(bool(life.held) for life in roster.lives.values()):
            wanted = max(wanted, used + 1)  # no other task can proceed
    wanted = min(wanted, max(limit, used))
    if wanted >= roster.nested:
        _reserve(state, wanted)
        roster.nested = wanted
        roster.nested_until = state.now + LINGER_S
    elif state.now >= roster.nested_until or (state.leaving is not None and not ready):
        for name in roster.wanted_names()[roster.workers_wanted + wanted :]:
            state.reserved.pop(name, None)
        roster.nested = wanted


def _reserve(state: SchedulerState, wanted: int) -> None:
    """Reserve the nested workers to be started, up to ``wanted``, for the contexts of the children that are ready."""
    roster = state.roster
    if wanted > roster.nested:
        for index, number in enumerate(reversed(_ready_children(state, wanted - roster.nested)), roster.nested + 1):
            if part := part_of(state.ledger.tasks[number]):
                state.reserved[f"w{roster.workers_wanted + index}"] = part


def _all_busy(state: SchedulerState) -> bool:
    """Return whether every wanted worker exists and has a task; while the swarm goes down, only nested workers are wanted."""
    slots = state.roster.slots()
    names = state.roster.wanted_names() if state.leaving is None else state.roster.nested_names()
    return all(name in slots and slots[name].held for name in names)


def wake_at(state: SchedulerState) -> float | None:
    """Return when nested workers may be retired, or None when there are none."""
    roster = state.roster
    return (
        max(roster.nested_until, state.now + 0.001) if roster.nested and not any(map(roster.works_nested, roster.lives.values())) else None
    )


def waiting_reason(state: SchedulerState, task: Task) -> str:
    """Return in one line why a ready task whose submitter has a worker has not started; empty for any other task."""
    parent = parent_of(state, task)
    if parent is None or parent.lease is None:
        return ""
    limit = state.settings.swarm.nested_workers
    submitter = f"task {parent.id}, which submitted it, is "
    submitter += f"{'running' if parent.state is TaskState.RUNNING else 'sent'} on {parent.lease.worker}"
    if not limit:
        return f"{submitter}; that may be waiting for it, and no worker is free (swarm.nested_workers is 0)"
    if _at_limit(state):
        return f"{submitter}; that may be waiting for it, and all {limit} nested workers are in use (swarm.nested_workers)"
    if state.roster.nested and any(state.roster.is_nested(life) and not life.is_proven for life in state.roster.lives.values()):
        return f"{submitter}; a worker is being started for it"
    return f"{submitter}; it runs on the next worker that is free"


def _at_limit(state: SchedulerState) -> bool:
    roster = state.roster
    limit = state.settings.swarm.nested_workers
    return sum(map(roster.works_nested, roster.lives.values())) >= limit


def deadlock(state: SchedulerState) -> str:
    """Return in one line why running tasks and the tasks that they submitted wait for each other for good; empty when they do not."""
    if not state.ledger.task_tree.children or not _ready_children(state, 1):
        return ""
    if state.leaving is not None and state.leaving.now:
        return ""  # the waiting tasks are being ended
    working = [life for life in state.roster.lives.values() if life.held]
    waiting = sum(waits(state, life) for life in working)
    waiters = f"{waiting} running task{'s wait' if waiting > 1 else ' waits'} for tasks {'they' if waiting > 1 else 'it'} submitted"
    if state.held:
        return f"{waiters}, and the queue is held: tmax resume" if state.leaving is not None else ""
    if waiting < len(working) or not _at_limit(state) or not _all_busy(state):
        return ""
    if any(life.state is WorkerState.STARTING for life in working):
        return ""
    return f"stuck: {waiters}, and no worker may be started for these: raise swarm.nested_workers, or cancel one (tmax ps)"
