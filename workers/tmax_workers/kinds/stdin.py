"""A program's standard input from its submitter: a path, or the submitter's own descriptor.

::

    /dev/null, a file, a FIFO      opened for reading, without waiting for a writer
    @NAME, an abstract socket      connect --> the submitter passes its own standard input (SCM_RIGHTS) --> the program reads it directly

So nothing is copied, a reader that stops also stops the writer, and unread input is left for the next command, as in the submitter's shell.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from tmax_pipes.peer_credentials import peer_credentials
from tmax_workers.epoll_loop import EpollLoop

NOTHING = "/dev/null"


class Stdin:
    """Fetches the descriptor; IO thread only.  ``on_ready`` is called once, from the loop, unless ``fetch`` returned True.

    ``fd`` is the descriptor afterwards, which ``close`` closes; -1: the submitter has ended, and there is nothing to read.
    ``refused``: the submitter's reason for not passing it; empty: none.
    """

    def __init__(self, path: bytes, loop: EpollLoop, on_ready: Callable[[], None]) -> None:
        self.fd = -1
        self.refused = ""
        self._path = path
        self._loop = loop
        self._on_ready = on_ready
        self._sock: socket.socket | None = None

    def fetch(self) -> bool:
        """Begin to fetch; return whether the descriptor is available already.  Raises OSError for a path that cannot be opened."""
        if self._path.startswith(b"@"):
            return self._connect()
        self.fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(self.fd, True)
        return True

    def _connect(self) -> bool:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.connect(b"\0" + self._path[1:])
            uid = peer_credentials(sock).uid
        except BlockingIOError:
            sock.close()
            raise  # the submitter's queue of connections is full: an empty input would be wrong
        except OSError:
            uid = -1  # the submitter has ended
        if uid != os.geteuid():
            sock.close()
            return True
        self._sock = sock
        self._loop.add(sock.fileno(), lambda _events: self._received())
        return False

    def _received(self) -> None:
        assert self._sock is not None
        try:
            message, fds, _, _ = socket.recv_fds(self._sock, 1024, 1)
        except BlockingIOError:
            return
        except OSError:
            message, fds = b"", []
        self._disconnect()
        if fds:
            self.fd = fds[0]
            os.set_inheritable(self.fd, False)
        else:
            self.refused = message.decode("utf-8", "replace")  # empty: it ended meanwhile
        self._on_ready()

    def taken(self) -> int | str:
        """Return the descriptor, which the caller now owns, or the path of ``/dev/null``."""
        fd, self.fd = self.fd, -1
        return fd if fd >= 0 else NOTHING

    def _disconnect(self) -> None:
        if self._sock is not None:
            self._loop.remove(self._sock.fileno())
            self._sock.close()
            self._sock = None

    def close(self) -> None:
        """Disconnect and close the descriptor; a second call is harmless."""
        self._disconnect()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
