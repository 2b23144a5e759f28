"""What is removed from the runtime folder under a running swarm is made again: a logout, a cleaner of old files, a person.

::

    inotify: the runtime folder and those above it --> QUIET_S without another event --> look
    look: is it a folder of ours alone? --yes--> each owner makes again what is missing of its own (``reopen``)
                                         no ---> logged once, looked at again every RETRY_S

Connections that are open do not need their names and go on; workers make their own FIFOs again when they need new ones.
So that it is not removed for its age: the folder is locked (flock), which systemd-tmpfiles respects, and touched, for others.
"""

from __future__ import annotations

import fcntl
import logging
import os
from typing import TYPE_CHECKING

from tmax.errors import TmaxError
from tmax.layout import private_folder
from tmax.reactor import Timer

if TYPE_CHECKING:
    from tmax.controller.loop import Controller
    from tmax_pipes.inotify import FolderWatch, Inotify

LOG = logging.getLogger("tmax.controller")

QUIET_S = 0.03
"""A removal takes a while: what is made again in the middle of it would only be in its way."""
LONGEST_S = 1.0
"""Events that do not end are not waited for any longer."""
RETRY_S = 5.0
"""Between looks while it cannot be made again, or when the kernel has no inotify for us."""
TOUCH_S = 6 * 3600.0
"""Cleaners of old files begin at a day."""


class RuntimeRepair:
    """Keeps the runtime folder of one controller whole."""

    def __init__(self, house: Controller) -> None:
        self._house = house
        self._runtime = house.layout.runtime
        self._inotify: Inotify | None = None
        self._watch: FolderWatch | None = None
        self._look: Timer | None = None
        self._since_s: float | None = None
        """When the first event came that no look has followed yet."""
        self._lock_fd = -1
        self._trouble = ""
        self._closed = False
        self.times = 0
        """How often something was made again."""

    def open(self) -> None:
        """Begin; what was removed before is made again now.  After the start, which shall not wait for ctypes."""
        if self._closed:
            return
        from tmax_pipes.inotify import IN_DELETE, IN_MOVED_FROM, FolderWatch, Inotify

        self._inotify = Inotify()
        if self._inotify.fd >= 0:
            self._watch = FolderWatch(self._inotify, self._runtime, IN_DELETE | IN_MOVED_FROM)
            self._house.reactor.on_readable(self._inotify.fd, self._heard)
        self.look()
        self._house.reactor.after(TOUCH_S, self._touch)

    def _heard(self) -> None:
        if self._changes():
            self._look_when_quiet()

    def _changes(self) -> bool:
        """Take in what the kernel has to say; return whether something of ours is being changed at this moment."""
        if self._inotify is None or self._watch is None or not self._watch.concerns(self._inotify.read()):
            return False
        self._since_s = self._since_s or self._house.reactor.now()
        return True

    def _look_when_quiet(self) -> None:
        assert self._since_s is not None
        self._look_at(min(self._house.reactor.now() + QUIET_S, self._since_s + LONGEST_S))

    def _look_at(self, when_s: float) -> None:
        if self._look is not None:
            self._look.cancel()
        self._look = self._house.reactor.at(when_s, self.look)

    def look(self) -> None:
        """Make again what is missing."""
        if self._closed:
            return
        self._look = None
        now = self._house.reactor.now()
        if self._changes() and self._since_s is not None and now < self._since_s + LONGEST_S:
            self._look_when_quiet()
            return
        self._since_s = None
        if self._watch is not None:
            self._watch.arm()  # before the look: what is removed after it is heard of
        else:
            self._look_at(now + RETRY_S)
        try:
            remade = self._heal()
        except (TmaxError, OSError) as error:
            self._cannot(str(error))
            self._look_at(now + RETRY_S)
            return
        self._trouble = ""
        if remade:
            self.times += 1
            LOG.warning("removed from the runtime folder %s, and made again: %s", self._runtime, ", ".join(remade))
            if self._watch is not None:
                self._watch.arm()  # the new folder is watched from now on
            self._look_at(now + QUIET_S)  # and looked at once more, for what was removed before that

    def _cannot(self, why: str) -> None:
        if why != self._trouble:
            self._trouble = why
            LOG.error("the runtime folder cannot be made again, and nobody reaches this controller until it can: %s", why)

    def _heal(self) -> list[str]:
        house = self._house
        remade = [os.path.basename(folder) + "/" for folder in (self._runtime, house.layout.workers) if not os.path.lexists(folder)]
        for folder in (self._runtime, house.layout.workers):
            private_folder(folder)
        # The control socket comes last: who finds it finds the rest too.
        remade += house.engine.reopen()
        if house.server.reopen():
            remade.append("control.sock")
        self._hold()
        return remade

    # -- age ---------------------------------------------------------------------------------------

    def _hold(self) -> None:
        """Lock the folder that is there now; nobody else asks for this lock but who wants to clean it away."""
        if self._lock_fd >= 0 and os.path.samestat(os.fstat(self._lock_fd), os.lstat(self._runtime)):
            return
        self._let_go()
        self._lock_fd = os.open(self._runtime, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            pass  # a cleaner looks at it right now, or its file system has no locks: it is touched all the same

    def _let_go(self) -> None:
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
                    pass  # gone meanwhile
        self._house.reactor.after(TOUCH_S, self._touch)

    def close(self) -> None:
        """The folder is left, or removed by ourselves; twice is harmless."""
        self._closed = True
        self._let_go()
        if self._inotify is not None and self._inotify.fd >= 0:
            self._house.reactor.forget(self._inotify.fd)
            self._inotify.close()
