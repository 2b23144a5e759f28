"""Is a process that has run for long still running the code that is installed?  Both ends compare one word."""

from __future__ import annotations

import os

import tmax_pipes
import tmax_workers


def fingerprint() -> str:
    """Return a word that changes whenever a module of tmax_workers or tmax_pipes is edited, replaced, added or removed."""
    marks = sorted(mark for package in (tmax_workers, tmax_pipes) for folder in package.__path__ for mark in _marks(folder))
    return f"{len(marks)}-{hash(tuple(marks)) & 0xFFFFFFFFFFFFFFFF:x}"  # of numbers: the same in every process


def _marks(folder: str) -> list[tuple[int, int]]:
    marks = []
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            marks += _marks(entry.path)
        elif entry.name.endswith(".py"):
            found = entry.stat()
            marks.append((found.st_mtime_ns, found.st_size))
    return marks
