"""Which controller this is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Facts about this process that do not change."""

    swarm: str
    pid: int
    epoch: int
    started_at: float
    """Monotonic seconds when this process began."""
