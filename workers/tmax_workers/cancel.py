"""Ending a task that runs on the main thread of this process.

::

    IO thread: ask(key), again(key)... --SIGUSR1--> main thread, between two bytecodes: is that task still in the user's code?
                                                       yes -> TaskCancelled is raised there (it also ends time.sleep)
                                                       no  -> nothing

Code that swallows it, or stays in C, is ended with the process when its grace is over.

Why again: the interpreter only notes a signal and acts on it between two bytecodes.  One that comes in the instant before
a blocking call is noted, and the call blocks all the same; the next signal interrupts it.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

from tmax_pipes.messages import Key


class TaskCancelled(BaseException):
    """Raised inside a task that was cancelled or ran into its time limit.

    A BaseException, so that ``except Exception`` in a task does not keep it alive by mistake.
    """


class InterruptGate:
    """Lets ``TaskCancelled`` into the user's code of one task, at most once, and nowhere else.

    Made on the main thread; ``open`` and ``close`` are called there, ``request`` on the IO thread.
    """

    def __init__(self) -> None:
        self._main = threading.main_thread().ident or 0
        self._inside: Key | None = None
        self._wanted: Key | None = None
        self.reached = False
        """Whether the task now inside, or the last one, was interrupted."""

    def open(self, key: Key) -> None:
        """The user's code of this task begins.  Raises TaskCancelled when it was asked for before."""
        self.reached = False
        self._inside = key
        if self._wanted is not None:
            self._raise_if_inside()

    def close(self) -> None:
        """The user's code has ended."""
        self._inside = None

    def request(self, key: Key) -> None:
        """Interrupt this task, if it is inside, or as soon as it is."""
        self._wanted = key
        signal.pthread_kill(self._main, signal.SIGUSR1)

    def repeat(self, key: Key) -> bool:
        """Signal once more if this task was asked to end and has not been reached; return whether it was so."""
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
