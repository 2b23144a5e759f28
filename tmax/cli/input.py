"""The standard input of ``run`` for its command: the descriptor itself is passed, not its content.

::

    a terminal                      not passed: the command has its worker's pane
    closed, /dev/null               /dev/null
    a file, a pipe, a socket        a socket of this process --> the worker connects when the command starts --> it receives fd 0 (SCM_RIGHTS)

The command reads only what it needs; the rest is left for the next reader (``while read`` loops), and the writer of a pipe gets SIGPIPE
when the command has closed it.  The socket has an abstract name, which disappears with this process.
"""

from __future__ import annotations

import _socket
import os
import stat
import sys

_NOWHERE = "/dev/null"
_CREDENTIALS_BYTES = 12
"""``struct ucred``: pid, uid, gid."""


class Input:
    """``path``: the standard input in the task's request; empty: the pane.  ``fd``: readable when a worker connects; -1: none will."""

    def __init__(self) -> None:
        self.path = ""
        self.fd = -1
        self._sock: _socket.socket | None = None
        self._sent = False
        try:
            self._found = os.fstat(0)
        except OSError:
            self.path = _NOWHERE
            return
        if stat.S_ISCHR(self._found.st_mode) and os.path.samestat(self._found, os.stat(_NOWHERE)):
            self.path = _NOWHERE
        elif not os.isatty(0):
            self._listen()

    def _listen(self) -> None:
        name = f"tmax-{os.urandom(16).hex()}"
        self._sock = sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC)
        sock.bind(b"\0" + name.encode())
        sock.listen(8)
        self.path, self.fd = f"@{name}", sock.fileno()
        self._start = os.lseek(0, 0, os.SEEK_CUR) if stat.S_ISREG(self._found.st_mode) else 0

    def accept_worker(self) -> None:
        """Accept a worker's connection and send it the standard input, or the reason why that is impossible."""
        assert self._sock is not None
        try:
            fd, _ = self._sock._accept()  # type: ignore[attr-defined]  # noqa: SLF001  # accept() is made of it in socket, which costs 10 ms to import
        except OSError:
            return  # the worker has disconnected
        worker = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fileno=fd)
        try:
            if _is_same_user(worker):
                self._send_to(worker)
        except OSError:
            pass  # the worker has disconnected: the task may be sent to another one
        finally:
            worker.close()

    def _send_to(self, worker: _socket.socket) -> None:
        kind = self._found.st_mode
        if self._sent and (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
            worker.send(b"its standard input is a pipe that an earlier attempt has read from, and cannot be read twice")
            return
        if self._sent and stat.S_ISREG(kind):
            os.lseek(0, self._start, os.SEEK_SET)  # a new attempt reads it from the same position
        worker.sendmsg([b"\n"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, (0).to_bytes(4, sys.byteorder))])
        self._sent = True
        if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
            # While this process holds it too, the writer would get no SIGPIPE when the command stops reading.
            nowhere = os.open(_NOWHERE, os.O_RDONLY | os.O_CLOEXEC)
            os.dup2(nowhere, 0)
            os.close(nowhere)

    def close(self) -> None:
        """Close the socket; a second call does nothing."""
        if self._sock is not None:
            self._sock.close()
            self._sock, self.fd = None, -1


def _is_same_user(peer: _socket.socket) -> bool:
    """Return whether the peer runs as this user: any user can connect to an abstract name."""
    found = peer.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS_BYTES)
    return int.from_bytes(found[4:8], sys.byteorder) == os.geteuid()
