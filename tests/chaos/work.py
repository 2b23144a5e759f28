"""What the tasks of a storm do: leave a trace outside tmax of each start and each end."""

from __future__ import annotations

import os
import time


def trace(folder: str, number: int, seconds: float) -> int:
    """Append a start and an end line to this process's own file, with ``seconds`` of work between; return ``number``."""
    path = f"{folder}/{os.getpid()}.trace"
    _append(path, f"start {number} {os.getpid()} {time.monotonic():.6f}\n")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    _append(path, f"end {number} {os.getpid()} {time.monotonic():.6f}\n")
    return number


def _append(path: str, line: str) -> None:
    # One write with O_APPEND: a kill leaves the whole line or nothing.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
