"""Which context's workers there are: tasks run only in a process that has run no other program's code.

::

    task of a context --> a worker of it, or one without a context      (placement.Seats)
                     none --> an idle worker is replaced by a fresh one, which takes the context
                     all busy --> after SWITCH_S one of them gets no more tasks; it is replaced once it is empty

A worker is never changed from one context to another: modules, their state and the search path stay in a process.
The wait of SWITCH_S keeps two contexts that alternate on the same workers from replacing them for each task.
Only workers of the number are taken from a context here, and none whose task may be waiting for tasks that it submitted (``nesting.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tmax.core.desk import Desk
from tmax.core.events import NameLife
from tmax.core.model import WorkerState
from tmax.core.queue import FRESH, Key
from tmax.core.roster import Life

SWITCH_S = 0.2
"""How long the first task of a context waits for a worker of its own before another context's worker is taken from it."""

IDLE_S = 0.05
"""A worker that has been idle for so long is taken at once: its program has stopped submitting, or submits slowly."""

_COMING = frozenset({WorkerState.STARTING, WorkerState.PROVING})


def assign(desk: Desk, life: Life, task: int, part: str) -> None:
    """Note that this worker runs a task of this part: from now on it has the task's context."""
    # A command may take the worker that was started for a fresh task, which then needs another one.
    own = "" if life.context.startswith(FRESH) else life.context
    context = f"used up by {task}" if part.startswith(FRESH) else part or own
    if not life.record.used or life.context != context:
        desk.move_life(life, context=context, used=True)


def replace(desk: Desk, life: Life, part: str = "") -> None:
    """Have a fresh worker in the place of an empty one, at once; ``part``: what is to run there first."""
    name = life.name
    desk.retire(life, now=False)
    life.kept_for = ""
    desk.move_life(life, worker=f"old-{life.id}")
    desk.actions.append(NameLife(life=life.id, worker=life.name))
    if part:
        desk.reserved[name] = part


def give_up_kept(desk: Desk, waiting: Sequence[Key]) -> None:
    """Let workers that were kept for a part take work again when nothing of that part waits any more."""
    parts = {key[2] for key in waiting}
    for life in desk.roster.lives.values():
        if life.kept_for and life.kept_for not in parts:
            life.kept_for = ""
    for part in [part for part in desk.waiting_since if part not in parts]:
        del desk.waiting_since[part]


def switch(desk: Desk, waiting: Sequence[Key]) -> bool:
    """Replace workers for the parts of the queue that found no place (best first); return whether one was replaced now."""
    give_up_kept(desk, waiting)
    replaced = False
    for key in waiting:
        part = key[2]
        if not part:
            continue
        since = desk.waiting_since[part]
        own = _own(desk, part)
        wanted = _uncovered(desk, part)
        if wanted <= 0:
            continue
        is_due = desk.now >= since + SWITCH_S
        idle = [life for life in _idle(desk, part) if is_due or not own or desk.now - life.heard_at >= IDLE_S]
        for life in idle[: wanted if own else 1]:
            replace(desk, life, part)
            replaced = True
    return replaced


def wait(desk: Desk, key: Key) -> None:
    """Note that the first task of a part found no place; a worker of a task that came later is kept for it once it has waited long enough."""
    part = key[2]
    if not part:
        return  # any worker runs it: there is none to make
    since = desk.waiting_since.setdefault(part, desk.now)
    if desk.now >= since + SWITCH_S and not _idle(desk, part) and _uncovered(desk, part) > 0:
        _keep_one(desk, key, has_own=bool(_own(desk, part)))


def _numbered(desk: Desk) -> Iterator[Life]:
    """Yield the workers without the nested ones, which run only what the tasks of others have submitted."""
    roster = desk.roster
    return (life for life in roster.lives.values() if not roster.is_nested(life))


def _own(desk: Desk, part: str) -> list[Life]:
    return [life for life in _numbered(desk) if life.context == part and not life.retiring and not life.killed]


def _uncovered(desk: Desk, part: str) -> int:
    """Return how many ready tasks of a part have no worker that is being started for it, nested ones included."""
    coming = sum(
        life.state in _COMING and life.context == part and not life.retiring and not life.killed for life in desk.roster.lives.values()
    )
    return desk.ready.count(part) - coming - list(desk.reserved.values()).count(part)


def _idle(desk: Desk, part: str) -> list[Life]:
    """Workers of other contexts that have nothing to do, the one that was heard of longest ago first."""
    found = [
        life
        for life in _numbered(desk)
        if life.takes_work and not life.held and life.context != part and (life.kept_for == part or not _has_work(desk, life))
    ]
    return sorted(found, key=lambda life: (life.kept_for != part, life.heard_at, life.id))


def _has_work(desk: Desk, life: Life) -> bool:
    return bool(life.kept_for) or (desk.ready.count(life.context) > 0 and life.context != "")


def _keep_one(desk: Desk, key: Key, *, has_own: bool) -> None:
    """Send no more tasks to the least loaded worker of a part whose first task came after this one's."""
    family = desk.ledger.family
    lives = [life for life in _numbered(desk) if life.takes_work and life.context != key[2] and not family.waits(life.held)]
    if any(life.kept_for == key[2] for life in lives):
        return
    for life in sorted(lives, key=lambda life: (len(life.held), life.id)):
        # What it would run next: a task of its context, or one that any worker runs.
        head = min((head for part in {life.context, ""} if (head := desk.ready.head(part)) is not None), default=None)
        others = [one for one in lives if one.context == life.context and one is not life and not one.kept_for]
        if not life.kept_for and head is not None and key < head and (others or not has_own):
            life.kept_for = key[2]
            return


def wake_at(desk: Desk) -> float | None:
    """Return when ``switch`` may have something to do that it has not now, or None."""
    due = (since + SWITCH_S for since in desk.waiting_since.values())
    return min((at for at in due if at > desk.now), default=None)
