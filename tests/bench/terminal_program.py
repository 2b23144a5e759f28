"""A program in a pseudo-terminal of its own: what it draws, and how soon."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import termios
import threading
import time
from collections.abc import Mapping, Sequence

ALTERNATE_SCREEN = b"\x1b[?1049h"


class TerminalProgram:
    """Runs until ``close``; a thread reads what it draws, so that it is never blocked."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], *, columns: int = 160, lines: int = 50) -> None:
        self._begun = time.perf_counter()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                os.execvpe(command[0], list(command), dict(env))
            finally:
                os._exit(127)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._drawn = bytearray()
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._fd, 65536)
            except OSError:
                data = b""
            with self._changed:
                self._drawn += data
                self._changed.notify_all()
            if not data:
                return

    def seconds_until(self, mark: bytes, timeout_s: float = 60.0) -> float:
        """Return the seconds from its start until it has drawn ``mark`` on the alternate screen.  Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: mark in self._drawn.partition(ALTERNATE_SCREEN)[2], timeout_s):
                raise TimeoutError(f"{mark!r} was not drawn: {bytes(self._drawn[-500:])!r}")
        return time.perf_counter() - self._begun

    def close(self) -> None:
        """End it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._reader.join(5)
        os.close(self._fd)
