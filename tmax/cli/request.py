r"""Requests of a command to the controller, without importing ``socket`` and ``json`` (together 13 ms, more than a bare interpreter).

    dial --> {"verb": ...}\n --> {"ok": true, ...}\n        one reply
                             --> {... "more": true}\n ...   a stream of replies

``tmax.control.client`` does the same for programs that keep a connection.
"""

from __future__ import annotations

import _socket

from tmax.cli.codec import decode, encode
from tmax.control.dial import dial, timeval
from tmax.errors import NoSwarm, WaitTimedOut, from_wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar

    from tmax.layout import Layout

    T = TypeVar("T")

READING_VERBS = ("hello", "status", "workers", "ps")
READ_TIMEOUT_S = 5.0
"""Longest wait for a reply to a verb that only reads: a working controller sends it within milliseconds."""
REPLY_TIMEOUT_S = 30.0
"""Longest wait for a reply to any other verb that does not wait for an event."""
NO_TIMEOUT = 0.0
"""As a time-out for replies: wait without limit."""
WAITING_VERBS = ("wait", "ready", "down")
"""Verbs whose reply comes when something has happened in the swarm; only the user limits that."""
STORE_TIMEOUT_S = 10.0
"""Longest wait for the lock on the store of a swarm that is down."""
_READ_BYTES = 64 * 1024
_DIAL_TRIES = 5
"""Connection attempts while the socket is being removed and made again."""


class ControllerEnded(NoSwarm):
    """The controller ended before it replied; it may have carried out the request."""

    def __init__(self, swarm: str) -> None:
        super().__init__(swarm, "lost its controller before the reply")


class ControlLine:
    """One connection to a swarm's controller; ``timeout_s``: the longest wait for a line (NO_TIMEOUT: no limit)."""

    __slots__ = ("_inbox", "_sock", "_timeout_s", "swarm")

    def __init__(self, layout: Layout, timeout_s: float = REPLY_TIMEOUT_S) -> None:
        """Connect.  Raises NoSwarm when no controller listens, FolderError when other users could reach the socket."""
        self.swarm = layout.swarm
        self._timeout_s = timeout_s
        self._inbox = bytearray()
        self._sock = _connected(layout)
        self._set_timeouts(timeout_s)

    def _set_timeouts(self, timeout_s: float) -> None:
        for option in (_socket.SO_SNDTIMEO, _socket.SO_RCVTIMEO):
            self._sock.setsockopt(_socket.SOL_SOCKET, option, timeval(timeout_s))

    def send(self, verb: str, fields: dict[str, Any]) -> None:
        """Send one request.  Raises WaitTimedOut when the controller does not read it in time."""
        data = encode({"verb": verb, **fields}).encode("ascii") + b"\n"
        try:
            self._sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the controller may have replied before it closed (a line too long): ``receive`` returns why
        except BlockingIOError as error:
            raise self._timed_out() from error

    def receive(self) -> dict[str, Any]:
        """Return the next line of the reply.  Raises the error it holds, ControllerEnded at its end, WaitTimedOut after ``timeout_s``."""
        searched_bytes = 0
        while (end := self._inbox.find(b"\n", searched_bytes)) < 0:
            searched_bytes = len(self._inbox)
            self.fill()
        line: dict[str, Any] = decode(self._inbox[:end].decode())
        del self._inbox[: end + 1]
        if "error" in line:
            raise from_wire(line["error"])
        return line

    def fill(self) -> None:
        """Read what has arrived, waiting for the first byte.  Raises ControllerEnded at end of file, WaitTimedOut."""
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError as error:
            raise self._timed_out() from error
        except ConnectionResetError:
            data = b""
        if not data:
            raise ControllerEnded(self.swarm)
        self._inbox += data

    def _timed_out(self) -> WaitTimedOut:
        return WaitTimedOut(
            f"the controller of swarm {self.swarm!r} did not reply within {self._timeout_s:g} s",
            hint="it may be stopped or overloaded: tmax doctor",
        )

    def fileno(self) -> int:
        """Return the descriptor, for ``poll``."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        self._sock.close()


def _connected(layout: Layout) -> _socket.socket:
    for _ in range(_DIAL_TRIES):
        try:
            return dial(layout, REPLY_TIMEOUT_S)
        except NoSwarm:
            if not _is_repaired(layout):
                raise
    return dial(layout, REPLY_TIMEOUT_S)


def _is_repaired(layout: Layout) -> bool:
    """Return True when a controller runs whose runtime folder was removed, once it has made the folder again."""
    from tmax.storage.lock import holder

    if holder(layout.lock) is None:
        return False
    from tmax.launch import heals

    return heals(layout)


def timeout_of(verb: str) -> float:
    """Return the longest wait for a reply to a verb, in seconds; NO_TIMEOUT for one that waits."""
    if verb in WAITING_VERBS:
        return NO_TIMEOUT
    return READ_TIMEOUT_S if verb in READING_VERBS else REPLY_TIMEOUT_S


def request(layout: Layout, verb: str, reply_timeout_s: float | None = None, **fields: Any) -> dict[str, Any]:
    """Send one request on a connection of its own and return the reply.  Raises as ``ControlLine`` does.

    ``reply_timeout_s``: None for the verb's own (``timeout_of``), NO_TIMEOUT for none.
    """
    line = ControlLine(layout, timeout_of(verb) if reply_timeout_s is None else reply_timeout_s)
    try:
        line.send(verb, fields)
        return line.receive()
    finally:
        line.close()


def request_or_read(send: Callable[[], T], read_store: Callable[[NoSwarm], T]) -> T:
    """Return what ``send`` gets from the controller, or, when none runs, what ``read_store`` reads.

    Waits while another process reads the store, and sends again, in case a controller has started.  Raises LockHeld when the
    store stays locked for STORE_TIMEOUT_S.
    """
    end_s = 0.0
    while True:
        try:
            return send()
        except NoSwarm as missing:
            from time import monotonic

            from tmax.storage.lock import LockHeld, pause

            end_s = end_s or monotonic() + STORE_TIMEOUT_S
            try:
                return read_store(missing)
            except LockHeld:
                if monotonic() >= end_s:
                    raise
            pause()


def request_stream(layout: Layout, verb: str, reply_timeout_s: float = NO_TIMEOUT, **fields: Any) -> Iterator[dict[str, Any]]:
    """Send one request and yield each line of the reply.  ``reply_timeout_s``: the longest wait for a line (NO_TIMEOUT: no limit)."""
    line = ControlLine(layout, reply_timeout_s)
    try:
        line.send(verb, fields)
        more = True
        while more:
            reply = line.receive()
            more = bool(reply.get("more"))
            yield reply
    finally:
        line.close()
