"""Ended tasks above the number kept are removed, with their logs and the bodies that no task names any more."""

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
"""Between two runs."""

STEP_TASKS = 100
"""Tasks that are looked at in one step."""


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
        """Run for the first time after TRIM_S, and so on."""
        self._reactor.after(TRIM_S, self.trim)

    def trim(self) -> None:
        """Run once; the next run is planned."""
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
                    pass  # it printed little or nothing
        self._slicer.run(self._find_unnamed(), lambda error: LOG.error("bodies that no task names could not be looked for: %s", error))

    def _find_unnamed(self) -> Steps[None]:
        """Find bodies that no task names.  One that a task shares with others, submitted meanwhile, is young and spared as well."""
        try:
            bodies = [name for name in os.listdir(self._layout.blobs) if not name.startswith(".")]
        except FileNotFoundError:
            return  # the state folder was removed; running tasks are finished all the same
        shared: set[str] = set()
        for place, task in enumerate(list(self._query.tasks.values()) if bodies else ()):
            shared.update(shared_digests(task.job))
            if place % STEP_TASKS == 0:
                yield None
        if bodies:
            self._store.read(lambda reader: reader.unreferenced(bodies), lambda unnamed: self._sweep(bodies, unnamed, shared))

    def _sweep(self, bodies: list[str], unnamed: list[str] | StoreError, shared: set[str]) -> None:
        """Remove old bodies that no task names (on the store's thread, which may block); young ones are spared, their task may be on its way."""
        if not isinstance(unnamed, StoreError) and unnamed:
            blobs.sweep(self._layout.blobs, set(bodies).difference(unnamed) | shared)
