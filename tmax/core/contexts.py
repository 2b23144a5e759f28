"""Which context's workers there are: tasks run only in a process that has run no other program's code.

::

    task of a context --> a worker of it, or one without a context      (placement.FreeSlots)
                     none --> an idle worker is replaced by a fresh one, which takes the context
                     all busy --> after SWITCH_S one of them gets no more tasks; it is replaced once it is empty

A worker is never changed from one context to another: modules, their state and the search path stay in a process.
The wait of SWITCH_S keeps two contexts that alternate on the same busy workers from replacing them for each task.
Only workers of the number are taken from a context here, and none whose task may be waiting for tasks that it submitted (``nesting.py``).
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
"""How long the first task of a context waits for a worker of its own before another context's worker is taken from it."""

IDLE_S = 0.05
"""A worker that has been idle for so long is taken at once: its program has stopped submitting, or submits slowly."""

_COMING = frozenset({WorkerState.STARTING, WorkerState.PROVING})


def assign(state: SchedulerState, life: Life, task: int, part: str) -> None:
    """Note that this worker runs a task of this part: from now on it has the task's context."""
    # A command may take the worker that was started for a fresh task, which then needs another one.
    own = "" if life.context.startswith(FRESH) else life.context
    context = f"used up by {task}" if part.startswith(FRESH) else part or own
    if not life.record.used or life.context != context:
        state.move_life(life, context=context, used=True)


def replace(state: SchedulerState, life: Life, part: str = "") -> None:
    """Have a fresh worker in the place of an empty one, at once; ``part``: what is to run there first."""
    name = life.name
    state.retire(life, now=False)
    life.kept_for = ""
    state.move_life(life, worker=f"old-{life.id}")
    state.actions.append(NameLife(life=life.id, worker=life.name))
    if part:
        state.reserved[name] = part


def free_unused(state: SchedulerState, life: Life) -> None:
    """A worker is ready: nobody's, if what it was started for has been cancelled or has run elsewhere meanwhile."""
    if life.context and not life.record.used and not state.ready.count(life.context):
        state.move_life(life, context="")


def give_up_kept(state: SchedulerState, waiting: Sequence[Key]) -> None:
    """Let workers that were kept for a part take work again when nothing of that part waits any more."""
    parts = {key[2] for key in waiting}
    for life in state.roster.lives.values():
        if life.kept_for and life.kept_for not in parts:
            life.kept_for = ""
    for part in [part for part in state.waiting_since if part not in parts]:
        del state.waiting_since[part]


class Overview:
    """The workers as they are between two leases, looked at once for all parts of the queue: there may be hundreds of either."""

    def __init__(self, state: SchedulerState) -> None:
        roster, family = state.roster, state.ledger.family
        self.own: set[str] = set()
        """Contexts that have a worker of the number."""
        self.coming: Counter[str] = Counter(state.reserved.values())
        """Parts -> workers that are being started for them, nested ones included."""
        self.idle: list[Life] = []
        """Workers of the number that have nothing to do, the one that was heard of longest ago first."""
        self.kept: set[str] = set()
        """Parts that a busy worker is kept for."""
        self.busy: dict[str, list[Life]] = {}
        """Workers that may be kept for another part, by context."""
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
            elif not family.waits(life.held):
                self.busy.setdefault(life.context, []).append(life)
        self.idle.sort(key=lambda life: (life.last_message_at, life.id))
        self.next = {context: _next_for(state, context) for context in self.busy}
        """Context -> what a worker of it would run next."""

    def uncovered(self, state: SchedulerState, part: str) -> int:
        """Return how many ready tasks of a part have no worker that is being started for it."""
        return state.ready.count(part) - self.coming[part]

    def idle_for(self, state: SchedulerState, part: str) -> list[Life]:
        """Return the idle workers of other contexts that may be replaced for a part, those kept for it first."""
        found = [life for life in self.idle if life.context != part and (life.kept_for == part or not _has_work(state, life))]
        return sorted(found, key=lambda life: life.kept_for != part)


def switch(state: SchedulerState, waiting: Sequence[Key]) -> bool:
    """Replace workers for the parts of the queue that found no place (best first); return whether one was replaced now."""
    give_up_kept(state, waiting)
    replaced = False
    if not any(_has_others(state, key[2]) for key in waiting):
        return replaced  # one program has all of them: nearly always
    overview = Overview(state)
    for key in waiting:
        part = key[2]
        if not part or (wanted := overview.uncovered(state, part)) <= 0:
            continue
        is_due = state.now >= state.waiting_since[part] + SWITCH_S
        has_own = part in overview.own
        idle = [life for life in overview.idle_for(state, part) if is_due or not has_own or state.now - life.last_message_at >= IDLE_S]
        for life in idle[: wanted if has_own else 1]:
            replace(state, life, part)
            replaced = True
        if idle:
            overview = Overview(state)
    return replaced


def wait(state: SchedulerState, key: Key) -> bool:
    """Note that the first task of a part found no place; return whether it has waited so long that a worker is to be kept for it."""
    part = key[2]
    if not part:
        return False  # any worker runs it: there is none to make
    since = state.waiting_since.setdefault(part, state.now)
    return state.now >= since + SWITCH_S and _has_others(state, part)


def keep_one(state: SchedulerState, key: Key, overview: Overview) -> None:
    """Send no more tasks to the least loaded worker of a part whose first task came after this one's, unless an idle worker can be had."""
    part = key[2]
    if part in overview.kept or overview.uncovered(state, part) <= 0 or overview.idle_for(state, part):
        return
    least = 0 if part not in overview.own else 1  # a part that has a worker leaves each other one its last
    given = [
        lives
        for context, lives in overview.busy.items()
        if context != part and len(lives) > least and (head := overview.next[context]) is not None and key < head
    ]
    life = min(itertools.chain.from_iterable(given), key=lambda life: (len(life.held), life.id), default=None)
    if life is not None:
        life.kept_for = part
        overview.kept.add(part)
        overview.busy[life.context].remove(life)


def _has_others(state: SchedulerState, part: str) -> bool:
    """Return whether there is a worker of another context than this part's."""
    return part != "" and any(life.context != part and not life.pooled for life in state.roster.lives.values())


def _has_work(state: SchedulerState, life: Life) -> bool:
    return bool(life.kept_for) or (state.ready.count(life.context) > 0 and life.context != "")


def _next_for(state: SchedulerState, context: str) -> Key | None:
    """Return the first of the tasks that a worker of this context may run: those of its own part, and those that any worker runs."""
    heads = [head for part in {context, ""} if (head := state.ready.head(part)) is not None]
    return min(heads, default=None)


def wake_at(state: SchedulerState) -> float | None:
    """Return when ``switch`` may have something to do that it has not now, or None."""
    due = (since + SWITCH_S for since in state.waiting_since.values())
    return min((at for at in due if at > state.now), default=None)
