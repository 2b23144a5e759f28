"""The interpreter's own handler of faults (SIGSEGV and the like): it prints where each thread was, in this worker's pane."""

from __future__ import annotations

import faulthandler

_files: list[int] = []


def enable(fd: int) -> None:
    """Have faults printed there."""
    _files[:] = [fd]
    faulthandler.enable(file=fd)


def enable_again() -> None:
    """A task has switched it off, or taken its signals."""
    faulthandler.disable()
    for fd in _files:
        faulthandler.enable(file=fd)
