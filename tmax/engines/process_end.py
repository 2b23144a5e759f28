"""How a process ended, in numbers and in words.  Pure but for the names of signals."""

from __future__ import annotations

import signal
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessEnd:
    """What the kernel reported to the parent of a worker; None where it is not known."""

    signal: int | None = None
    exit_code: int | None = None
    peak_rss_bytes: int = 0
    """0: not known."""


def describe(end: ProcessEnd | None) -> str:
    """Return ``killed by SIGKILL``, ``exited with 0`` or ``exit status unknown``."""
    if end is not None and end.signal is not None:
        return f"killed by {_name(end.signal)}"
    if end is not None and end.exit_code is not None:
        return f"exited with {end.exit_code}"
    return "exit status unknown"


def signal_number(text: str) -> int | None:
    """Return the signal in ``9``, ``KILL`` or ``SIGKILL`` (tmux's word differs by version); None for anything else."""
    if text.isdigit():
        return int(text) or None
    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    found = signal.Signals.__members__.get(name)
    return int(found) if found is not None else None


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
