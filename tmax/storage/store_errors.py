"""Errors of the store with hints, and copies of damaged files, kept once."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
import time

from tmax.errors import ExitCode, StorageFull, StoreError
from tmax.layout import Layout
from tmax.storage.ballast import NO_SPACE
from tmax_pipes.durable_files import atomic_write

CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
RIGHTS = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_AUTH})

_SLACK_BYTES = 256 * 1024
"""This close to a size limit one write may fail and a smaller one succeed."""


class StoreLocked(StoreError):
    """Another process has the store open."""

    code = "store-locked"
    exit_code = ExitCode.FAILED


def primary(error: sqlite3.Error) -> int:
    """Return SQLite's result code without its detail; 0 for an error that Python's module found itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def explain(error: sqlite3.Error, layout: Layout) -> StoreError:
    """Return the StoreError for an error of SQLite; a corrupt store is copied first."""
    code, name = primary(error), getattr(error, "sqlite_errorname", "")
    if code in CORRUPT:
        return corrupt(layout, str(error))
    if code in BUSY:
        return StoreLocked(f"{layout.database} is in use by another program", hint=f"find it and close it: fuser {layout.database}")
    if code == sqlite3.SQLITE_FULL:
        return full(layout)
    if code in RIGHTS:
        return StoreError(f"{layout.database} cannot be written: {error}", hint=f"check the rights and the disk of {layout.state}")
    detail = f" ({name})" if name else ""
    return StoreError(f"{layout.database}: {error}{detail}", hint="check the disk (dmesg), then start tmax again: nothing accepted is lost")


def full(layout: Layout) -> StorageFull:
    """Return the error for a full disk, or for a file that may not grow because of this process's own limit."""
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if most != resource.RLIM_INFINITY and _largest_in(layout.state) + _SLACK_BYTES >= most:
        return StorageFull(
            f"{layout.database} may not grow: this controller runs with a limit of {most} bytes for a file (ulimit -f)",
            hint="tmax down, raise the limit (ulimit -f unlimited), tmax init",
        )
    return StorageFull(f"the disk of {layout.state} is full", hint="free some space; tmax then continues by itself")


def removed(layout: Layout) -> StoreError:
    """Return the error for a store whose file lost its name while the swarm ran: what it takes in now is gone with the controller."""
    return StoreError(
        f"{layout.database} was removed while the swarm ran",
        hint="tmax down, then tmax init begins anew",
    )


def _largest_in(folder: str) -> int:
    """Return the size of the larger file of the store in ``folder``."""
    sizes = [0]
    for name in ("tmax.db", "tmax.db-wal"):
        try:
            sizes.append(os.stat(f"{folder}/{name}").st_size)
        except OSError:
            pass  # not there yet
    return max(sizes)


def is_full(error: sqlite3.Error, folder: str) -> bool:
    """True when the disk (or our quota on it, or a file by our own limit) is full, so that a smaller write, or the same one later, may succeed.

    SQLite calls a spent quota a write error; a small write distinguishes it from a broken disk.
    """
    if primary(error) == sqlite3.SQLITE_FULL:
        return True
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_WRITE and _spent(folder)


def _spent(folder: str) -> bool:
    probe = os.path.join(folder, "probe")
    try:
        atomic_write(probe, bytes(4096))
        os.unlink(probe)
    except OSError as error:
        return error.errno in NO_SPACE
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    # A file at its size limit fails like a broken disk.
    return most != resource.RLIM_INFINITY and _largest_in(folder) + _SLACK_BYTES >= most


def corrupt(layout: Layout, wrong: str) -> StoreError:
    """Return the error for a damaged store, with the way back in its hint; keep a copy of the damaged files once."""
    copy = keep_evidence(layout)
    kept = f"; a copy was kept as {copy}" if copy else ""
    return StoreError(f"{layout.database} is damaged: {wrong}{kept}", hint=way_back(layout, copy))


def lost(layout: Layout, how: str) -> StoreError:
    """Return the error for a store that is there only in part."""
    return StoreError(f"{layout.database} {how}; tmax does not start with an empty or older store by itself", hint=way_back(layout, ""))


def way_back(layout: Layout, copy: str) -> str:
    """Return what a person can do: put the files back, take the snapshot, salvage, or begin anew."""
    here = layout.state
    ways = [f"put tmax.db and tmax.db-wal back into {here}"]
    try:
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(os.stat(layout.snapshot).st_mtime))
        ways.append(f"go back to the copy of {made}: cd {here} && rm -f created tmax.db-wal && cp tmax.db.snapshot tmax.db")
    except OSError:
        pass  # no snapshot
    if copy:
        ways.append(f"salvage what can be read: sqlite3 {copy} .recover")
    if os.path.lexists(layout.database):
        ways.append(f"take tmax.db as it is: rm {here}/created")
    ways.append(f"give these tasks up: mv {here} {here}.old")
    return "; or ".join(ways)


def keep_evidence(layout: Layout) -> str:
    """Copy the damaged files beside themselves and return the copy's path; "" when there is no space or no right to.

    Once for each incident: a copy made after the store was last written well is of the same damage. Must run
    before the connection is closed, because closing moves the log into the database.
    """
    folder, base = os.path.split(layout.database)
    try:
        kept = [name for name in sorted(os.listdir(folder)) if name.startswith(f"{base}.corrupt-") and not name.endswith("-wal")]
        if kept and os.stat(f"{folder}/{kept[-1]}").st_ctime_ns >= _written_ns(layout):
            return f"{folder}/{kept[-1]}"
        copy = f"{layout.database}.corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    except OSError:
        return ""
    return copy if _copy_pair(layout.database, copy) else ""


def _copy_pair(database: str, copy: str) -> bool:
    try:
        for suffix in ("-wal", ""):
            _copy(f"{database}{suffix}", f"{copy}{suffix}")
    except OSError:
        for suffix in ("-wal", ""):
            if os.path.exists(f"{copy}{suffix}"):
                os.unlink(f"{copy}{suffix}")
        return False
    return True


def _written_ns(layout: Layout) -> int:
    try:
        return os.stat(layout.created).st_mtime_ns
    except FileNotFoundError:
        return 0


def _copy(source: str, target: str) -> None:
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with open(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        if not size:
            return
        free = os.statvfs(os.path.dirname(target))
        if size > free.f_bavail * free.f_frsize // 2:
            raise OSError(errno.ENOSPC, "no space for a copy", target)
        fresh = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fresh, "wb") as out:
            while data := file.read(1024 * 1024):
                out.write(data)
            out.flush()
            os.fsync(out.fileno())
