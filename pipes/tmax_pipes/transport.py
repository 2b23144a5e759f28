"""The interface of a carrier: three lanes of bytes between a controller and a worker.

To a worker: ``tasks`` (may be full) and ``control`` (must arrive although ``tasks`` is full).  From it: ``results``.
A lane delivers its bytes in order; the end of a connection may cut them off, never leave a gap.

**Between lanes there is no order.**  A ``Recall`` may be read before the ``Run`` it takes back, while that Run still
waits for room in a full pipe.  So the controller sends ``Who`` first and a Run only after ``Hello``; a worker
remembers a Recall (or Stop) of a task it does not know yet.  Carriers read ``control`` first and return ``tasks``
first, so a Run that was in the pipe when its Recall was read is delivered before it, and the inversion stays rare.

An owner's loop::

    readable(any of read_fds())  -> read() until the next wake; ConnectionEnded: unregister the fds, close(), reconnect
    write(lane, bytes)           -> wants_write? wait for writable(write_fds()) -> flush()
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

from tmax_pipes.messages import Beat, Done, Failed, Go, Hello, Message, Recall, Recalled, Run, Started, Stop, Stored, Who

Lane: TypeAlias = Literal["tasks", "control", "results"]
Role: TypeAlias = Literal["controller", "worker"]

_LANES: dict[type[Message], Lane] = {
    Run: "tasks",
    **dict.fromkeys((Who, Go, Recall, Stored, Stop), "control"),
    **dict.fromkeys((Hello, Started, Recalled, Done, Failed, Beat), "results"),
}


def lane_of(message: Message) -> Lane:
    """Return the lane on which ``message`` travels."""
    return _LANES[type(message)]


class Transport(Protocol):
    """One end of one connection.  No method blocks.  After ``close`` every other method may raise ConnectionEnded."""

    def read(self) -> list[tuple[Lane, bytes]]:
        """Return what has arrived, at most one piece for each lane and call; an empty list: nothing now.

        Raises ConnectionEnded when the other end is gone and everything it had written was returned.
        A lane whose other end was never opened has not ended.
        """

    def write(self, lane: Lane, data: bytes) -> None:
        """Send ``data``, or queue what does not fit (``wants_write`` is then True).

        Raises ConnectionEnded when the other end is gone.  Its earlier bytes can still be read:
        call ``read`` until that raises too.
        """

    def flush(self) -> None:
        """Send queued bytes as far as they fit; raises as ``write`` does."""

    @property
    def wants_write(self) -> bool:
        """Whether something is queued."""

    @property
    def backlog_bytes(self) -> int:
        """Number of queued bytes."""

    def open_results(self) -> None:
        """Open ``results`` for writing, once the worker has read ``Who``; no effect at the controller's end.

        A second call is harmless.  Raises ConnectionEnded when the controller has ended meanwhile.
        """

    def read_fds(self) -> tuple[int, ...]:
        """Return the descriptors to watch for reading."""

    def write_fds(self) -> tuple[int, ...]:
        """Return the descriptors to watch for writing: only lanes with queued bytes, so that the loop does not spin."""

    def fds(self) -> tuple[int, ...]:
        """Return every open descriptor: a forked child must close them, or the connection outlives its owner."""

    def close(self) -> None:
        """Close the descriptors and drop queued bytes; a second call is harmless.  A forked child needs nothing more."""
