r"""A blocking client of the control socket's JSON verbs: for the CLI's slow path, the Python API and the dashboard.

::

    connect --> {"verb": ...}\n --> {"ok": true, ...}\n        request
                                --> {"ok": true, "more": true, ...}\n ... {"ok": true, ...}\n        stream

Imports only the standard library, so that it loads quickly.  A client is used by one thread.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any, Self

from tmax.control.dial import dial
from tmax.errors import NoSwarm, TmaxError, WaitTimedOut, from_wire
from tmax.layout import Layout
from tmax_pipes.peer_credentials import peer_credentials

__all__ = ["Client", "Layout", "connect", "open_socket"]

_READ_BYTES = 64 * 1024


def open_socket(layout: Layout, timeout_s: float = 5.0) -> socket.socket:
    """Return a connected, blocking socket to the swarm's controller.

    Raises NoSwarm when no controller listens, FolderError when other users may use the socket, WaitTimedOut when the
    connection is not accepted in ``timeout_s`` (the queue of connections is full).
    """
    return socket.socket(fileno=dial(layout, timeout_s).detach())


def connect(layout: Layout, timeout_s: float = 5.0) -> Client:
    """Return a client of the swarm's controller; raises as ``open_socket`` does."""
    return Client(open_socket(layout, timeout_s), layout.swarm)


class Client:
    """One connection; owns its socket.  ``answer_s``: the longest wait for the next line of a reply (None: no limit)."""

    def __init__(self, sock: socket.socket, swarm: str) -> None:
        self.swarm = swarm
        self.answer_s: float | None = None
        self._sock = sock
        self._inbox = bytearray()

    def request(self, verb: str, /, **fields: object) -> dict[str, object]:
        """Send a request and return the fields of the reply.

        Raises the error that the controller replied with, NoSwarm when the controller ended, WaitTimedOut after ``answer_s``.
        """
        *_, answer = self.stream(verb, **fields)
        return answer

    def stream(self, verb: str, /, **fields: object) -> Iterator[dict[str, object]]:
        """Send a request and yield each line of the reply: those with ``"more": True``, then the last one without it.

        Raises as ``request`` does.  A generator that is closed early closes the connection, as the rest of the reply is not read.
        """
        self._send(json.dumps({"verb": verb, **fields}).encode("ascii") + b"\n")
        ended = False
        try:
            while not ended:
                line = self._line()
                ended = not line.get("more")
                if "error" in line:
                    raise from_wire(line["error"])
                del line["ok"]
                yield line
        finally:
            if not ended:
                self.close()

    def _send(self, data: bytes) -> None:
        try:
            self._sock.settimeout(self.answer_s)
            self._sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the controller may have replied before it closed (to a line that is too long)
        except TimeoutError as error:
            raise self._silent() from error
        except OSError as error:
            raise NoSwarm(self.swarm, "is no longer connected") from error

    def _line(self) -> dict[str, Any]:
        scanned = 0
        while (end := self._inbox.find(b"\n", scanned)) < 0:
            scanned = len(self._inbox)
            self._inbox += self._more()
        line: dict[str, Any] = json.loads(self._inbox[:end])
        del self._inbox[: end + 1]
        return line

    def _more(self) -> bytes:
        try:
            data = self._sock.recv(_READ_BYTES)
        except TimeoutError as error:
            raise self._silent() from error
        except ConnectionResetError:
            data = b""
        except OSError as error:
            raise NoSwarm(self.swarm, "is no longer connected") from error
        if not data:
            raise NoSwarm(self.swarm, "ended before it answered")
        return data

    def _silent(self) -> TmaxError:
        return WaitTimedOut(
            f"swarm {self.swarm!r} did not answer in {self.answer_s:g} s", hint="its controller may be stopped or overloaded"
        )

    def fileno(self) -> int:
        """Return the descriptor, for ``select``; -1 once closed."""
        return self._sock.fileno()

    @property
    def controller_pid(self) -> int:
        """The process that listens at the other end, as the kernel knows it."""
        return peer_credentials(self._sock).pid

    def close(self) -> None:
        """End the connection; a second call has no effect."""
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
