"""The only way a test waits: for a condition, with an end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], timeout_s: float = 10.0, step_s: float = 0.01, story: Callable[[], str] | None = None) -> T:
    """Return the first truthy value of ``predicate``; fail after ``timeout_s`` with ``story()`` in the message."""
    end = time.monotonic() + timeout_s
    pause = threading.Event()
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            told = f"\n{story()}" if story else ""
            raise AssertionError(f"not true after {timeout_s} s: {getattr(predicate, '__name__', predicate)}{told}")
        pause.wait(step_s)
