"""A program's standard input when its submitter gives it one: a path, or a socket where the submitter waits with the very descriptor.

::

    /dev/null, a file, a FIFO      opened for reading, without waiting for a writer
    a socket                       connect --> the submitter sends its own standard input (SCM_RIGHTS) --> the program reads it itself

So nothing is copied, a reader who stops reading stops the writer, and what was not read is left for the next command, all as in the submitter's shell.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable

from tmax_workers.loop import Loop

NOTHING = "/dev/null"


class Stdin:
    """Fetches the descriptor; IO thread alone.  ``on_ready`` is called once, from the loop, unless ``fetch`` had it at once.

    ``fd`` is the descriptor afterwards, to be closed by ``close``; -1: the submitter is gone, and there is nothing to read.
    ``refused`` says why the submitter does not give it; empty: it does.
    """

    def __init__(self, path: bytes, attempt: int, loop: Loop, on_ready: Callable[[], None]) -> None:
        self.fd = -1
        self.refused = ""
        self._path = path
        self._attempt = attempt
        self._loop = loop
        self._on_ready = on_ready
        self._sock: socket.socket | None = None

    def fetch(self) -> bool:
        """Begin; return whether it is there already.  Raises OSError for a path that cannot be opened."""
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return True  # the submitter took it away with it
        if stat.S_ISSOCK(found.st_mode):
            return self._connect()
        self.fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(self.fd, True)
        return True

    def _connect(self) -> bool:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.connect(os.fsdecode(self._path))
            sock.send(b"%d\n" % self._attempt)
        except OSError:
            sock.close()
            return True  # nobody listens any more
        self._sock = sock
        self._loop.add(sock.fileno(), lambda _events: self._received())
        return False

    def _received(self) -> None:
        assert self._sock is not None
        try:
            said, fds, _, _ = socket.recv_fds(self._sock, 1024, 1)
        except BlockingIOError:
            return
        except OSError:
            said, fds = b"", []
        self._hang_up()
        if fds:
            self.fd = fds[0]
            os.set_inheritable(self.fd, False)
        else:
            self.refused = said.decode("utf-8", "replace")
        self._on_ready()

    def _hang_up(self) -> None:
        if self._sock is not None:
            self._loop.remove(self._sock.fileno())
            self._sock.close()
            self._sock = None

    def close(self) -> None:
        """Let go of it; twice is harmless."""
        self._hang_up()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
