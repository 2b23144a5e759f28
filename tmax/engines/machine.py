"""What this machine offers: looked up here, because the rest of tmax does not import tmax_workers."""

from __future__ import annotations

from importlib.util import find_spec

from tmax.core.settings import Settings
from tmax_workers.threads import default_threads, usable_cores

__all__ = ["preload_of", "threads_of", "usable_cores"]


def threads_of(settings: Settings, workers: int) -> int:
    """Return the BLAS and torch threads of each of ``workers``: as set, else so that together they fill the usable cores."""
    return settings.worker.threads or default_threads(workers)


def preload_of(settings: Settings) -> tuple[str, ...]:
    """Return the modules to preload; ``auto`` is numpy, and torch where it is installed.

    What another interpreter has cannot be seen from here: with ``swarm.python`` set, torch is tried, and a worker
    that lacks it reports so in its ``Hello``.
    """
    modules: list[str] = []
    for name in settings.swarm.preload:
        modules += _auto(settings.swarm.python) if name == "auto" else [name]
    return tuple(dict.fromkeys(modules))


def _auto(python: str) -> list[str]:
    return ["numpy", "torch"] if python or find_spec("torch") is not None else ["numpy"]
