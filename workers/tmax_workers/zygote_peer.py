"""One connection of the zygote: a stub that brings a pane, or a controller.

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
    """Return a socket that listens at ``path`` (0600), in place of what was there.  OSError when that is impossible."""
    return listen_at(path, _BACKLOG)


class ZygotePeer:
    """Owns its socket and the descriptors that came through it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._unread = bytearray()
        self._unsent = bytearray()
        self.fds: list[int] = []
        """Passed by a stub: standard input, output, error, folder."""
        self.is_stub = False
        self.life = 0
        """Of a stub whose worker was forked."""

    @property
    def fd(self) -> int:
        """The socket's descriptor; -1 once closed."""
        return self._socket.fileno()

    @property
    def is_ours(self) -> bool:
        """Whether the process at the other end belongs to our user."""
        return peer_credentials(self._socket).uid == os.geteuid()

    def receive(self) -> bool:
        """Take in what is there; False when the other end has gone."""
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
        """Return the request of this stub once it is whole.  BadRequest when it can never be one."""
        request = request_in(self._unread)
        if request is not None:
            self._unread.clear()
            if len(self.fds) != DESCRIPTORS:
                raise BadRequest(f"{len(self.fds)} descriptors")
        return request

    def lines(self) -> list[bytes]:
        """Return the whole lines of this controller.  BadRequest for an endless one."""
        *lines, rest = self._unread.split(b"\n")
        if len(rest) > _LINE_BYTES:
            raise BadRequest("a line without end")
        self._unread = bytearray(rest)
        return [bytes(line) for line in lines]

    def send(self, data: bytes) -> None:
        """Send this, now or when there is room; to an end that has gone it is dropped, which reading notices."""
        self._unsent += data
        self.flush()

    def flush(self) -> None:
        """Send what waits."""
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()

    @property
    def wants_write(self) -> bool:
        """Whether something waits for room."""
        return bool(self._unsent)

    def has_hung_up(self) -> bool:
        """Whether the other end is closed by now, unread bytes or not."""
        try:
            return self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Close the socket and what came through it; twice is harmless."""
        for fd in self.fds:
            os.close(fd)
        self.fds = []
        self._socket.close()
