"""One connection of the zygote: with a stub, which passes a pane, or with a controller.

bytes and descriptors in --> request of a stub | lines of a controller          lines out --> socket, as it takes them
"""

from __future__ import annotations

import os
import socket

from tmax_pipes.listening import listen_at
from tmax_pipes.peer_credentials import peer_credentials
from tmax_workers.zygote_wire import DESCRIPTORS, BadRequest, ForkRequest, request_in

_BACKLOG = 4096
_READ_BYTES = 256 * 1024
_LINE_BYTES = 64 * 1024


def listen(path: str) -> socket.socket:
    """Return a socket that listens at ``path`` (0600), and replaces what was there.  Raises OSError."""
    return listen_at(path, _BACKLOG)


class ZygotePeer:
    """Owns its socket and the descriptors that came through it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._unread = bytearray()
        self._unsent = bytearray()
        self.fds: list[int] = []
        """Descriptors from a stub: standard input, output, error, folder."""
        self.is_stub = False
        self.life = 0
        """Life of the forked worker of a stub; 0: none."""

    @property
    def fd(self) -> int:
        """The socket's descriptor; -1 once closed."""
        return self._socket.fileno()

    @property
    def is_ours(self) -> bool:
        """Whether the process at the other end belongs to our user."""
        return peer_credentials(self._socket).uid == os.geteuid()

    def receive(self) -> bool:
        """Read available bytes and descriptors; False when the other end has closed."""
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, _READ_BYTES, DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.fds += fds
        self._unread += data
        if not self.is_stub and self._unread[:1] == b"S":
            self.is_stub = True
            self.send(b"hello\n")
        return bool(data)

    def request(self) -> ForkRequest | None:
        """Return the stub's request once it is complete.  Raises BadRequest when it is malformed."""
        request = request_in(self._unread)
        if request is not None:
            self._unread.clear()
            if len(self.fds) != DESCRIPTORS:
                raise BadRequest(f"{len(self.fds)} descriptors")
        return request

    def lines(self) -> list[bytes]:
        """Return the controller's complete lines.  Raises BadRequest for a line that is too long."""
        *lines, rest = self._unread.split(b"\n")
        if len(rest) > _LINE_BYTES:
            raise BadRequest("a line without end")
        self._unread = bytearray(rest)
        return [bytes(line) for line in lines]

    def send(self, data: bytes) -> None:
        """Send bytes now or when the socket is writable; dropped when the peer has closed, which reading detects."""
        self._unsent += data
        self.flush()

    def flush(self) -> None:
        """Send queued bytes."""
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()

    @property
    def wants_write(self) -> bool:
        """Whether bytes are queued."""
        return bool(self._unsent)

    def has_hung_up(self) -> bool:
        """Whether the other end has closed, with or without unread bytes."""
        try:
            return self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Close the socket and the received descriptors; a second call is harmless."""
        for fd in self.fds:
            os.close(fd)
        self.fds = []
        self._socket.close()
