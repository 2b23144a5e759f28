"""What both threads share: the state machine, the wire to the controller, one lock.

::

    IO thread    arrived(messages) --+                                 +--> inbox --> main thread
                                     +--> state.handle --> perform ----+--> orders -> IO thread (shell jobs, cancel, exit)
    main thread  ended(outcome) -----+                                 +--> wire.say, one flush for the whole turn

The main thread handles the end of its own task and takes the next one in the same step, without a hop between
threads: ``Done`` of one task and ``Started`` of the next leave in one write, *before* the next one runs.  So the
controller always knows which task a worker died in.

The IO thread is woken when something changed for it: nothing is left to run, a task took long, bytes did not fit.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from os import EFD_CLOEXEC, EFD_NONBLOCK, eventfd, eventfd_read, eventfd_write
from queue import SimpleQueue
from time import monotonic
from typing import TypeAlias

from tmax_pipes.jobs import ShellJob
from tmax_pipes.messages import Done, Failed, Message, Run, Who
from tmax_pipes.pipe_errors import ConnectionEnded
from tmax_pipes.wire import Wire
from tmax_workers.state_machine import WorkerStateMachine
from tmax_workers.worker_events import Begin, Event, Instruction, JobEnded, Send, StaleFound, UsedUp

SHORT_S = 0.001
"""A task shorter than this does not wake the IO thread when another one follows at once."""

Note: TypeAlias = Run | Done | Failed | bytes
"""What the pane is told: a task begins, printed, ended."""
Work: TypeAlias = Run | Callable[[], None] | None
"""For the main thread: a task, a chore, or None: leave."""


class Coordinator:
    """See the module.  ``wake_fd`` becomes readable when the IO thread is wanted."""

    def __init__(self, state: WorkerStateMachine) -> None:
        self.state = state
        self.lock = threading.Lock()
        self.inbox: SimpleQueue[Work] = SimpleQueue()
        self.orders: deque[Instruction] = deque()
        self.notes: deque[Note] = deque()
        self.wire: Wire | None = None
        """The connection, once ``Who`` was read on it; None: what is said is dropped."""
        self.broken = False
        """The controller stopped reading: the IO thread is to make a new connection."""
        self.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        self._woken = False

    # -- both threads ------------------------------------------------------------------------------

    def handle(self, *events: Event) -> Run | None:
        """Take in what happened and carry it out; return a task if the calling thread is the main one and is to run it.

        Called with the lock held.
        """
        mine: Run | None = None
        for event in events:
            if self.state.is_gone:
                break  # what still came in with the last words is for the next worker
            for do in self.state.handle(event, monotonic()):
                if isinstance(do, Send):
                    self._send(do.message)
                    if isinstance(do.message, (Done, Failed)) and not isinstance(event, (Who, Run)):
                        self.notes.append(do.message)  # after Who and Run it is only said again
                elif isinstance(do, Begin) and not isinstance(do.run.job, ShellJob):
                    mine = do.run
                    self.notes.append(do.run)
                else:
                    self.orders.append(do)
        self.flush()
        return mine

    def wake(self) -> None:
        """Have the IO thread look at the shared state; cheap when it was woken already."""
        if not self._woken:
            self._woken = True
            eventfd_write(self.wake_fd, 1)

    # -- main thread -------------------------------------------------------------------------------

    def ended(self, outcome: Done | Failed, unshown: bytes, *, stale: bool = False, used_up: str = "") -> Run | None:
        """The main thread's task has ended; return its next one, if there is one at once.

        ``stale``: its code changed meanwhile.  ``used_up``: why this process must not run another task.
        """
        with self.lock:
            if stale:
                self.handle(StaleFound())
            if used_up:
                self.handle(UsedUp())
            if unshown:
                self.notes.append(unshown)
            following = self.handle(JobEnded(outcome))
            if used_up:
                self.notes.append(f"tmax: another worker takes over: {used_up}\n".encode("ascii", "backslashreplace"))
            if following is None or outcome.report.duration_s > SHORT_S or unshown or self.orders or self._is_behind():
                self.wake()
            return following

    # -- IO thread ---------------------------------------------------------------------------------

    def arrived(self, *events: Event) -> None:
        """The IO thread has something to take in."""
        with self.lock:
            following = self.handle(*events)
        if following is not None:
            self.inbox.put(following)

    def awake(self) -> None:
        """The IO thread is up: from now on ``wake`` wakes it again."""
        self._woken = False
        try:
            eventfd_read(self.wake_fd)
        except BlockingIOError:
            pass  # woken by something else

    def flush(self) -> None:
        """Write what was said; called with the lock held."""
        if self.wire is None:
            return
        try:
            self.wire.flush()
        except ConnectionEnded:
            self.wire, self.broken = None, True

    def send(self, message: Message) -> None:
        """Say something that the state need not know (a heartbeat)."""
        with self.lock:
            self._send(message)
            self.flush()

    def _send(self, message: Message) -> None:
        if self.wire is not None:
            self.wire.send(message)

    def _is_behind(self) -> bool:
        return self.broken or (self.wire is not None and self.wire.transport.wants_write)
