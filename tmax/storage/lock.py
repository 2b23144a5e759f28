"""The lock that a controller holds until its end, so that one store never has two controllers.

    open (O_NOFOLLOW) -> flock, tried for a while -> is this still the file of that name? -> held until close() or death

``flock`` and not ``fcntl`` locks: those are dropped when *any* descriptor of the file is closed in the process.
The kernel releases the lock when its holder dies, so a dead process never leaves a lock behind.
The pid in the file is only for people.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import time
from types import TracebackType
from typing import Self

from tmax.errors import ExitCode, StoreError

TRIES = 10
"""Number of retries after the lock file was removed while being locked."""

PAUSE_S = 0.01
"""Between two tries to take a lock that is held."""


class LockHeld(StoreError):
    """Another process has the lock. Fields: ``path``; ``pid``, what the holder wrote (0: unreadable)."""

    code = "lock-held"
    exit_code = ExitCode.NO_SWARM

    def __init__(self, path: str, pid: int = 0) -> None:
        self.path = path
        self.pid = pid
        by = f" by process {pid}" if pid else ""
        way_out = f"; if it stays so: kill {pid}, then tmax init: its workers and tasks are taken over" if pid else ""
        super().__init__(
            f"{path} is held{by}: a controller is starting, or runs and does not answer", hint=f"try again{way_out}; see tmax doctor"
        )


def holder(path: str) -> int | None:
    """Return the pid that the holder of this lock wrote into the file (0: none); None when the lock is free."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None  # taking the lock reports what is wrong
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_pid(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return None


class ControllerLock:
    """A held lock; ``close`` (a second call is harmless) or the end of the process releases it. A forked child holds it too until it execs."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def close(self) -> None:
        """Release the lock. The file stays: after an unlink two processes could lock two files of one name."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def controller_lock(path: str, patience_s: float = 0.0) -> ControllerLock:
    """Take the lock, or raise LockHeld when it is held for longer than ``patience_s``. Raises StoreError when the file belongs to another user or cannot be opened.

    Commands that read the store hold it while they read, and ``holder`` for a moment.
    """
    end_s = time.monotonic() + patience_s
    while True:
        try:
            return _lock(path)
        except LockHeld:
            if time.monotonic() >= end_s:
                raise
        pause()


def pause() -> None:
    """Wait PAUSE_S: no event reports the release of a lock."""
    select.select([], [], [], PAUSE_S)


def _lock(path: str) -> ControllerLock:
    """Take the lock now.

    After locking, the open file is compared with the file at ``path``: a lock on a file that was unlinked
    meanwhile does not exclude the next process.
    """
    for _ in range(TRIES):
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _still_named(descriptor, path):
                _write_pid(descriptor)
                return ControllerLock(path, descriptor)
        except BlockingIOError:
            pid = _read_pid(descriptor)
            os.close(descriptor)
            raise LockHeld(path, pid) from None
        except OSError as error:
            os.close(descriptor)
            raise StoreError(f"{path} cannot be locked: {error.strerror}", hint="keep the swarm's folder on a local disk") from error
        os.close(descriptor)
    raise StoreError(
        f"{path} is replaced again and again while it is being locked", hint="another program removes files there: find and stop it"
    )


def _open(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be opened: {error.strerror}", hint=f"it must be a plain file of yours: see ls -l {path}"
        ) from error
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid():
        return descriptor
    os.close(descriptor)
    raise StoreError(f"{path} is not a plain file of this user (uid {found.st_uid})", hint=f"remove it: rm {path}")


def _still_named(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _write_pid(descriptor: int) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    except OSError:
        pass  # a full disk: the pid is only for people, the lock is held all the same


def _read_pid(descriptor: int) -> int:
    text = os.pread(descriptor, 20, 0).strip()
    return int(text) if text.isdigit() else 0
