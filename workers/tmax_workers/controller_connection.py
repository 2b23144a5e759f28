"""The worker's connection to its controller: FIFOs, announcement and reconnection.

::

    make FIFOs n, publish --> announce on the control socket (stay connected) --> Who on the FIFOs: there is a controller
         ^                          | no listener: wait until the socket is made again (inotify), with a few retries
         |                          |                 (without inotify: every 2 s)
         +---- no answer yet, and the FIFOs were removed (a logout, a cleaner of old files)
         +---- the connection ended: end-of-file after the first byte, EPIPE, a bad frame

A controller that starts later scans the folder and finds the FIFOs even if no announcement reaches it.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable

from tmax_pipes.fifo import WorkerFifos
from tmax_pipes.messages import Message
from tmax_pipes.pipe_errors import ConnectionEnded, FrameError, PipeError
from tmax_pipes.wire import Wire
from tmax_workers.epoll_loop import WRITE, EpollLoop

FIRST_RETRY_S = 0.2
LAST_RETRY_S = 2.0
RETRIES = 6
"""Retries after each event that may mean a controller; then only the next event counts."""


class ControllerConnection:
    """The FIFOs of this life, one after another, and the announcement.  IO thread only (but see ``Coordinator.flush``).

    ``on_ready``: bytes may have arrived, or queued bytes may be flushed.  ``is_woken``: the owner calls ``socket_folder_changed`` when
    the control socket may have been made, or its folder removed or made again.
    """

    def __init__(
        self,
        loop: EpollLoop,
        rt: str,
        life: int,
        control: str,
        *,
        on_ready: Callable[[], None],
        is_woken: bool,
        made: int = 0,
    ) -> None:
        """``made``: number of connections of this life before this object."""
        self._loop = loop
        self._rt = rt
        self._life = life
        self._control = control
        self._on_ready = on_ready
        self._is_woken = is_woken
        self._fifos: WorkerFifos | None = None
        self._n = made
        self._accepted = False
        self._announcement: socket.socket | None = None
        self._attempts = 0
        self._retry_at: float | None = None
        self.wire: Wire | None = None

    @property
    def made(self) -> int:
        """Number of connections that this life has made."""
        return self._n

    # -- FIFOs -------------------------------------------------------------------------------------

    def open(self) -> None:
        """Make and publish the next FIFOs, then announce them; on failure, retry later."""
        self.close()
        self._accepted = False
        self._n += 1
        try:
            self._fifos = WorkerFifos.create(self._rt, self._life, self._n)
        except OSError:
            # Full disk, or the folder is gone (a logout): without FIFOs there is nothing to announce.
            self._schedule_retry()
            return
        self.wire = Wire(self._fifos, "worker")
        for fd in self._fifos.read_fds():
            self._loop.add(fd, lambda _events: self._on_ready())
        self.announce()

    def receive(self) -> list[tuple[int, Message]]:
        """Return the messages that have arrived.  Raises ConnectionEnded when the connection has ended, for whatever reason."""
        if self.wire is None:
            return []
        try:
            return self.wire.receive()
        except (FrameError, PipeError) as error:
            raise ConnectionEnded(str(error)) from error

    def accept(self, epoch: int) -> Wire:
        """Open ``results``, because ``Who`` was read.  Raises ConnectionEnded when the controller has ended already."""
        assert self._fifos is not None
        assert self.wire is not None
        self._fifos.open_results()
        self.wire.epoch = epoch
        self._accepted, self._retry_at = True, None
        return self.wire

    def watch_writes(self) -> None:
        """Watch the FIFOs that could not take everything, until they are writable."""
        for fd in self._fifos.write_fds() if self._fifos else ():
            if not self._loop.knows(fd):
                self._loop.add(fd, lambda _events, fd=fd: self._writable(fd), WRITE)  # type: ignore[misc]  # the default binds this turn's fd

    def _writable(self, fd: int) -> None:
        self._loop.remove(fd)
        self._on_ready()

    def close(self) -> None:
        """Close and remove the current connection; a second call is harmless."""
        if self._fifos is not None:
            for fd in self._fifos.fds():
                self._loop.remove(fd)
            self._fifos.close()
            self._fifos.remove()
        self._fifos, self.wire = None, None
        self._close_announcement()

    def close_in_child(self) -> None:
        """In a forked child: close the descriptors, remove nothing."""
        if self._fifos is not None:
            self._fifos.close()
        if self._announcement is not None:
            self._announcement.close()

    # -- announcement ------------------------------------------------------------------------------

    def socket_folder_changed(self) -> None:
        """The folder of the control socket has changed: announce this worker if the socket exists."""
        if os.path.lexists(self._control):
            self.announce()

    def announce(self) -> None:
        """Announce this connection, or a new one when its FIFOs were removed: there may be a controller now."""
        self._attempts = 0
        if self._fifos is None:
            self.open()
        else:
            self._announce()

    def deadline(self) -> float | None:
        """Return when ``tick`` is due; None: wait for an event."""
        return self._retry_at

    def tick(self, now: float) -> None:
        """Retry, if it is due."""
        if self._retry_at is not None and now >= self._retry_at:
            self._retry_at = None
            if self._fifos is None:
                self.open()
            else:
                self._announce()

    def _announce(self) -> None:
        if self._fifos is None or self._announcement is not None:
            return
        if not self._accepted and not self._fifos.are_there:
            self.open()
            return
        announcement = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        line = json.dumps({"verb": "announce", "life": self._life, "place": self._fifos.folder})
        try:
            announcement.connect(self._control)
            announcement.sendall(line.encode() + b"\n")
        except OSError:
            announcement.close()
            self._schedule_retry()
            return
        self._announcement = announcement
        self._retry_at = None
        self._loop.add(announcement.fileno(), self._announcement_readable)

    def _announcement_readable(self, _events: int) -> None:
        assert self._announcement is not None
        try:
            if self._announcement.recv(4096):
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # reset: closed as well
        self._close_announcement()
        if not self._accepted:
            self._schedule_retry()  # it ended before it connected to us; another controller may start

    def _close_announcement(self) -> None:
        if self._announcement is not None:
            self._loop.remove(self._announcement.fileno())
            self._announcement.close()
            self._announcement = None

    def _schedule_retry(self) -> None:
        self._attempts += 1
        if self._is_woken and self._fifos is not None and self._attempts > RETRIES:
            return
        self._retry_at = time.monotonic() + min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** (self._attempts - 1))
