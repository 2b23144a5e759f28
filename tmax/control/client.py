r"""A blocking client of the control socket, for people's verbs: the CLI's slow path, the Python API, the dashboard.

::

    connect --> {"verb": ...}\n --> {"ok": true, ...}\n        request
                                --> {"ok": true, "more": true, ...}\n ... {"ok": true, ...}\n        stream

The standard library only: it must load in a moment.  One client serves one thread.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
from collections.abc import Iterator
from typing import Any, Self

from tmax.errors import FolderError, NoSwarm, TmaxError, WaitTimedOut, from_wire
from tmax.layout import Layout

__all__ = ["Client", "Layout", "connect", "open_socket"]

_READ_BYTES = 64 * 1024
_CREDENTIALS = struct.Struct("iII")
_TIMEVAL = struct.Struct("ll")


def open_socket(layout: Layout, timeout_s: float = 5.0) -> socket.socket:
    """Return a connected, blocking socket to the swarm's controller.

    Raises NoSwarm when nobody listens, FolderError when the socket is not ours alone, WaitTimedOut when it is not
    answered in ``timeout_s`` (its queue of connections is full).
    """
    _check_ours(layout)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Not settimeout: on a full queue connect would then fail at once instead of waiting.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout_s))
        sock.connect(layout.control)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(0))
        uid = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[1]
        if uid != os.geteuid():
            raise FolderError(layout.control, f"is answered by another user (uid {uid})")
    except (FileNotFoundError, ConnectionRefusedError) as error:
        sock.close()
        raise NoSwarm(layout.swarm) from error
    except BlockingIOError as error:
        sock.close()
        raise WaitTimedOut(
            f"swarm {layout.swarm!r} did not answer in {timeout_s:g} s", hint="its controller may be stopped or overloaded"
        ) from error
    except BaseException:
        sock.close()
        raise
    return sock


def connect(layout: Layout, timeout_s: float = 5.0) -> Client:
    """Return a client of the swarm's controller; raises as ``open_socket`` does."""
    return Client(open_socket(layout, timeout_s), layout.swarm)


def _check_ours(layout: Layout) -> None:
    try:
        found = os.lstat(layout.control)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NoSwarm(layout.swarm) from error
    except OSError as error:
        raise FolderError(layout.control, f"cannot be reached: {error.strerror}") from error
    if not stat.S_ISSOCK(found.st_mode):
        raise FolderError(layout.control, "is not a socket")
    if found.st_uid != os.geteuid():
        raise FolderError(layout.control, f"belongs to another user (uid {found.st_uid})")
    if found.st_mode & 0o077:
        raise FolderError(layout.control, f"is open to others (mode {stat.S_IMODE(found.st_mode):04o})", hint=f"chmod 600 {layout.control}")


def _timeval(seconds: float) -> bytes:
    return _TIMEVAL.pack(int(seconds), int(seconds % 1 * 1e6))


class Client:
    """One connection; owns its socket.  ``answer_s``: the longest silence while an answer is awaited (None: no limit)."""

    def __init__(self, sock: socket.socket, swarm: str) -> None:
        self.swarm = swarm
        self.answer_s: float | None = None
        self._sock = sock
        self._inbox = bytearray()

    def request(self, verb: str, /, **fields: object) -> dict[str, object]:
        """Ask and return the answer's fields.

        Raises the error the controller answered with, NoSwarm when it ended instead, WaitTimedOut after ``answer_s``.
        """
        *_, answer = self.stream(verb, **fields)
        return answer

    def stream(self, verb: str, /, **fields: object) -> Iterator[dict[str, object]]:
        """Ask and yield each line of the answer: those with ``"more": True``, then the last one without it.

        Raises as ``request`` does.  Left before its end, the connection is closed: what still comes has no reader.
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
            pass  # it may have answered before it closed (a line too long): read on
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
        pid: int = _CREDENTIALS.unpack(self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]
        return pid

    def close(self) -> None:
        """End the connection; twice is harmless."""
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
