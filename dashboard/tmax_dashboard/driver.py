r"""A Textual driver that does not poll.

Textual's own driver polls for input ten times a second.  This one sleeps in ``select`` until a key or the end of the
app wakes it.  Only after input it wakes once more: a lone ESC differs from the start of a sequence only by a pause.

::

    keyboard ---------\
    exit (eventfd) ----+--> select --> parser --> events
"""

from __future__ import annotations

import os
import selectors
import threading
from codecs import getincrementaldecoder

from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver

_SETTLE_S = 0.1


class _WakingEvent(threading.Event):
    """An event that a selector can wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def set(self) -> None:
        super().set()
        os.eventfd_write(self.fd, 1)

    def clear(self) -> None:
        super().clear()
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass  # it was not set


class QuietDriver(LinuxDriver):
    """Textual's driver for Linux, but the thread that reads keys wakes for keys only."""

    exit_event: _WakingEvent

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through as Textual gave it
        self.exit_event = _WakingEvent()

    def run_input_thread(self) -> None:
        """Wait for input and post events until ``exit_event``; the end of input stops the reading."""
        parser = XTermParser(self._debug)
        decode = getincrementaldecoder("utf-8")("replace").decode
        with selectors.DefaultSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            selector.register(self.exit_event.fd, selectors.EVENT_READ)
            settle_s: float | None = _SETTLE_S
            while not self.exit_event.is_set():
                ready = selector.select(settle_s)
                settle_s = _SETTLE_S if ready else None
                if any(key.fd == self.fileno for key, _ in ready):
                    data = os.read(self.fileno, 4096)
                    if not data:
                        selector.unregister(self.fileno)  # hung up: readable for ever
                    for event in parser.feed(decode(data)) if data else ():
                        self.process_message(event)
                for event in parser.tick():
                    self.process_message(event)
