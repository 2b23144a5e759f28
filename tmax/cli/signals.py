"""TERM, HUP, INT and QUIT of ``run``: the first one is something to poll for, the second one leaves at once.

An exception would come between any two steps: between printing a piece and noting that it was printed, or after a task
was accepted and before its number is known.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


class Signals:
    """``fd`` is readable once a signal has come, ``number`` says which (0: none).  What whoever started us ignores stays ignored."""

    def __init__(self, on_first: Callable[[], object], on_second: Callable[[], object]) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.number = 0
        self._on_first, self._on_second = on_first, on_second
        self._before = {number: signal.getsignal(number) for number in _ENDING}
        for number, handler in self._before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._came)

    @property
    def exit_code(self) -> int:
        """What a shell reports of a program that this signal ended."""
        return 128 + self.number

    def _came(self, number: int, frame: object) -> None:
        if self.number:
            self._on_second()
            os._exit(128 + number)
        self.number = number
        os.eventfd_write(self.fd, 1)
        self._on_first()

    def take(self) -> None:
        """It is being answered."""
        os.eventfd_read(self.fd)

    def close(self) -> None:
        """Put the handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self.fd)
