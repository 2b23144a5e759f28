"""Cancellation of a task that runs on the main thread of this process.

::

    IO thread: request(key), repeat(key)... --SIGUSR1--> main thread, between two bytecodes: is that task still in the user's code?
                                                       yes -> TaskCancelled is raised there (it also ends time.sleep)
                                                       no  -> nothing

Code that swallows the exception, or stays in C, is killed with the process when its grace has passed.

The signal is repeated because the interpreter only records a signal and acts between two bytecodes.  A signal that arrives just
before a blocking call is recorded, but the call blocks all the same; the next signal interrupts it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType

from tmax_pipes.messages import Key


class TaskCancelled(BaseException):
    """Raised inside a task that was cancelled or ran into its time limit.

    A BaseException, so that ``except Exception`` in a task does not keep it alive by mistake.
    """


class InterruptGate:
    """Raises ``TaskCancelled`` inside the user's code of one task, at most once, and nowhere else.

    Made on the main thread; ``open`` and ``close`` are called there, ``request`` and ``repeat`` on the IO thread.
    """

    def __init__(self) -> None:
        self._main = threading.main_thread().ident or 0
        self._inside: Key | None = None
        self._wanted: Key | None = None
        self.reached = False
        """Whether the current task, or the last one, was interrupted."""

    def open(self, key: Key) -> None:
        """The user's code of this task begins.  Raises TaskCancelled when its cancellation was requested before."""
        self.reached = False
        self._inside = key
        if self._wanted is not None:
            self._raise_if_inside()

    def suspended(self, work: Callable[[], object]) -> None:
        """Do work of the worker's own in the middle of the user's code: a cancellation waits until it is done.  Raises TaskCancelled then."""
        key, self._inside = self._inside, None
        try:
            work()
        finally:
            self._inside = key
        if self._wanted is not None:
            self._raise_if_inside()

    def close(self) -> None:
        """The user's code has ended."""
        self._inside = None

    def request(self, key: Key) -> None:
        """Interrupt this task now, or as soon as its code begins."""
        self._wanted = key
        signal.pthread_kill(self._main, signal.SIGUSR1)

    def repeat(self, key: Key) -> bool:
        """Signal once more if the cancellation of this task is pending; return whether it is."""
        is_pending = self._wanted == key
        if is_pending:
            signal.pthread_kill(self._main, signal.SIGUSR1)
        return is_pending

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Handle SIGUSR1 on the main thread."""
        self._raise_if_inside()

    def _raise_if_inside(self) -> None:
        if self._inside is not None and self._inside == self._wanted:
            self._inside = self._wanted = None
            self.reached = True
            raise TaskCancelled
