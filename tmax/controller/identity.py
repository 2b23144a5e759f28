"""The identity of a controller process."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Constant facts about this process."""

    swarm: str
    pid: int
    epoch: int
    started_at: float
    """Monotonic seconds when this process began."""
