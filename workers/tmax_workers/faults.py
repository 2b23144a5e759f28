"""``faulthandler`` in this worker's pane: on SIGSEGV and the like it prints where each thread was."""

from __future__ import annotations

import faulthandler

_files: list[int] = []


def enable(fd: int) -> None:
    """Print faults to this descriptor."""
    _files[:] = [fd]
    faulthandler.enable(file=fd)


def enable_again() -> None:
    """Enable it again after a task disabled it or replaced its signal handlers."""
    faulthandler.disable()
    for fd in _files:
        faulthandler.enable(file=fd)
