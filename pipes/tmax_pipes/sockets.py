"""The three lanes over one connected Unix stream socket, for systems on which FIFOs cannot be polled.

::

    write(lane) --> queue of the lane --flush()--> [lane u8 | length u32 | bytes] ... --> socket
    read()      <-- bytes of each lane <-- pieces put together again <-- socket

Pieces are at most 64 KiB and ``control`` precedes ``tasks``, so an urgent message waits for one piece and not for a backlog.
"""

from __future__ import annotations

import os
import socket
import struct

from tmax_pipes.peer_credentials import peer_credentials
from tmax_pipes.pipe_errors import ConnectionEnded, FrameError, PipeError
from tmax_pipes.transport import Lane, Role

_LANES: tuple[Lane, ...] = ("control", "tasks", "results")
_WRITES: dict[Role, tuple[Lane, ...]] = {"controller": ("control", "tasks"), "worker": ("results",)}
_PIECE = struct.Struct("<BI")
_PIECE_BYTES = 64 * 1024
_READ_BYTES = 256 * 1024


class SocketTransport:
    """One end of a connected ``AF_UNIX`` stream socket, which this object owns and closes.

    Raises PipeError, and closes the socket, when the process at the other end belongs to another user.
    """

    def __init__(self, sock: socket.socket, role: Role) -> None:
        self._socket = sock
        _check_peer(sock)
        sock.setblocking(False)
        self._unsent: dict[Lane, bytearray] = {lane: bytearray() for lane in _WRITES[role]}
        self._piece = bytearray()
        self._rest = bytearray()
        self._view = memoryview(bytearray(_READ_BYTES))
        self._read_lanes: tuple[Lane, ...] = tuple(lane for lane in _LANES if lane not in _WRITES[role])

    def read(self) -> list[tuple[Lane, bytes]]:
        """As ``Transport.read``."""
        self._check_open()
        try:
            size = self._socket.recv_into(self._view)
        except BlockingIOError:
            return []
        except ConnectionError as error:
            raise ConnectionEnded(str(error)) from None
        if not size:
            raise ConnectionEnded("end of the socket")
        self._rest += self._view[:size]
        found: dict[Lane, bytearray] = {}
        while self._take_piece(found):
            pass
        return [(lane, bytes(found[lane])) for lane in ("tasks", "control", "results") if lane in found]

    def _take_piece(self, found: dict[Lane, bytearray]) -> bool:
        """Move one whole piece from what was received to its lane; False when there is none."""
        if len(self._rest) < _PIECE.size:
            return False
        number, size = _PIECE.unpack_from(self._rest)
        if number >= len(_LANES) or _LANES[number] not in self._read_lanes or size > _PIECE_BYTES:
            raise FrameError("magic", f"lane {number} with a piece of {size} bytes")
        end = _PIECE.size + size
        if len(self._rest) < end:
            return False
        found.setdefault(_LANES[number], bytearray()).extend(self._rest[_PIECE.size : end])
        del self._rest[:end]
        return True

    def write(self, lane: Lane, data: bytes) -> None:
        """As ``Transport.write``.  PipeError for a lane that this end does not write."""
        self._check_open()
        if lane not in self._unsent:
            raise PipeError(f"{lane} is not written at this end")
        self._unsent[lane] += data
        self.flush()

    def flush(self) -> None:
        """As ``Transport.flush``."""
        self._check_open()
        try:
            while self._next_piece():
                del self._piece[: self._socket.send(self._piece)]
        except BlockingIOError:
            return
        except ConnectionError as error:
            raise ConnectionEnded(str(error)) from None

    def _next_piece(self) -> bool:
        """Make sure there is a piece to send, control first; False when nothing is queued."""
        if self._piece:
            return True
        for lane, unsent in self._unsent.items():
            if unsent:
                size = min(len(unsent), _PIECE_BYTES)
                self._piece += _PIECE.pack(_LANES.index(lane), size) + unsent[:size]
                del unsent[:size]
                return True
        return False

    def open_results(self) -> None:
        """Nothing to do: both directions are open from the start."""

    @property
    def wants_write(self) -> bool:
        """Whether something is queued."""
        return bool(self._piece) or any(self._unsent.values())

    @property
    def backlog_bytes(self) -> int:
        """Number of queued bytes."""
        return len(self._piece) + sum(map(len, self._unsent.values()))

    def read_fds(self) -> tuple[int, ...]:
        """The descriptor to watch for reading."""
        return self.fds()

    def write_fds(self) -> tuple[int, ...]:
        """The descriptor to watch for writing, while something is queued."""
        return self.fds() if self.wants_write else ()

    def fds(self) -> tuple[int, ...]:
        """The socket's descriptor, while it is open."""
        fd = self._socket.fileno()
        return () if fd < 0 else (fd,)

    def close(self) -> None:
        """Close the socket; a second call is harmless."""
        self._socket.close()
        self._piece.clear()
        for unsent in self._unsent.values():
            unsent.clear()

    def _check_open(self) -> None:
        if self._socket.fileno() < 0:
            raise ConnectionEnded("the socket was closed at this end")


def _check_peer(sock: socket.socket) -> None:
    uid = peer_credentials(sock).uid
    if uid != os.geteuid():
        sock.close()
        raise PipeError(f"the process at the other end belongs to another user (uid {uid})")
