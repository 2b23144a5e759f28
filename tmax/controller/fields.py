"""Numbers in what a connection asks, checked before anything else sees them.

A float may be NaN (which no timer queue survives), an integer may have a thousand digits (which no row, path or float holds).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tmax.errors import NotFound, UsageError

MAX_SECONDS = 1e9
"""About 30 years: longer than any swarm lives, short enough for every clock call."""
MAX_NUMBER = 2**63 - 1
"""SQLite's integers end here."""
TASKS_HINT = "tmax ps --all lists tasks"
"""For a task that is not there."""


def seconds(value: Any, what: str = "timeout_s") -> float | None:
    """Return ``value`` as seconds, at most MAX_SECONDS; None stays None.  Raises UsageError for what is no number of seconds."""
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:  # NaN is not either
        raise UsageError(f"{what} must be seconds, 0 or more")
    return float(min(value, MAX_SECONDS))


def limit(value: Any, *, usual: int) -> int:
    """Return how many rows are wanted: ``usual`` where it is not said, all for 0.  Raises UsageError for what is no number from 0."""
    if value is None:
        return usual
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UsageError("limit must be a whole number from 0 (0: no limit)")
    return min(value, MAX_NUMBER) if value else MAX_NUMBER


def terminal(fields: Mapping[str, Any]) -> tuple[int, bool]:
    """Return the width of the client's terminal in columns (0: unknown) and whether it wants colour."""
    width = fields.get("width")
    return (width if isinstance(width, int) else 0), bool(fields.get("color"))


def is_number(word: str) -> bool:
    """Whether a word is a task's number; ``isdigit`` alone would take ``²`` for one."""
    return word.isascii() and word.isdigit()


def task_number(value: Any) -> int:
    """Return the number of a task, given as a number or as its digits.  Raises UsageError; NotFound for one that no task can have."""
    if isinstance(value, str) and is_number(value):
        value = int(value) if len(value) <= 20 else MAX_NUMBER + 1
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError("a task number is needed")
    if not 0 < value <= MAX_NUMBER:
        raise NotFound("no task has such a number", hint=TASKS_HINT)
    return value
