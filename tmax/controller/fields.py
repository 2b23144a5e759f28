"""Validates the numbers in requests before other code uses them.

A float may be NaN (which breaks the order of a timer queue), an integer may have a thousand digits (too many for a row, a path or a float).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tmax.errors import NotFound, UsageError

MAX_SECONDS = 1e9
"""About 30 years: longer than any swarm lives, short enough for every system call that takes a time."""
MAX_NUMBER = 2**63 - 1
"""The largest integer of SQLite."""
TASKS_HINT = "tmax ps --all lists tasks"
"""Hint of errors about a task that does not exist."""


def seconds(value: Any, what: str = "timeout_s") -> float | None:
    """Return ``value`` as seconds, at most MAX_SECONDS; None stays None.  Raises UsageError for any other value."""
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:  # false for NaN
        raise UsageError(f"{what} must be seconds, 0 or more")
    return float(min(value, MAX_SECONDS))


def limit(value: Any, *, default: int) -> int:
    """Return how many rows are requested: ``default`` for None, MAX_NUMBER for 0.  Raises UsageError for what is not an integer from 0."""
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise UsageError("limit must be a whole number from 0 (0: no limit)")
    return min(value, MAX_NUMBER) if value else MAX_NUMBER


def terminal(fields: Mapping[str, Any]) -> tuple[int, bool]:
    """Return the width of the client's terminal in columns (0: unknown) and whether it shows colours."""
    width = fields.get("width")
    return (width if isinstance(width, int) else 0), bool(fields.get("color"))


def is_number(word: str) -> bool:
    """Return whether a word is the number of a task; ``isdigit`` alone accepts ``²``."""
    return word.isascii() and word.isdigit()


def task_number(value: Any) -> int:
    """Return the number of a task, given as a number or as digits.  Raises UsageError; NotFound for a number that no task can have."""
    if isinstance(value, str) and is_number(value):
        value = int(value) if len(value) <= 20 else MAX_NUMBER + 1
    if not isinstance(value, int) or isinstance(value, bool):
        raise UsageError("a task is named by its number, from 1", hint=TASKS_HINT)
    if not 0 < value <= MAX_NUMBER:
        raise NotFound("no task has such a number", hint=TASKS_HINT)
    return value
