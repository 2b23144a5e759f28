"""Imports before work arrives, so that no task pays for them.

thread counts into the environment -> import each module -> enforce thread counts on imported libraries
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

from tmax_workers import threads
from tmax_workers.signal_masks import ENDING, threads_without_signals


@dataclass(frozen=True, slots=True, kw_only=True)
class Preloaded:
    """Modules that were imported, those that failed (``name: reason``), and the threads of each library."""

    modules: tuple[str, ...]
    missing: tuple[str, ...]
    threads: dict[str, int]


def preload(modules: Sequence[str], thread_count: int) -> Preloaded:
    """Import ``modules`` in this order, with ``thread_count`` threads for each library; never raises for a module."""
    os.environ.update(threads.env_for(thread_count))
    found: list[str] = []
    missing: list[str] = []
    with threads_without_signals(but=ENDING):  # these must be able to end a long import
        for name in modules:
            try:
                importlib.import_module(name)
            except Exception as error:  # a module may raise anything at import; the worker reports it and continues
                missing.append(f"{name}: {type(error).__name__}: {error}"[:500])
            else:
                found.append(name)
    return Preloaded(modules=tuple(found), missing=tuple(missing), threads=threads.enforce(thread_count))
