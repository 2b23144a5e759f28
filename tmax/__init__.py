"""tmax: a tmux-based session manager and task runner.

Public names are loaded when first used, so that ``import tmax`` costs next to nothing.
"""

from __future__ import annotations

from tmax.version import __version__

__all__ = ["Executor", "Swarm", "__version__"]

# Type checkers know this name; importing it from typing would cost more than half a bare interpreter's start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmax.api.swarm import Executor, Swarm


def __getattr__(name: str) -> object:
    if name in {"Executor", "Swarm"}:
        import tmax.api.swarm

        return getattr(tmax.api.swarm, name)
    raise AttributeError(f"module 'tmax' has no attribute {name!r}")
