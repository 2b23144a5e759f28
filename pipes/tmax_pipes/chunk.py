"""Many calls of one function as one job: ``map(..., chunksize=n)`` names ``call_each``, which every worker can import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def call_each(function: Callable[..., Any], rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Return the results of ``function`` for each row of arguments; the first exception ends the loop."""
    return [function(*row) for row in rows]
