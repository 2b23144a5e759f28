"""Opens and checks the database of a folder; every failure is a StoreError with a hint.

    which files exist?      none: a first start    marker without a store, or log without a store: refused
    connect                 EXCLUSIVE before WAL: no shared memory file, and a second opener is refused
    verify                  SQLite's own check, at most VERIFY_S seconds of it
    version, migrate        newer: refused    older: a full copy is kept, then step by step
    generation >= claim     else its log was lost or it is an older copy (generation_marker.py): refused

It never replaces an existing store by an empty one and never repairs: a person must decide (exit code 74).
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading

from tmax.errors import FolderError, StoreError
from tmax.layout import Layout, private_folder
from tmax.storage.filesystem import refuse_network
from tmax.storage.generation_marker import GenerationMarker
from tmax.storage.reader import SqliteReader
from tmax.storage.schema import MIGRATIONS, is_ours, migrate, version_of
from tmax.storage.store_errors import corrupt, explain, lost
from tmax_pipes.durable_files import sync

VERIFY_S = 2.0
"""Time the check at opening may take. A larger store is then opened with part of it checked; each row is checked again when it is read."""
THOROUGH_BYTES = 128 * 1024 * 1024
"""Up to this size indexes are compared with their tables too (``integrity_check``, about 0.2 s); above, ``quick_check`` (0.3 s for 540 MB)."""
BUSY_S = 1.0
"""How long an opener waits for another process that is closing the store."""


def open_database(layout: Layout, synchronous: str, claim: bool = True) -> sqlite3.Connection:
    """Return the open store, checked and of the newest version; make it when there never was one.

    ``synchronous``: ``FULL`` or ``NORMAL``. ``claim=False``: only to read; makes nothing and skips the long check.
    Raises StoreError.
    """
    try:
        private_folder(layout.state)
        refuse_network(layout.state)
        new = not _exists(layout)
        if new:
            os.close(os.open(layout.database, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except FolderError as error:
        raise StoreError(error.message, error.hint) from error
    except OSError as error:
        raise _unwritable(error, layout) from error
    connection: sqlite3.Connection | None = None
    try:
        connection = connect(layout.database, synchronous)
        _prove(connection, layout, thorough=claim and not new)
    except (sqlite3.Error, OSError, StoreError) as error:
        # Before closing, because closing moves the log into the damaged file.
        found = (
            error if isinstance(error, StoreError) else _unwritable(error, layout) if isinstance(error, OSError) else explain(error, layout)
        )
        if connection is not None:
            close_quietly(connection)
        raise found from error
    return connection


def _unwritable(error: OSError, layout: Layout) -> StoreError:
    return StoreError(f"{error.filename or layout.state}: {error.strerror}", hint=f"check the rights and the disk of {layout.state}")


def never_made(layout: Layout) -> bool:
    """True when no file indicates that this swarm ever had a store."""
    return not os.path.lexists(layout.database) and not os.path.lexists(layout.created)


def connect(path: str, synchronous: str) -> sqlite3.Connection:
    """Open ``path`` for this process alone, in autocommit mode. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        # Before the journal mode: only so is the log used without a shared memory file.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise sqlite3.OperationalError(f"write-ahead log is not possible here (journal mode is {mode})")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        for setting in ("mmap_size = 0", "wal_autocheckpoint = 0", "temp_store = MEMORY", "cache_size = -8192", "cell_size_check = ON"):
            connection.execute(f"PRAGMA {setting}")
        connection.execute(f"PRAGMA journal_size_limit = {64 * 1024 * 1024}")
    except BaseException:
        close_quietly(connection)
        raise
    return connection


def close_quietly(connection: sqlite3.Connection) -> None:
    """Close a connection after an error; ignore further errors."""
    try:
        connection.close()
    except sqlite3.Error:
        pass  # the first error is the one that is raised


