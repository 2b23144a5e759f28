"""tmax: a tmux-based session manager and task runner.

Public names are loaded when first used, so that ``import tmax`` costs next to nothing.
"""

from __future__ import annotations

from tmax.version import __version__

# Type checkers know this name; importing it from typing would cost more than half a bare interpreter's start.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmax.api.swarm import Executor, Swarm
    from tmax.api.task_errors import (
        InitializerFailed,
        ResultNotSendable,
        SwarmGone,
        TaskBroken,
        TaskDead,
        TaskError,
        TaskFailed,
        TaskInterrupted,
        TaskTimeout,
    )
    from tmax.errors import (
        ConfigError,
        FolderError,
        NoSwarm,
        NoTerminals,
        NotFound,
        OutputError,
        StorageFull,
        StoreError,
        TmaxError,
        TmuxError,
        UsageError,
        WaitTimedOut,
        WorkerLost,
    )

__all__ = [
    "ConfigError",
    "Executor",
    "FolderError",
    "InitializerFailed",
    "NoSwarm",
    "NoTerminals",
    "NotFound",
    "OutputError",
    "ResultNotSendable",
    "StorageFull",
    "StoreError",
    "Swarm",
    "SwarmGone",
    "TaskBroken",
    "TaskDead",
    "TaskError",
    "TaskFailed",
    "TaskInterrupted",
    "TaskTimeout",
    "TmaxError",
    "TmuxError",
    "UsageError",
    "WaitTimedOut",
    "WorkerLost",
    "__version__",
]

_API = ("Executor", "Swarm")
_TASK_ERRORS = (
    "InitializerFailed",
    "ResultNotSendable",
    "SwarmGone",
    "TaskBroken",
    "TaskDead",
    "TaskError",
    "TaskFailed",
    "TaskInterrupted",
    "TaskTimeout",
)


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'tmax' has no attribute {name!r}")
    if name in _API:
        import tmax.api.swarm

        return getattr(tmax.api.swarm, name)
    if name in _TASK_ERRORS:
        import tmax.api.task_errors

        return getattr(tmax.api.task_errors, name)
    import tmax.errors

    return getattr(tmax.errors, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
