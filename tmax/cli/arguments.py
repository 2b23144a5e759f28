"""Readers of option values: each takes the text that was typed and returns the value, or raises UsageError.  Pure."""

from __future__ import annotations

from tmax.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
"""Seconds in each unit; ordered so that a unit comes before its own prefix (``min`` before ``m``)."""
MAX_SECONDS = 1_000_000_000
"""The longest duration that a controller accepts: about 30 years."""
MAX_COUNT = 2**63 - 1
"""The largest integer that the store and the messages hold."""


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
        raise UsageError(f"{text!r} is not a duration", hint="for example: 90, 1.5, 30s, 30m, 1h30m, 2d") from None
    if total > MAX_SECONDS:
        raise UsageError(f"{text!r} is too long: the longest duration is {MAX_SECONDS} seconds ({MAX_SECONDS // 86400} days)")
    return total


def _number(text: str) -> str:
    """Return the leading digits and decimal points of ``text``."""
    at = 0
    while at < len(text) and text[at] in "0123456789.":
        at += 1
    return text[:at]


def count(text: str) -> int:
    """Return a whole number from 0 to MAX_COUNT.  Raises UsageError."""
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"{text!r} is not a whole number of 0 or more")
    if len(text.lstrip("0")) > len(str(MAX_COUNT)) or int(text) > MAX_COUNT:
        raise UsageError(f"{text if len(text) <= 40 else text[:37] + '...'} is too large: at most {MAX_COUNT}")
    return int(text)


def count_to(most: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from 0 to ``most``; it raises UsageError."""

    def read(text: str) -> int:
        number = count(text)
        if number > most:
            raise UsageError(f"{number} is too large: at most {most}")
        return number

    return read


def positive(text: str) -> int:
    """Return a whole number from 1 to MAX_COUNT.  Raises UsageError."""
    if not (text.isascii() and text.isdigit()) or not text.strip("0"):
        raise UsageError(f"{text!r} is not a whole number of 1 or more")
    return count(text)


def one_of(*allowed: str) -> Callable[[str], str]:
    """Return a reader that accepts these words and raises UsageError for any other."""

    def read(text: str) -> str:
        if text not in allowed:
            raise UsageError(f"{text!r} is not one of: {', '.join(allowed)}")
        return text

    return read


color = one_of("auto", "always", "never")
