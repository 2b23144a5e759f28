"""Resolves task selectors to task numbers: ``7``, ``3-9``, ``@`` (the last), ``@~2`` (two before it), a name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tmax.controller.fields import TASKS_HINT
from tmax.core.names import MAX_CHARACTERS
from tmax.errors import NotFound, TmaxError, UsageError
from tmax.storage.task_store import Reader

MAX_RANGE = 100_000
MAX_DIGITS = 18
"""Digits of the largest task number."""
_RANGE = re.compile(r"(\d{1,12})-(\d{1,12})", re.ASCII)
_LAST = re.compile(r"@(?:~(\d{1,9}))?", re.ASCII)


def select(words: Sequence[str], last: int, reader: Reader) -> list[int] | TmaxError:
    """Return the task numbers that these words select, in order and without repeats, or the error.  ``last``: the newest number.

    A name selects the newest task of this name that has not ended, else the newest of this name.
    """
    found: dict[int, None] = {}
    try:
        for word in words:
            found.update(dict.fromkeys(_ids(word, last, reader)))
    except TmaxError as error:
        return error
    return list(found)


def _ids(word: str, last: int, reader: Reader) -> list[int]:
    if word.isascii() and word.isdigit():
        if len(word) > MAX_DIGITS:
            raise NotFound("no task has such a number", hint=TASKS_HINT)
        return [int(word)]
    span = _RANGE.fullmatch(word)
    if span:
        first, end = int(span[1]), int(span[2])
        if end < first or end - first >= MAX_RANGE:
            raise UsageError(f"{word}: a range goes from a lower to a higher number, over at most {MAX_RANGE} tasks")
        ids = [number for number in range(first, min(end, last) + 1) if number > 0]
        if not ids:
            raise NotFound(f"no task in {word}", hint=TASKS_HINT)
        return ids
    from_last = _LAST.fullmatch(word)
    if from_last:
        number = last - int(from_last[1] or 0)
        if number < 1:
            raise NotFound(f"no task {word}: {last} tasks have been submitted so far", hint=TASKS_HINT)
        return [number]
    named = reader.named(word)
    if not named:
        shown = word if len(word) <= MAX_CHARACTERS else f"{word[:40]}..."
        raise NotFound(f"no task named {shown!r}", hint=TASKS_HINT)
    return [named]
