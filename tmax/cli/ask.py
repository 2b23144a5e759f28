r"""The control socket from the side of a command, without ``socket`` and ``json`` (together 13 ms, more than a bare interpreter).

    dial --> {"verb": ...}\n --> {"ok": true, ...}\n        one answer
                             --> {... "more": true}\n ...   a stream

``tmax.control.client`` says the same for programs that live longer.
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

LOOKS = ("hello", "status", "workers", "ps")
LOOK_S = 5.0
"""Longest wait for an answer to somebody who only looks: a controller that is alive gives it within milliseconds."""
SILENCE_S = 30.0
"""How long a controller may take to answer what it can answer at once."""
NO_LIMIT = 0.0
"""As a limit of silence: wait for as long as it takes."""
WAITS = ("wait", "ready", "down")
"""Verbs whose answer comes when something has happened in the swarm; how long that takes is the user's affair."""
READ_S = 10.0
"""So long a verb waits until it may read the store of a swarm that is down."""
_READ_BYTES = 64 * 1024
_REMOVED_TRIES = 5
"""The socket may be removed as often while a connection is made."""


class Lost(NoSwarm):
    """The controller ended before it answered; what was asked may have been done."""

    def __init__(self, swarm: str) -> None:
        super().__init__(swarm, "ended before it answered")


class ControlLine:
    """One connection to a swarm's controller; ``silence_s``: the longest wait for a line (NO_LIMIT: none)."""

    __slots__ = ("_inbox", "_silence_s", "_sock", "swarm")

    def __init__(self, layout: Layout, silence_s: float = SILENCE_S) -> None:
        """Connect.  Raises NoSwarm when nobody listens, FolderError when the socket is not ours alone."""
        self.swarm = layout.swarm
        self._silence_s = silence_s
        self._inbox = bytearray()
        self._sock = _dialled(layout)
        self._limit(silence_s)

    def _limit(self, silence_s: float) -> None:
        for option in (_socket.SO_SNDTIMEO, _socket.SO_RCVTIMEO):
            self._sock.setsockopt(_socket.SOL_SOCKET, option, timeval(silence_s))

    def send(self, verb: str, fields: dict[str, Any]) -> None:
        """Send one request."""
        data = encode({"verb": verb, **fields}).encode("ascii") + b"\n"
        try:
            self._sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it may have answered before it closed (a line too long): the answer says why
        except BlockingIOError as error:
            raise self._silent() from error

    def receive(self) -> dict[str, Any]:
        """Return the next line of the answer.  Raises the error it holds, Lost at its end, WaitTimedOut after ``silence_s``."""
        looked_bytes = 0
        while (end := self._inbox.find(b"\n", looked_bytes)) < 0:
            looked_bytes = len(self._inbox)
            self.fill()
        line: dict[str, Any] = decode(self._inbox[:end].decode())
        del self._inbox[: end + 1]
        if "error" in line:
            raise from_wire(line["error"])
        return line

    def fill(self) -> None:
        """Read what is there, waiting for something."""
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError as error:
            raise self._silent() from error
        except ConnectionResetError:
            data = b""
        if not data:
            raise Lost(self.swarm)
        self._inbox += data

    def _silent(self) -> WaitTimedOut:
        return WaitTimedOut(
            f"swarm {self.swarm!r} did not answer in {self._silence_s:g} s",
            hint="its controller may be stopped or overloaded: see tmax doctor",
        )

    def fileno(self) -> int:
        """Return the descriptor, for ``poll``."""
        return self._sock.fileno()

    def close(self) -> None:
        """End the connection; twice is harmless."""
        self._sock.close()


def _dialled(layout: Layout) -> _socket.socket:
    for _ in range(_REMOVED_TRIES):
        try:
            return dial(layout, SILENCE_S)
        except NoSwarm:
            if not _heals(layout):
                raise
    return dial(layout, SILENCE_S)


def _heals(layout: Layout) -> bool:
    """Return whether there is a controller after all, whose runtime folder was removed a moment ago; it makes it again."""
    from tmax.storage.lock import holder

    if holder(layout.lock) is None:
        return False
    from tmax.launch import heals

    return heals(layout)


def silence_of(verb: str) -> float:
    """Return how long a verb may stay unanswered; NO_LIMIT for one that waits."""
    if verb in WAITS:
        return NO_LIMIT
    return LOOK_S if verb in LOOKS else SILENCE_S


def ask(layout: Layout, verb: str, silence_s: float | None = None, **fields: Any) -> dict[str, Any]:
    """Ask one thing on a connection of its own and return the answer.  Raises as ``Line`` does.

    ``silence_s``: None is the verb's own (``silence_of``), NO_LIMIT none.
    """
    line = ControlLine(layout, silence_of(verb) if silence_s is None else silence_s)
    try:
        line.send(verb, fields)
        return line.receive()
    finally:
        line.close()


def ask_or_read(asked: Callable[[], T], read: Callable[[NoSwarm], T]) -> T:
    """Return what a controller answers, or, where none runs, what the store says.

    Others that read the store are waited for, and a controller that has come meanwhile is asked.  Raises LockHeld when whoever
    has the store keeps it for READ_S.
    """
    end_s = 0.0
    while True:
        try:
            return asked()
        except NoSwarm as missing:
            from time import monotonic

            from tmax.storage.lock import LockHeld, pause

            end_s = end_s or monotonic() + READ_S
            try:
                return read(missing)
            except LockHeld:
                if monotonic() >= end_s:
                    raise
            pause()


def stream(layout: Layout, verb: str, silence_s: float = NO_LIMIT, **fields: Any) -> Iterator[dict[str, Any]]:
    """Ask, and yield each line of the answer; the last one has no ``more``.  ``silence_s``: as in ``Line``."""
    line = ControlLine(layout, silence_s)
    try:
        line.send(verb, fields)
        more = True
        while more:
            answer = line.receive()
            more = bool(answer.get("more"))
            yield answer
    finally:
        line.close()
