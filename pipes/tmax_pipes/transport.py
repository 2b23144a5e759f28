"""The seam between what is said and what carries it.

Three lanes.  To a worker: ``tasks`` (what to run; may be full) and ``control`` (what must arrive although ``tasks``
is full).  From it: ``results``.  A lane delivers its bytes in order, whole or cut off at an end, never with a hole.

**Between lanes there is no order.**  A ``Recall`` may be read before the ``Run`` it takes back, while that Run still
waits in front of a full pipe.  So: the controller says ``Who`` first and sends a Run only after ``Hello``; a worker
remembers a Recall (or Stop) of a task it does not know yet.  Carriers read ``control`` first and hand out ``tasks``
first, so that a Run that was in the pipe when its Recall was read is delivered before it: the swap stays rare.

An owner's loop::

    readable(any of read_fds())  -> read() until the next wake; ConnectionEnded: forget the fds, close(), begin anew
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
        """Send ``data``, or queue what does not fit (``wants_write`` then says so).

        Raises ConnectionEnded when the other end is gone.  What it wrote before can still be read:
        go on with ``read`` until that raises too.
        """

    def flush(self) -> None:
        """Send what is queued, as far as it fits; raises as ``write`` does."""

    @property
    def wants_write(self) -> bool:
        """Whether something is queued."""

    @property
    def backlog_bytes(self) -> int:
        """How much is queued."""

    def open_results(self) -> None:
        """Worker: ``Who`` was read, so the way back can be opened; a controller has nothing to do here.

        May be called again.  Raises ConnectionEnded when the controller has gone in between.
        """

    def read_fds(self) -> tuple[int, ...]:
        """Return the descriptors to watch for reading."""

    def write_fds(self) -> tuple[int, ...]:
        """Return the descriptors to watch for writing: only those of lanes with something queued, so that none spins."""

    def fds(self) -> tuple[int, ...]:
        """Return every open descriptor: a forked child must close them, or the connection outlives its owner."""

    def close(self) -> None:
        """Close the descriptors, queued bytes are lost; twice is harmless.  In a forked child it is all that is to be done."""
