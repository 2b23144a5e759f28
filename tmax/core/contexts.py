"""Assigns contexts to workers: a task runs only in a process that has run no other program's code.

::

    task of a context --> a worker of it, or one without a context      (placement.FreeSlots)
                     none --> a new process replaces an idle worker and takes the context
                     all busy --> after SWITCH_S one of them gets no more tasks; a new process replaces it once it is empty

A process never changes its context: imported modules, their state and the search path stay in a process.
The wait of SWITCH_S keeps two contexts that alternate on the same busy workers from replacing them for each task.
Only regular workers (not nested ones) are replaced here, and none whose task may be waiting for tasks that it submitted (``nesting.py``).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

from tmax.core.events import NameLife
from tmax.core.model import WorkerState
from tmax.core.queue import FRESH, Key
from tmax.core.roster import Life
from tmax.core.state import SchedulerState

SWITCH_S = 0.2
"""How long the first task of a context waits for a worker of that context before a worker of another context is replaced for it."""

IDLE_S = 0.05
"""A worker that has been idle for so long is replaced at once: its program has stopped submitting, or submits slowly."""

_COMING = frozenset({WorkerState.STARTING, WorkerState.PROVING})


def assign(state: SchedulerState, life: Life, task: int, part: str) -> None:
    """Record that this worker runs a task of this part of the queue; the worker has the task's context from now on."""
    # A command may run in the worker that was started for a fresh task; the fresh task then needs another worker.
    own = "" if life.context.startswith(FRESH) else life.context
    context = f"used up by {task}" if part.startswith(FRESH) else part or own
    if not life.record.used or life.context != context:
        state.move_life(life, context=context, used=True)


def replace(state: SchedulerState, life: Life, part: str = "") -> None:
    """Retire an empty worker and free its name, which a new process takes at once; ``part``: what the new process runs first."""
    name = life.name
    state.retire(life, now=False)
    life.kept_for = ""
    state.move_life(life, worker=f"old-{life.id}")
    state.actions.append(NameLife(life=life.id, worker=life.name))
    if part:
        state.reserved[name] = part


def free_unused(state: SchedulerState, life: Life) -> None:
    """Clear the context of a worker that is ready, if its tasks were cancelled or ran elsewhere while it started."""
    if life.context and not life.record.used and not state.ready.count(life.context):
        state.move_life(life, context="")


def release_kept(state: SchedulerState, waiting: Sequence[Key]) -> None:
    """Let workers that were kept for a part take any work again once no task of that part waits."""
    parts = {key[2] for key in waiting}
    for life in state.roster.lives.values():
        if life.kept_for and life.kept_for not in parts:
            life.kept_for = ""
    for part in [part for part in state.waiting_since if part not in parts]:
        del state.waiting_since[part]


class WorkerIndex:
    """An index of the workers by context, valid between two leases; built once for all parts of the queue, as both may be hundreds."""

    def __init__(self, state: SchedulerState) -> None:
        roster, task_tree = state.roster, state.ledger.task_tree
        self.own: set[str] = set()
        """Contexts that have a regular worker."""
        self.coming: Counter[str] = Counter(state.reserved.values())
        """Part -> how many workers are being started for it, nested ones included."""
        self.idle: list[Life] = []
        """Regular workers without a task, the one with the oldest last message first."""
        self.kept: set[str] = set()
        """Parts for which a busy worker is kept."""
        self.busy: dict[str, list[Life]] = {}
        """Busy workers that may be kept for another part, by context."""
        for life in roster.lives.values():
            if life.retiring or life.killed:
                continue
            self.coming[life.context] += life.state in _COMING
            if roster.is_nested(life):
                continue
            self.own.add(life.context)
            if not life.takes_work:
                continue
            if not life.held:
                self.idle.append(life)
            if life.kept_for:
                self.kept.add(life.kept_for)
            elif not task_tree.waits(life.held):
                self.busy.setdefault(life.context, []).append(life)
        self.idle.sort(key=lambda life: (life.last_message_at, life.id))
        self.next = {context: _next_for(state, context) for context in self.busy}
        """Context -> the task that a worker of it would run next."""

    def uncovered(self, state: SchedulerState, part: str) -> int:
        """Return how many ready tasks of a part exceed the workers that are being started for it."""
        return state.ready.count(part) - self.coming[part]

    def idle_for(self, state: SchedulerState, part: str) -> list[Life]:
        """Return the idle workers of other contexts that may be replaced for a part, those kept for it first."""
        found = [life for life in self.idle if life.context != part and (life.kept_for == part or not _has_work(state, life))]
        return sorted(found, key=lambda life: life.kept_for != part)


def switch(state: SchedulerState, waiting: Sequence[Key]) -> bool:
    """Replace workers for the parts of the queue whose first task found no worker (best first); return whether one was replaced now."""
    release_kept(state, waiting)
    replaced = False
    if not any(_has_others(state, key[2]) for key in waiting):
        return replaced  # the usual case: all workers have the one program's context
    index = WorkerIndex(state)
    for key in waiting:
        part = key[2]
        if not part or (wanted := index.uncovered(state, part)) <= 0:
            continue
        is_due = state.now >= state.waiting_since[part] + SWITCH_S
        has_own = part in index.own
        idle = [life for life in index.idle_for(state, part) if is_due or not has_own or state.now - life.last_message_at >= IDLE_S]
        for life in idle[: wanted if has_own else 1]:
            replace(state, life, part)
            replaced = True
        if idle:
            index = WorkerIndex(state)
    return replaced


def note_unplaced(state: SchedulerState, key: Key) -> bool:
    """Record that the first task of a part found no worker; return whether it has waited so long that a worker must be kept for it."""
    part = key[2]
    if not part:
        return False  # any worker runs it, so none needs to be replaced
    since = state.waiting_since.setdefault(part, state.now)
    return state.now >= since + SWITCH_S and _has_others(state, part)


def keep_worker_for(state: SchedulerState, key: Key, index: WorkerIndex) -> None:
    """Send no more tasks to the least loaded worker of a part whose first task is behind this one, unless an idle worker can be replaced."""
    part = key[2]
    if part in index.kept or index.uncovered(state, part) <= 0 or index.idle_for(state, part):
        return
    least = 0 if part not in index.own else 1  # a part that has a worker may not take the last worker of another part
    candidates = [
        lives
        for context, lives in index.busy.items()
        if context != part and len(lives) > least and (head := index.next[context]) is not None and key < head
    ]
    life = min(itertools.chain.from_iterable(candidates), key=lambda life: (len(life.held), life.id), default=None)
    if life is not None:
        life.kept_for = part
        index.kept.add(part)
        index.busy[life.context].remove(life)


def _has_others(state: SchedulerState, part: str) -> bool:
    """Return whether some worker has another context than this part's."""
    return part != "" and any(life.context != part and not life.pooled for life in state.roster.lives.values())


def _has_work(state: SchedulerState, life: Life) -> bool:
    return bool(life.kept_for) or (state.ready.count(life.context) > 0 and life.context != "")


def _next_for(state: SchedulerState, context: str) -> Key | None:
    """Return the first task that a worker of this context may run: of its own part, or of the part that any worker runs."""
    heads = [head for part in {context, ""} if (head := state.ready.head(part)) is not None]
    return min(heads, default=None)


def wake_at(state: SchedulerState) -> float | None:
    """Return the next time at which ``switch`` may replace a worker that it does not replace now, or None."""
    due = (since + SWITCH_S for since in state.waiting_since.values())
    return min((at for at in due if at > state.now), default=None)
