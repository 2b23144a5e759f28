"""Restores files that are removed from the runtime folder of a running swarm: by a logout, a cleaner of old files, a user.

::

    inotify: the runtime folder and those above it --> QUIET_S without another event --> check
    check: does the folder belong to our user only? --yes--> each owner restores its missing files (``reopen``)
                                                     no ---> logged once, checked again every RETRY_S

Open connections do not need their file names and stay; workers make their own FIFOs again when they need new ones.
Cleaners of old files are kept off in two ways: the folder is locked (flock), which systemd-tmpfiles respects, and touched.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from tmax.errors import TmaxError
from tmax.layout import Layout, private_folder
from tmax.reactor import Reactor, Timer

if TYPE_CHECKING:
    from tmax_pipes.inotify import FolderWatch, Inotify  # imports ctypes: after the start

LOG = logging.getLogger("tmax.controller")

QUIET_S = 0.03
"""A removal takes a while: a file that is restored in the middle of it would be removed as well."""
LONGEST_S = 1.0
"""The longest wait for the end of a series of events."""
RETRY_S = 5.0
"""Seconds between checks while the folder cannot be restored, or where inotify is not available."""
TOUCH_S = 6 * 3600.0
"""Seconds between touches.  Cleaners of old files begin at an age of one day."""


class RuntimeRepair:
    """Keeps the runtime folder of one controller whole."""

    def __init__(self, reactor: Reactor, layout: Layout) -> None:
        self._reactor = reactor
        self._layout = layout
        self._owners: list[Callable[[], list[str]]] = []
        self._runtime = layout.runtime
        self._inotify: Inotify | None = None
        self._watch: FolderWatch | None = None
        self._timer: Timer | None = None
        self._since_s: float | None = None
        """When the first event arrived that no check has followed yet; None: none."""
        self._lock_fd = -1
        self._last_error = ""
        self._closed = False
        self.repairs = 0
        """How often files were restored."""

    def add(self, reopen: Callable[[], list[str]]) -> None:
        """Add an owner: ``reopen`` restores its missing files in the folder, which exists, and returns their names."""
        self._owners.append(reopen)

    def open_soon(self) -> None:
        """Call ``open`` in the loop's first turn, so that the start does not wait for it."""
        self._reactor.call_soon(self.open)

    def open(self) -> None:
        """Begin to watch, and restore what was removed before.  Called after the start, which must not wait for the import of ctypes."""
        if self._closed:
            return
        from tmax_pipes.inotify import IN_DELETE, IN_MOVED_FROM, FolderWatch, Inotify

        self._inotify = Inotify()
        if self._inotify.fd >= 0:
            self._watch = FolderWatch(self._inotify, self._runtime, IN_DELETE | IN_MOVED_FROM)
            self._reactor.on_readable(self._inotify.fd, self._on_events)
        self.check()
        self._reactor.after(TOUCH_S, self._touch)

    def _on_events(self) -> None:
        if self._changes():
            self._check_when_quiet()

    def _changes(self) -> bool:
        """Read the kernel's events; return whether one of them concerns our folder."""
        if self._inotify is None or self._watch is None or not self._watch.concerns(self._inotify.read()):
            return False
        self._since_s = self._since_s or self._reactor.now()
        return True

    def _check_when_quiet(self) -> None:
        assert self._since_s is not None
        self._check_at(min(self._reactor.now() + QUIET_S, self._since_s + LONGEST_S))

    def _check_at(self, when_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._reactor.at(when_s, self.check)

    def check(self) -> None:
        """Restore missing files."""
        if self._closed:
            return
        self._timer = None
        now = self._reactor.now()
        if self._changes() and self._since_s is not None and now < self._since_s + LONGEST_S:
            self._check_when_quiet()
            return
        self._since_s = None
        if self._watch is not None:
            self._watch.arm()  # before the check: a removal after it causes an event
        else:
            self._check_at(now + RETRY_S)
        try:
            remade = self._repair()
        except (TmaxError, OSError) as error:
            self._report(str(error))
            self._check_at(now + RETRY_S)
            return
        self._last_error = ""
        if remade:
            self.repairs += 1
            LOG.warning("removed from the runtime folder %s, and made again: %s", self._runtime, ", ".join(remade))
            if self._watch is not None:
                self._watch.arm()  # watches the new folder
            self._check_at(now + QUIET_S)  # again, for files that were removed before the new folder was watched

    def _report(self, why: str) -> None:
        if why != self._last_error:
            self._last_error = why
            LOG.error("the runtime folder cannot be made again, and no client reaches this controller until it can: %s", why)

    def _repair(self) -> list[str]:
        folders = (self._runtime, self._layout.workers)
        remade = [os.path.basename(folder) + "/" for folder in folders if not os.path.lexists(folder)]
        for folder in folders:
            private_folder(folder)
        for reopen in self._owners:
            remade += reopen()
        self._lock_folder()
        return remade

    # -- age ---------------------------------------------------------------------------------------

    def _lock_folder(self) -> None:
        """Lock the folder that exists now; besides tmax, only cleaners of old files take this lock."""
        if self._lock_fd >= 0 and os.path.samestat(os.fstat(self._lock_fd), os.lstat(self._runtime)):
            return
        self._unlock()
        self._lock_fd = os.open(self._runtime, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            pass  # a cleaner holds the lock, or the file system has none; touching the files still protects them

    def _unlock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _touch(self) -> None:
        if self._closed:
            return
        os.utime(os.path.dirname(self._runtime))
        for folder, _, names in os.walk(self._runtime):
            for path in (folder, *(f"{folder}/{name}" for name in names)):
                try:
                    os.utime(path, follow_symlinks=False)
                except OSError:
                    pass  # removed meanwhile
        self._reactor.after(TOUCH_S, self._touch)

    def close(self) -> None:
        """Stop watching; a second call has no effect."""
        self._closed = True
        self._unlock()
        if self._inotify is not None and self._inotify.fd >= 0:
            self._reactor.forget(self._inotify.fd)
            self._inotify.close()
