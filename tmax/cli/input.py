"""The standard input of ``run`` for its command: not its content, the descriptor itself.

::

    a terminal                      stays ours: the command has its worker's pane
    closed, /dev/null               /dev/null
    a file, a pipe, a socket        a socket of ours --> the worker connects when the command begins --> it gets our descriptor (SCM_RIGHTS)

So the command reads what it wants and no more, at its own pace; what it leaves is left for the next one (``while read`` loops);
and whoever writes to it is told when nobody reads any longer.  The socket has an abstract name: it is gone with this process.
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
    """``path`` is the command's standard input, as a task names it; empty: the pane's.  ``fd``: to poll for a worker that asks; -1: none will."""

    def __init__(self) -> None:
        self.path = ""
        self.fd = -1
        self._sock: _socket.socket | None = None
        self._given = False
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

    def answer(self) -> None:
        """A worker has connected: give it our standard input, or say why not."""
        assert self._sock is not None
        try:
            fd, _ = self._sock._accept()  # type: ignore[attr-defined]  # noqa: SLF001  # accept() is made of it in socket, which costs 10 ms to import
        except OSError:
            return  # it went away
        worker = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fileno=fd)
        try:
            if _is_ours(worker):
                self._give(worker)
        except OSError:
            pass  # it went away: its task may come again elsewhere
        finally:
            worker.close()

    def _give(self, worker: _socket.socket) -> None:
        kind = self._found.st_mode
        if self._given and (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
            worker.send(b"its standard input is a pipe that an earlier try has read from, and cannot be read twice")
            return
        if self._given and stat.S_ISREG(kind):
            os.lseek(0, self._start, os.SEEK_SET)  # a new try reads it from the beginning
        worker.sendmsg([b"\n"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, (0).to_bytes(4, sys.byteorder))])
        self._given = True
        if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
            # As long as we hold it too, whoever writes would not hear that the command has stopped reading.
            nowhere = os.open(_NOWHERE, os.O_RDONLY | os.O_CLOEXEC)
            os.dup2(nowhere, 0)
            os.close(nowhere)

    def close(self) -> None:
        """No more workers are answered; twice is harmless."""
        if self._sock is not None:
            self._sock.close()
            self._sock, self.fd = None, -1


def _is_ours(peer: _socket.socket) -> bool:
    """Whether it runs as our own user: an abstract name is open to everybody."""
    found = peer.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS_BYTES)
    return int.from_bytes(found[4:8], sys.byteorder) == os.geteuid()
