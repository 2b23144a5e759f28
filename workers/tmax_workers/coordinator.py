"""State shared by both threads: the state machine, the connection to the controller, one lock.

::

    IO thread    arrived(messages) --+                                 +--> inbox --> main thread
                                     +--> state.handle --> perform ----+--> orders -> IO thread (shell jobs, cancel, exit)
    main thread  ended(outcome) -----+                                 +--> wire.send, one flush for the whole turn

The main thread handles the end of its own task and takes the next one in the same step, without a switch between
threads: ``Done`` of one task and ``Started`` of the next leave in one write, *before* the next one runs.  So the
controller always knows which task a worker died in.

The IO thread is woken only when it has work: no task is left, a task took long, bytes did not fit.
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
"""For the pane: a task begins, output of a task, a task has ended."""
Work: TypeAlias = Run | Callable[[], None] | None
"""For the main thread: a task, a function to call, or None: leave."""


class Coordinator:
    """Connects the state machine to both threads.  ``wake_fd`` becomes readable when the IO thread has work."""

    def __init__(self, state: WorkerStateMachine) -> None:
        self.state = state
        self.lock = threading.Lock()
        self.inbox: SimpleQueue[Work] = SimpleQueue()
        self.orders: deque[Instruction] = deque()
        self.notes: deque[Note] = deque()
        self.wire: Wire | None = None
        """The connection, once ``Who`` was read on it; None: messages are dropped."""
        self.broken = False
        """The controller has stopped reading: the IO thread makes a new connection."""
        self.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        self._woken = False

    # -- both threads ------------------------------------------------------------------------------

    def handle(self, *events: Event) -> Run | None:
        """Pass events to the state machine and carry out its instructions; return the task that the main thread runs next, if any.

        Called with the lock held.
        """
        mine: Run | None = None
        for event in events:
            if self.state.is_gone:
                break  # later events are for the next worker
            for instruction in self.state.handle(event, monotonic()):
                if isinstance(instruction, Send):
                    self._send(instruction.message)
                    if isinstance(instruction.message, (Done, Failed)) and not isinstance(event, (Who, Run)):
                        self.notes.append(instruction.message)  # after Who and Run it is only sent again
                elif isinstance(instruction, Begin) and not isinstance(instruction.run.job, ShellJob):
                    mine = instruction.run
                    self.notes.append(instruction.run)
                else:
                    self.orders.append(instruction)
        self.flush()
        return mine

    def wake(self) -> None:
        """Wake the IO thread; cheap when it was woken already."""
        if not self._woken:
            self._woken = True
            eventfd_write(self.wake_fd, 1)

    # -- main thread -------------------------------------------------------------------------------

    def ended(self, outcome: Done | Failed, unshown: bytes, *, stale: bool = False, used_up: str = "") -> Run | None:
        """The main thread's task has ended; return the next one, if there is one already.

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
        """Handle events on the IO thread; a task for the main thread goes to its inbox."""
        with self.lock:
            following = self.handle(*events)
        if following is not None:
            self.inbox.put(following)

    def awake(self) -> None:
        """The IO thread is awake: from now on ``wake`` signals it again."""
        self._woken = False
        try:
            eventfd_read(self.wake_fd)
        except BlockingIOError:
            pass  # another event woke it

    def flush(self) -> None:
        """Write the queued messages; called with the lock held."""
        if self.wire is None:
            return
        try:
            self.wire.flush()
        except ConnectionEnded:
            self.wire, self.broken = None, True

    def send(self, message: Message) -> None:
        """Send a message that the state machine does not track (a heartbeat)."""
        with self.lock:
            self._send(message)
            self.flush()

    def _send(self, message: Message) -> None:
        if self.wire is not None:
            self.wire.send(message)

    def _is_behind(self) -> bool:
        return self.broken or (self.wire is not None and self.wire.transport.wants_write)