def verify(connection: sqlite3.Connection, size_bytes: int, limit_s: float = VERIFY_S) -> str:
    """Let SQLite check the file; return the first thing found wrong, or "". Stops after ``limit_s`` with what was checked.

    Raises sqlite3.Error when the file is too damaged to be checked.
    """
    check = "integrity_check" if size_bytes <= THOROUGH_BYTES else "quick_check"
    clock = threading.Timer(limit_s, connection.interrupt)
    clock.daemon = True
    clock.start()
    try:
        answer = str(connection.execute(f"PRAGMA {check}(1)").fetchone()[0])
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return ""
        raise
    finally:
        clock.cancel()
        clock.join()
    return "" if answer == "ok" or "interrupt" in answer else answer


def _exists(layout: Layout) -> bool:
    """True: open it. False: a first start. Raises StoreError for anything in between, OSError for a file that cannot be examined."""
    try:
        found = os.lstat(layout.database)
    except FileNotFoundError:
        found = None
    if found is not None:
        _check_file(layout.database, found)
    if found is not None and found.st_size:
        return True
    if os.path.lexists(layout.created):
        raise lost(layout, "is empty" if found else "is missing")
    if _size(f"{layout.database}-wal"):
        raise lost(layout, "is empty, beside a log that is not" if found else "is missing, beside its log")
    if found is not None:
        os.unlink(layout.database)  # a first start that died before its first byte
    return False


def _check_file(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path} is not a plain file", hint=f"move it away: mv {path} {path}.aside")
    if found.st_uid != os.geteuid():
        raise StoreError(f"{path} belongs to another user (uid {found.st_uid})", hint=f"run tmax as that user, or: sudo chown $USER {path}")
    if found.st_mode & 0o077:
        os.chmod(path, 0o600)


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def _prove(connection: sqlite3.Connection, layout: Layout, thorough: bool) -> None:
    marker = GenerationMarker(layout.created)
    claimed = _claimed(marker)
    version = version_of(connection)
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{layout.database} was written by a newer tmax (store version {version}, this one knows {len(MIGRATIONS)})",
            hint="update tmax: pip install -U tmax",
        )
    if version == 0 and (claimed is not None or _tables(connection)):
        raise lost(layout, "has lost its tables" if claimed is not None else "is not a store of tmax")
    if version > 0 and not is_ours(connection):
        raise lost(layout, "is not a store of tmax")
    if thorough and (wrong := verify(connection, _size(layout.database))):
        raise corrupt(layout, wrong)
    migrate(connection, lambda old: snapshot(connection, f"{layout.database}.version-{old}"))
    generation = SqliteReader(connection).counter("generation")
    if generation < (claimed or 0):
        raise lost(
            layout, f"is older than it should be (generation {generation}, {claimed} was seen): its log is missing, or it is an older copy"
        )
    if claimed is None:
        _claim(marker, generation)


def _tables(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])


def _claimed(marker: GenerationMarker) -> int | None:
    try:
        return marker.read()
    except OSError as error:
        raise StoreError(f"{marker.path} cannot be read: {error.strerror}", hint=f"check it: ls -ld {marker.path}") from error


def _claim(marker: GenerationMarker, generation: int) -> None:
    try:
        marker.claim(generation)
    except OSError as error:
        raise StoreError(
            f"{marker.path} cannot be written: {error.strerror}", hint="free some space, or check the rights of the folder"
        ) from error


def snapshot(connection: sqlite3.Connection, path: str) -> None:
    """Write a full, compact copy of the store to ``path``, replacing an older one when it is whole. Raises sqlite3.Error and OSError."""
    fresh = f"{path}.new"
    if os.path.lexists(fresh):
        os.unlink(fresh)
    # Create it private first: SQLite would create it with the umask.
    os.close(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    try:
        connection.execute("VACUUM INTO ?", (fresh,))
        sync(fresh)
        os.rename(fresh, path)
    except BaseException:
        os.unlink(fresh)
        raise
    sync(os.path.dirname(path))
