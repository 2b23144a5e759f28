"""The writer of the store: every use of the connection, one call after the other.

    commit  encode -> BEGIN, executemany, COMMIT (fsync) -> claim the generation        full: roll back, ballast, once more
    maintain  after the acknowledgement: checkpoint every CHECKPOINT_BYTES, check for space every BALLAST_RETRY_S
    broken  the first error that is not a full disk; every later write fails with it

An fsync is never retried: after a failure the kernel has dropped the pages, and the next one succeeds falsely.
The checkpoint is called here, not left to SQLite, which would run it before COMMIT returns and hide its errors.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from tmax.core.events import Changes
from tmax.core.settings import StoreSettings
from tmax.errors import StoreError
from tmax.layout import Layout
from tmax.storage import task_rows
from tmax.storage.ballast import NO_SPACE, Ballast
from tmax.storage.generation_marker import GenerationMarker
from tmax.storage.opening import close_quietly, snapshot
from tmax.storage.reader import SqliteReader
from tmax.storage.store_errors import CORRUPT, explain, full, is_full, primary
from tmax.storage.task_store import CommitResult, Reader

T = TypeVar("T")

CHECKPOINT_BYTES = 4 * 1024 * 1024
"""Written bytes after which the log is moved into the database."""
BALLAST_RETRY_S = 10.0
"""Shortest interval between two checks of a full store for space."""
TRIM_AT_ONCE = 1000
"""Tasks forgotten in one transaction, so that commits behind it do not wait long."""
_AT_ONCE = 32
"""Rows of one INSERT.  SQLite takes 32,766 values from version 3.32 on, 999 before it: a task has 13."""
DEAD_LIVES_KEPT = 1000


class Writer:
    """Owns the connection. Call it from one thread at a time; only ``full``, ``broken`` and ``retry_ballast_at`` are read from others."""

    def __init__(self, connection: sqlite3.Connection, layout: Layout, settings: StoreSettings) -> None:
        self._connection = connection
        self._layout = layout
        self._marker = GenerationMarker(layout.created)
        self._ballast = Ballast(layout.ballast, settings.ballast_bytes)
        self._claims_at_commit = settings.durability == "full"
        self._reader = SqliteReader(connection)
        self._generation = self._reader.counter("generation")
        self._claimed = False
        """The generation of the log's present period is in the database."""
        self._written_claim = -1
        """The generation last written to the marker."""
        self._weight_bytes = 0
        self._file = os.stat(layout.database)
        self.broken: StoreError | None = None
        self.full = True
        self.retry_ballast_at = 0.0
        self._short = False
        """Full because the disk has no space, which is quick to check."""
        self.retry_ballast()

    def commit(self, changes: Changes) -> CommitResult:
        """Write a turn's changes, all or nothing."""
        began = time.perf_counter()
        error: StoreError | None = None
        try:
            if self.broken is not None:
                raise self.broken
            if changes:
                batch = task_rows.batch_of(changes)
                self._write(lambda: self._put(batch))
                self._weight_bytes += batch.weight_bytes
        except StoreError as found:
            error = found
        return CommitResult(ok=error is None, error=error, seconds=time.perf_counter() - began)

    def read(self, query: Callable[[Reader], T]) -> T:
        """Run a query. Raises StoreError, also for an exception of the query itself, because a caller waits for the result."""
        try:
            return query(self._reader)
        except sqlite3.Error as error:
            found = explain(error, self._layout)
            if primary(error) in CORRUPT:
                self.broken = self.broken or found
            raise found from error
        except StoreError:
            raise
        except Exception as error:  # any: the query is the caller's code, and the caller waits for a result
            raise StoreError(f"a query of the store failed: {error!r}") from error

    def trim(self, keep: int) -> list[int]:
        """Forget ended tasks beyond the ``keep`` that ended last, at most TRIM_AT_ONCE; return their ids. Raises StoreError."""
        beyond = self.read(lambda _: self._reader.beyond(keep, TRIM_AT_ONCE))
        if beyond:
            self._write(lambda: self._forget(beyond))
            self._weight_bytes += 4096 * len(beyond)
        return [number for number, _ in beyond]

    @property
    def needs_maintenance(self) -> bool:
        """Whether ``maintain`` has something to do."""
        return (self.broken is None and self._weight_bytes >= CHECKPOINT_BYTES) or (self.full and time.monotonic() >= self.retry_ballast_at)

    def maintain(self) -> None:
        """Work after the acknowledgement: the checkpoint, and the ballast of a store that was full."""
        if self.broken is None and self._weight_bytes >= CHECKPOINT_BYTES:
            self._checkpoint()
        if self.full and time.monotonic() >= self.retry_ballast_at:
            self.retry_ballast()

    @property
    def has_space_again(self) -> bool:
        """Whether the disk that was full has space now; False where it always had some, as with a quota: only a write shows it."""
        return self._short and self._has_space()

    def _has_space(self) -> bool:
        try:
            return self._ballast.has_space
        except OSError:
            return False

    @property
    def is_named(self) -> bool:
        """Whether the file that is written is still the one of the store's name."""
        try:
            return os.path.samestat(os.stat(self._layout.database), self._file)
        except FileNotFoundError:
            return False
        except OSError:
            return True  # undecidable: the folder cannot be examined

    def retry_ballast(self) -> None:
        """Reserve the ballast if there is space; then the store is no longer full."""
        self.retry_ballast_at = time.monotonic() + BALLAST_RETRY_S
        try:
            self.full = not self._ballast.hold()
        except OSError:
            pass  # still full; the next check may succeed
        self._short = self.full and not self._has_space()

    def stop(self, error: StoreError) -> None:
        """Fail every later write with ``error``; the first error stays."""
        self.broken = self.broken or error

    def close(self, with_snapshot: bool) -> None:
        """Move the log into the database and close it. Raises StoreError for a failed snapshot or checkpoint; the store is closed all the same."""
        try:
            if self.broken is None and with_snapshot:
                snapshot(self._connection, self._layout.snapshot)
            if self.broken is None:
                self._checkpoint()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"no snapshot of {self._layout.database} was made: {error}", hint="the store itself is whole") from error
        finally:
            close_quietly(self._connection)

    # -- one transaction ---------------------------------------------------------------------------

    def _write(self, body: Callable[[], None]) -> None:
        if self.broken is not None:
            raise self.broken
        try:
            self._transact(body)
        except sqlite3.Error as error:
            if not is_full(error, self._layout.state):
                raise self._break(error) from error
            self._write_on_full_disk(body)
        self._claim(at_commit=True)

    def _write_on_full_disk(self, body: Callable[[], None]) -> None:
        """Retry with the space of the ballast, and of the log after a checkpoint."""
        self.full = True
        self.retry_ballast_at = time.monotonic() + BALLAST_RETRY_S
        self._short = not self._has_space()
        try:
            self._ballast.release()
            self._checkpoint()
            if self.broken is not None:
                raise self.broken
            self._transact(body)
        except sqlite3.Error as error:
            if is_full(error, self._layout.state):
                raise full(self._layout) from error
            raise self._break(error) from error
        except OSError as error:
            raise full(self._layout) from error

    def _transact(self, body: Callable[[], None]) -> None:
        """Run ``body`` in a transaction, which is rolled back after an error."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            body()
            if not self._claimed:
                self._connection.execute("UPDATE counters SET value = ? WHERE name = 'generation'", (self._generation + 1,))
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            self._roll_back()
            raise
        except StoreError as error:
            self._roll_back()
            self.stop(error)
            raise
        except (OverflowError, TypeError, ValueError) as error:  # a number of more than 64 bits, half a surrogate pair
            self._roll_back()
            raise StoreError(f"a value cannot be written: {error}") from error
        self._generation += not self._claimed
        self._claimed = True

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:  # a full disk, among others, makes SQLite roll back by itself
                self._connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            self._break(error)

    def _put(self, batch: task_rows.Batch) -> None:
        run = self._connection.executemany
        if batch.new_tasks:
            self._insert(task_rows.INSERT_TASK, batch.new_tasks)
            self._insert(task_rows.INSERT_SPEC, batch.specs)
        for statement, changed in ((task_rows.MOVE_TASK, batch.moved), (task_rows.END_TASK, batch.ended)):
            if changed and (found := run(statement, changed).rowcount) != len(changed):
                raise StoreError(f"{len(changed) - found} of {len(changed)} changed tasks are not in the store")
        if batch.lives:
            run(task_rows.REPLACE_LIFE, batch.lives)
        if batch.meta:
            run(task_rows.REPLACE_META, batch.meta)
        if batch.blobs:
            run(task_rows.INSERT_BLOB, batch.blobs)

    def _insert(self, statement: str, given: list[task_rows.Row]) -> None:
        whole = len(given) - len(given) % _AT_ONCE
        for at in range(0, whole, _AT_ONCE):
            self._connection.execute(task_rows.several(statement, _AT_ONCE), [*itertools.chain.from_iterable(given[at : at + _AT_ONCE])])
        self._connection.executemany(statement, given[whole:])

    def _forget(self, beyond: list[tuple[int, str]]) -> None:
        run = self._connection.executemany
        ids = [(number,) for number, _ in beyond]
        for statement in ("DELETE FROM tasks WHERE id = ?", "DELETE FROM specs WHERE task = ?", "DELETE FROM blobs WHERE task = ?"):
            run(statement, ids)
        # Ids are never reused and totals keep counting, so both are recorded.
        add = "INSERT INTO counters VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1"
        run(add, [(f"trimmed.{state}",) for _, state in beyond])
        highest = max(number for number, _ in beyond)
        self._connection.execute("UPDATE counters SET value = max(value, ?) WHERE name = 'highest_task'", (highest,))
        dead = "DELETE FROM lives WHERE NOT alive AND life <= (SELECT max(life) FROM lives) - ?"
        self._connection.execute(dead, (DEAD_LIVES_KEPT,))

    # -- log and claim -----------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        """Move the log into the database. A full disk only delays that; any other failure ends the store."""
        try:
            _, pages, moved = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            if is_full(error, self._layout.state):
                self.full = True
            else:
                self._break(error)
            return
        if pages != moved:
            return
        self._weight_bytes = 0
        self._claim(at_commit=False)
        self._claimed = False  # the next commit begins a new period of the log

    def _claim(self, at_commit: bool) -> None:
        """Write this generation to the marker.

        Under ``normal`` only what a checkpoint made durable is claimed: a power cut may take a commit back there, and that is no loss to report.
        """
        if at_commit != self._claims_at_commit or self._generation == self._written_claim:
            return
        try:
            self._marker.claim(self._generation)
            self._written_claim = self._generation
        except OSError as error:
            if error.errno not in NO_SPACE:  # on a full disk the claim is delayed
                raise self._break(error) from error

    def _break(self, error: Exception) -> StoreError:
        found = explain(error, self._layout) if isinstance(error, sqlite3.Error) else StoreError(f"{self._layout.state}: {error}")
        self.stop(found)
        return found
