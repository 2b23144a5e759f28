"""The task store: one SQLite file, one process, one connection, used by one thread at a time.

    controller                          writer thread (writer.py)
    commit_now(changes)    ------------ BEGIN, rows, COMMIT (fsync) on the controller's thread, while the writer thread is idle
    commit(changes, done)  --queue-->   BEGIN, rows, COMMIT (fsync) -> done(result) -> checkpoint, ballast
    read(query, done)      --queue-->   query(reader) -> done(answer)
    trim(keep, done)       --queue-->   BEGIN, DELETE, COMMIT -> done(ids)
    close(snapshot)        --queue-->   VACUUM INTO tmax.db.snapshot, checkpoint, close

A full disk fails one commit (StorageFull: nothing of it is written). Any other failure to write ends the store:
every later commit gets the same error, the controller stops, and the next start reads what is on disk.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tmax.core.events import Changes
from tmax.core.settings import StoreSettings
from tmax.errors import NoSwarm, StoreError
from tmax.layout import Layout
from tmax.storage.lock import controller_lock
from tmax.storage.opening import close_quietly, never_made, open_database
from tmax.storage.reader import SqliteReader
from tmax.storage.task_store import CommitResult, LoadedState, Reader
from tmax.storage.writer import BALLAST_RETRY_S, Writer

__all__ = ["CommitResult", "LoadedState", "Reader", "Store", "open_for_reading"]

T = TypeVar("T")

NOW_S = 0.005
"""A commit is made on the caller's thread as long as the one before took less: on a slow disk the caller's loop must not block."""


class Store:
    """``tmax.storage.task_store.TaskStore`` over SQLite. Made by ``open``; its methods are called from one thread, the controller's."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._submitted = 0
        """Jobs for the thread; written by the caller alone, as ``_finished`` is by the thread."""
        self._finished = 0
        self._last_s = 0.0
        """Duration of the last commit."""
        self._closed = False
        # A daemon: a controller that dies of an error must not hang at exit; what was acknowledged is on disk.
        self._thread = threading.Thread(target=self._work, name="tmax-store", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, layout: Layout, settings: StoreSettings) -> Store:
        """Open the swarm's store, or make it when there never was one. The caller holds ``controller_lock``.

        Raises StoreError with a hint: locked by another program, damaged, incomplete, newer, not ours, on a network file
        system, no rights. Its exit code is 74 where a person must choose.
        """
        connection = open_database(layout, settings.durability.upper())
        try:
            return cls(Writer(connection, layout, settings))
        except BaseException:
            close_quietly(connection)
            raise

    @property
    def full(self) -> bool:
        """True while the ballast is released (or never fitted): accept no new task.

        Reading it makes the store check for space, so that tasks are accepted as soon as there is some.
        """
        writer = self._writer
        if writer.full and not self._closed:
            if self._finished == self._submitted and writer.has_space_again:
                writer.retry_ballast()
            elif time.monotonic() >= writer.retry_ballast_at:
                writer.retry_ballast_at = time.monotonic() + BALLAST_RETRY_S  # one check at a time, however often it is read
                self._put(writer.retry_ballast)
        return writer.full

    @property
    def removed(self) -> bool:
        """True when the store's file was removed: accept no new task, it would be lost."""
        return not self._writer.is_named

    def load(self) -> LoadedState:
        """Return the state after all earlier commits. Blocks. Raises StoreError."""
        box: queue.SimpleQueue[LoadedState | StoreError] = queue.SimpleQueue()
        self.read(lambda reader: reader.loaded(), box.put)
        answer = box.get()
        if isinstance(answer, StoreError):
            raise answer
        return answer

    def commit_now(self, changes: Changes) -> CommitResult | None:
        """Write all of it or nothing before it returns, when that is quick and nothing else is queued; else return None, nothing written.

        It saves two hand-overs between threads. Raises StoreError when closed.
        """
        if self._closed:
            raise StoreError("the store is closed")
        if self._finished != self._submitted or self._last_s >= NOW_S:
            return None
        result = self._writer.commit(changes)
        self._last_s = result.seconds
        if self._writer.needs_maintenance:
            self._put(self._writer.maintain)
        return result

    def commit(self, changes: Changes, done: Callable[[CommitResult], None]) -> None:
        """Write all of it or nothing, in the order of the calls; then call ``done`` on the writer thread. Raises StoreError when closed."""

        def job() -> None:
            result = self._writer.commit(changes)
            self._last_s = result.seconds
            done(result)
            self._writer.maintain()

        self._put(job)

    def read(self, query: Callable[[Reader], T], done: Callable[[T | StoreError], None]) -> None:
        """Run ``query`` after all earlier commits; ``done`` is called on the writer thread. Raises StoreError when closed."""

        def job() -> None:
            try:
                answer: T | StoreError = self._writer.read(query)
            except StoreError as error:
                answer = error
            done(answer)

        self._put(job)

    def trim(self, keep: int, done: Callable[[list[int] | StoreError], None]) -> None:
        """Forget ended tasks beyond the ``keep`` that ended last. ``done``, on the writer thread, gets the ids that are gone.

        At most TRIM_AT_ONCE (1,000) at a time: call again after so many. Raises StoreError when closed.
        """

        def job() -> None:
            try:
                answer: list[int] | StoreError = self._writer.trim(keep)
            except StoreError as error:
                answer = error
            done(answer)
            self._writer.maintain()

        self._put(job)

    def close(self, snapshot: bool = False) -> None:
        """Finish queued work, then close; ``snapshot`` leaves a full copy beside the store. A second call is harmless.

        Raises StoreError when the copy could not be made; the store is closed all the same. Not from ``done``.
        """
        if self._closed:
            return
        box: queue.SimpleQueue[StoreError | None] = queue.SimpleQueue()

        def job() -> None:
            try:
                self._writer.close(snapshot)
                box.put(None)
            except StoreError as error:
                box.put(error)

        self._put(job)
        self._closed = True
        self._jobs.put(None)
        self._thread.join()
        error = box.get()
        if error is not None:
            raise error

    def _put(self, job: Callable[[], None]) -> None:
        if self._closed:
            raise StoreError("the store is closed")
        self._submitted += 1
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception as error:  # any: without this thread every client would wait for ever, so the next commit reports it
                self._writer.stop(StoreError(f"the callback of a store operation failed: {error!r}"))
            self._finished += 1


@contextmanager
def open_for_reading(layout: Layout) -> Iterator[Reader]:
    """Read the store of a swarm whose controller is down; no controller can start meanwhile, so be brief.

    Raises NoSwarm where nothing was ever kept, LockHeld when a controller is starting or does not answer, and StoreError.
    """
    if never_made(layout):
        raise NoSwarm(layout.swarm, "was never started")
    with controller_lock(layout.lock):
        connection = open_database(layout, "FULL", claim=False)
        try:
            yield SqliteReader(connection)
        finally:
            close_quietly(connection)
