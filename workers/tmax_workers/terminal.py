r"""The pane's terminal: its modes, its size, its keyboard, and the confirmation of Ctrl-C.

::

    ISIG on: Ctrl-C reaches the IO thread as SIGINT even while the main thread computes
    IXON off, VQUIT and VSUSP off: Ctrl-S, Ctrl-\ and Ctrl-Z are ordinary keys
    a shell job with a pseudo-terminal runs: ICANON and ECHO off, keys go to the job     afterwards: restored

It is opened a second time by its path: O_NONBLOCK belongs to the open file and would otherwise affect every process
that shares descriptor 0.  Without a terminal (tests, CI) every method does nothing.
"""

from __future__ import annotations

import os
import struct
import termios
from fcntl import ioctl

CONFIRM_S = 3.0
"""A second Ctrl-C within this time cancels."""

_LFLAG, _IFLAG, _CC = 3, 0, 6
_OFF = b"\x00"
_DEFAULT_SIZE = (24, 80)


class CancelConfirmation:
    """Ctrl-C needs a second press: one wrong key must not end hours of work."""

    def __init__(self) -> None:
        self._task = 0
        self._until = 0.0

    def press(self, task: int, now: float) -> bool:
        """Return whether this press cancels ``task``; the first press only starts the confirmation period."""
        meant = bool(task) and task == self._task and now <= self._until
        self._task, self._until = (0, 0.0) if meant else (task, now + CONFIRM_S)
        return meant


class Terminal:
    """The terminal on descriptor 0, or none."""

    def __init__(self) -> None:
        self.fd = self.out = -1
        self._base: list[object] | None = None
        self._keys = False
        try:
            self.fd = self.out = os.open(os.ttyname(0), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._base = _worker_modes(termios.tcgetattr(self.fd))
        except (OSError, termios.error):
            self.out = _open_output()
        self.settle()

    @property
    def is_tty(self) -> bool:
        """Whether there is a terminal."""
        return self.fd >= 0

    def settle(self) -> None:
        """Restore the worker's terminal modes, whatever a task did to them."""
        self._keys = False
        self._set(self._base)

    def pass_keys(self) -> None:
        """Pass on each key as it is pressed; discard what was typed before."""
        if self._base is None:
            return
        modes = _copy(self._base)
        flags = modes[_LFLAG]
        assert isinstance(flags, int)
        modes[_LFLAG] = flags & ~(termios.ICANON | termios.ECHO)
        self._keys = True
        self._set(modes, forget=True)

    @property
    def passes_keys(self) -> bool:
        """Whether keys are passed on."""
        return self._keys

    def read(self) -> bytes:
        """Return what was typed; empty when nothing was, or when the terminal is gone."""
        try:
            return os.read(self.fd, 4096)
        except OSError:
            return b""  # no input, or a closed pane, which the next write detects

    def size(self) -> tuple[int, int]:
        """Return (rows, columns); 24 x 80 without a terminal."""
        if self.fd < 0:
            return _DEFAULT_SIZE
        try:
            rows, columns, _, _ = struct.unpack("HHHH", ioctl(self.fd, termios.TIOCGWINSZ, b"\0" * 8))
        except OSError:
            return _DEFAULT_SIZE
        return (rows, columns) if rows and columns else _DEFAULT_SIZE

    def _set(self, modes: list[object] | None, *, forget: bool = False) -> None:
        if modes is None:
            return
        try:
            if forget:
                termios.tcflush(self.fd, termios.TCIFLUSH)
            termios.tcsetattr(self.fd, termios.TCSANOW, modes)  # type: ignore[arg-type]  # as tcgetattr gave it
        except termios.error:
            pass  # the pane was closed, which the next write detects


def _worker_modes(modes: list[object]) -> list[object]:
    modes = _copy(modes)
    iflag, lflag, keys = modes[_IFLAG], modes[_LFLAG], modes[_CC]
    assert isinstance(iflag, int)
    assert isinstance(lflag, int)
    assert isinstance(keys, list)
    modes[_IFLAG] = iflag & ~termios.IXON
    modes[_LFLAG] = lflag | termios.ISIG | termios.ICANON | termios.ECHO
    keys[termios.VQUIT] = keys[termios.VSUSP] = _OFF
    return modes


def _copy(modes: list[object]) -> list[object]:
    keys = modes[_CC]
    assert isinstance(keys, list)
    return [*modes[:_CC], list(keys)]


def _open_output() -> int:
    """Open descriptor 1 again, as the pane's output when there is no terminal; -1 when it cannot be written."""
    try:
        return os.open("/proc/self/fd/1", os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return -1
