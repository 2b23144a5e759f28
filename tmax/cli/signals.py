"""TERM, HUP, INT and QUIT of ``run``: the first is a descriptor to poll, the second exits at once.

An exception could be raised between any two steps: between printing a piece and recording that it was printed, or after the task
was accepted and before its id is known.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


class Signals:
    """Handles the signals until ``close``.  ``fd``: readable after the first; ``number``: that signal (0: none).

    A signal that the parent process ignores stays ignored.
    """

    def __init__(self, on_first: Callable[[], object], on_second: Callable[[], object]) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.number = 0
        self._on_first, self._on_second = on_first, on_second
        self._before = {number: signal.getsignal(number) for number in _ENDING}
        for number, handler in self._before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    @property
    def exit_code(self) -> int:
        """The exit code that a shell reports of a program ended by this signal."""
        return 128 + self.number

    def _on_signal(self, number: int, frame: object) -> None:
        if self.number:
            self._on_second()
            os._exit(128 + number)
        self.number = number
        os.eventfd_write(self.fd, 1)
        self._on_first()

    def acknowledge(self) -> None:
        """Make ``fd`` unreadable again."""
        os.eventfd_read(self.fd)

    def close(self) -> None:
        """Restore the handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self.fd)
