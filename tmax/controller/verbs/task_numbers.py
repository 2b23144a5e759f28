"""Validates the task numbers in a request, and splits very many of them into batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tmax.control.server import Request
from tmax.controller.fields import TASKS_HINT
from tmax.controller.waiters import NAMED_AT_MOST
from tmax.errors import NotFound, UsageError

LOOKUP_BATCH = 1000
"""Numbers that are looked up in one step."""


def wanted_ids(request: Request) -> list[int]:
    """Return the field ``ids``, each number once, or raise UsageError."""
    ids = request.fields.get("ids")
    # In C, as there may be very many; a bool is not an int here.
    if not isinstance(ids, list) or not set(map(type, ids)) <= {int}:
        raise UsageError("ids must be a list of task numbers")
    if ids and min(ids) <= 0:
        raise UsageError(f"{min(ids)} is not the number of a task: they begin at 1", hint=TASKS_HINT)
    return list(dict.fromkeys(ids))


def no_task(unknown: Sequence[int]) -> NotFound:
    """Return the error for numbers that no task has."""
    named = ", ".join(map(str, unknown[:NAMED_AT_MOST]))
    more = f" and {len(unknown) - NAMED_AT_MOST} more" if len(unknown) > NAMED_AT_MOST else ""
    return NotFound(f"no task {named}{more}", hint=TASKS_HINT)


def parts(ids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Yield ``ids`` in batches of at most ``size``."""
    return (ids[at : at + size] for at in range(0, len(ids), size))
