"""Removes ended tasks above the number to keep, with their logs and the stored bodies that no task references any more."""

from __future__ import annotations

import logging
import os

from tmax.controller.slices import Slicer, Steps
from tmax.core.query import SwarmQuery
from tmax.errors import StoreError
from tmax.layout import Layout
from tmax.reactor import Reactor
from tmax.storage.task_store import TaskStore
from tmax_pipes import blobs
from tmax_pipes.jobs import shared_digests

LOG = logging.getLogger("tmax.controller")

TRIM_S = 600.0
"""Seconds between two runs."""

STEP_TASKS = 100
"""Tasks that one step of the search for references reads."""


class Housekeeping:
    """Trims the store every TRIM_S."""

    def __init__(self, query: SwarmQuery, *, store: TaskStore, slicer: Slicer, reactor: Reactor, layout: Layout, keep_ended: int) -> None:
        """``keep_ended``: how many ended tasks are kept."""
        self._query = query
        self._store = store
        self._slicer = slicer
        self._reactor = reactor
        self._layout = layout
        self._keep_ended = keep_ended

    def start(self) -> None:
        """Schedule the first run, after TRIM_S."""
        self._reactor.after(TRIM_S, self.trim)

    def trim(self) -> None:
        """Run once, and schedule the next run."""
        self._store.trim(self._keep_ended, lambda removed: self._reactor.call_soon(lambda: self._remove_files(removed)))
        self._reactor.after(TRIM_S, self.trim)

    def _remove_files(self, removed: list[int] | StoreError) -> None:
        if isinstance(removed, StoreError):
            LOG.error("ended tasks above the number kept could not be removed: %s", removed)
            return
        for task in removed:
            for kind in ("log", "stderr"):
                try:
                    os.unlink(f"{self._layout.logs}/{task}.{kind}")
                except FileNotFoundError:
                    pass  # a task with little or no output has no file
        self._slicer.run(self._find_unreferenced(), lambda error: LOG.error("the search for unreferenced bodies failed: %s", error))

    def _find_unreferenced(self) -> Steps[None]:
        """Find bodies that no task references.  A shared body of a task submitted meanwhile is young, and kept for that."""
        try:
            bodies = [name for name in os.listdir(self._layout.blobs) if not name.startswith(".")]
        except FileNotFoundError:
            return  # the state folder was removed; running tasks still finish
        shared: set[str] = set()
        for index, task in enumerate(list(self._query.tasks.values()) if bodies else ()):
            shared.update(shared_digests(task.job))
            if index % STEP_TASKS == 0:
                yield None
        if bodies:
            self._store.read(lambda reader: reader.unreferenced(bodies), lambda found: self._sweep(bodies, found, shared))

    def _sweep(self, bodies: list[str], unreferenced: list[str] | StoreError, shared: set[str]) -> None:
        """Remove old unreferenced bodies; runs on the store's thread, which may block.  Young ones stay: their task may not be accepted yet."""
        if not isinstance(unreferenced, StoreError) and unreferenced:
            blobs.sweep(self._layout.blobs, set(bodies).difference(unreferenced) | shared)
