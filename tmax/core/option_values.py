"""Values of options: read from text, checked as JSON and Python give them.  Pure; commands import it on their fast path.

``task_options.OPTIONS`` names the type of each option; here is what a type means.
Every message states the limits that really hold.
"""

from __future__ import annotations

from tmax.errors import UsageError
from tmax_pipes.task_options import MAX_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tmax_pipes.task_options import TaskOption

_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""Seconds in each unit; ordered so that a unit comes before its own prefix (``min`` before ``m``)."""
MAX_NUMBER = 2**63 - 1
"""The largest number that a store and a message hold."""
_SHOWN = 40
"""Characters of a wrong value in a message."""


# -- text ------------------------------------------------------------------------------------------


def seconds(text: str) -> float:
    """Return seconds from ``90``, ``1.5``, ``30s``, ``250 ms``, ``30m``, ``1h30m``, ``2d``.  Raises UsageError."""
    total, rest = 0.0, text.strip(" ")
    try:
        while True:
            number = _number(rest)
            rest = rest[len(number) :].lstrip(" ")
            if not rest:
                total += float(number)
                break
            unit = next(unit for unit in _UNITS if rest.startswith(unit))
            total += float(number) * _UNITS[unit]
            rest = rest[len(unit) :].lstrip(" ")
            if not rest:
                break
    except (StopIteration, ValueError):
        raise UsageError(f"{_cut(text)!r} is not a duration", hint="for example: 90, 1.5, 30s, 30m, 1h30m, 2d") from None
    if total > MAX_SECONDS:
        raise UsageError(f"{_cut(text)!r} is too long: the longest duration is {MAX_SECONDS} seconds ({MAX_SECONDS // 86400} days)")
    return total


def _number(text: str) -> str:
    """Return the digits and points that ``text`` begins with."""
    at = 0
    while at < len(text) and text[at] in "0123456789.":
        at += 1
    return text[:at]


def whole(least: int = 0, most: int = MAX_NUMBER) -> Callable[[str], int]:
    """Return a reader of whole numbers from ``least`` to ``most``; it raises UsageError."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()):
            raise UsageError(f"{_cut(text)!r} is not a whole number of {least} or more")
        # By length first: int() refuses more than 4,300 digits.
        if len(text.lstrip("0")) > len(str(most)) or int(text) > most:
            raise UsageError(f"{_cut(text)} is too large: at most {most}")
        if int(text) < least:
            raise UsageError(f"{_cut(text)!r} is not a whole number of {least} or more")
        return int(text)

    return read


count = whole()
"""Reads a whole number from 0.  Raises UsageError."""
positive = whole(1)
"""Reads a whole number from 1.  Raises UsageError."""


def task_name(text: str) -> str:
    """Return a name that a task may have.  Raises UsageError."""
    from tmax.core.names import check_task_name  # several imports, needed only when a task is named

    return check_task_name(text)


def one_of(*allowed: str) -> Callable[[str], str]:
    """Return a reader of one of these words; it raises UsageError."""

    def read(text: str) -> str:
        if text not in allowed:
            raise UsageError(f"{_cut(text)!r} is not one of: {', '.join(allowed)}")
        return text

    return read


def reader(option: TaskOption) -> Callable[[str], Any] | None:
    """Return what reads this option's text; None for a flag, which takes no text."""
    if option.type == "choice":
        return one_of(*option.choices)
    if option.type == "count":
        return whole(option.least, option.most)
    return {"seconds": seconds, "name": task_name}.get(option.type)


# -- values ----------------------------------------------------------------------------------------


def check(option: TaskOption, value: Any, called: str = "") -> Any:
    """Return the value that an option gets, as its struct holds it.  Raises UsageError, which calls the option ``called``."""
    called = called or option.name
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if option.type == "flag":
        if not isinstance(value, bool):
            raise UsageError(f"{called} must be true or false, not {_shown(value)}")
    elif option.type == "seconds":
        if not number or not option.least <= value <= option.most:  # NaN is not either
            raise UsageError(f"{called} must be a number of seconds from {option.least} to {option.most}, not {_shown(value)}")
        return float(value)
    elif option.type == "count":
        if not number or not isinstance(value, int) or not option.least <= value <= option.most:
            raise UsageError(f"{called} must be a whole number from {option.least} to {option.most}, not {_shown(value)}")
        return int(value)
    elif option.type == "name":
        if not isinstance(value, str):
            raise UsageError(f"{called} must be text, not {_shown(value)}")
        return task_name(value)
    elif not isinstance(value, str) or value not in option.choices:
        raise UsageError(f"{called} must be one of {', '.join(option.choices)}, not {_shown(value)}")
    return value


def _shown(value: object) -> str:
    """Return a wrong value for a message, cut; a number of thousands of digits has no text."""
    try:
        return _cut(repr(value))
    except ValueError:
        return "a number of too many digits"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
