"""The connection to one zygote: orders out, reports in.

::

    start(listener) --> process     connect(path) --> ZygoteLink --Greet--> Ready, Forked, Ended ... --> on_message(link, message)
                                                      end-of-file                                    --> on_lost(link)
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from tmax.engines import process_table
from tmax.engines.life_mark import without_marks
from tmax.layout import Layout
from tmax.reactor import Reactor
from tmax_pipes.proc_stat import start_ticks
from tmax_workers.proctitle import LIFE_VARIABLE, PLACEHOLDER
from tmax_workers.threads import env_for
from tmax_workers.zygote_wire import End, FromZygote, RequestStatus, ToZygote, ZygoteReady, from_zygote, line_of

_READ_BYTES = 256 * 1024
_FD = 3


def start(
    layout: Layout, listener: socket.socket, *, python: str, preload: Sequence[str], orphan_ttl_s: float, env: Mapping[str, str]
) -> int:
    """Start a zygote that serves ``listener``; return its pid, which is ours to wait for.  OSError when that is impossible."""
    argv = [
        python,
        "-P",
        "-m",
        "tmax_workers.zygote",
        "--fd",
        str(_FD),
        "--socket",
        layout.zygote,
        "--swarm",
        layout.swarm,
        "--state",
        layout.state,
    ]
    argv += ["--orphan-ttl-s", f"{orphan_ttl_s:g}", *(["--preload", ",".join(preload)] if preload else [])]
    log = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    actions = [
        # First: the others may be given its number.
        (os.POSIX_SPAWN_DUP2, listener.fileno(), _FD),
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, layout.log, log, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    given = {**without_marks(env), **env_for(1), LIFE_VARIABLE.decode(): PLACEHOLDER}
    return os.posix_spawn(python, argv, given, file_actions=actions, setsid=True)


class ZygoteLink:
    """One connection; all callbacks come on the reactor's thread."""

    def __init__(
        self,
        reactor: Reactor,
        path: str,
        *,
        on_message: Callable[[ZygoteLink, FromZygote], None],
        on_lost: Callable[[ZygoteLink], None],
    ) -> None:
        """Connect and send ``RequestStatus``.  OSError when no process listens."""
        self._reactor = reactor
        self._on_message = on_message
        self._on_lost = on_lost
        self._unsent = bytearray()
        self._rest = b""
        self.ready: ZygoteReady | None = None
        """What it reported of itself; None: it still imports."""
        self.pid = 0
        """Of the zygote; 0: not known yet."""
        self._ticks = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        reactor.on_readable(self._socket.fileno(), self._on_readable)
        self.send(RequestStatus())

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._socket.fileno() >= 0

    def send(self, message: ToZygote) -> None:
        """Send an order, now or when there is room; to a zygote that has ended it is dropped."""
        if self.is_open:
            self._unsent += line_of(message)
            self._write()

    def _write(self) -> None:
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()  # it has ended, which is read next
        self._reactor.on_writable(self._socket.fileno(), self._write if self._unsent else None)

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._receive(line)
        if not data and self.is_open:
            self.close()
            self._on_lost(self)

    def _receive(self, line: bytes) -> None:
        try:
            message = from_zygote(line)
        except msgspec.DecodeError:
            return  # of another version; it is replaced as soon as it has reported which, or has not answered
        if isinstance(message, ZygoteReady):
            self.ready = message
            self.pid, self._ticks = message.pid, start_ticks(message.pid)
        self._on_message(self, message)

    def wait_ready(self, timeout_s: float) -> ZygoteReady | None:
        """Wait for ``Ready``: only while nothing else has begun.  None when it does not come in time, or never will."""
        end = time.monotonic() + timeout_s
        while self.ready is None and self.is_open and (left_s := end - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left_s)[0]:
                self._on_readable()
        return self.ready

    def end(self, timeout_s: float) -> None:
        """End the zygote, and wait until it has ended; by force after ``timeout_s``.  Its children live on."""
        self.send(End())
        fd = process_table.open_pidfd(self.pid, self._ticks)
        self.close()
        if fd >= 0:
            if not process_table.has_ended(fd, timeout_s):
                process_table.kill(fd)
                process_table.has_ended(fd, 1.0)
            os.close(fd)

    def close(self) -> None:
        """Close the connection; twice is harmless."""
        if self.is_open:
            self._reactor.forget(self._socket.fileno())
            self._socket.close()
