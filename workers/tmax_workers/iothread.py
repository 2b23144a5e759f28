"""The IO thread: everything a worker does except computing.

::

    epoll --+-- FIFOs: messages -> coordinator.arrived            +-- wake: orders (shell job, cancel, kill, exit), notes for the pane
            +-- signals: Ctrl-C, size, TERM                +-- inotify: a task printed; a control socket was made
            +-- pane: writable; keys for a shell job  +-- pidfd, pseudo-terminal of a shell job

It sleeps until a descriptor is ready or the nearest deadline of its parts has come.  An idle worker without a deadline
uses no CPU.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import cast

from tmax_pipes.inotify import IN_CREATE, IN_MOVED_TO, FolderWatch, Inotify
from tmax_pipes.jobs import PythonJob
from tmax_pipes.messages import Beat, Done, Failed, Go, Message, Report, Run, ToWorker, Who
from tmax_pipes.pipe_errors import ConnectionEnded
from tmax_workers.cancel import InterruptGate
from tmax_workers.capture import Capture, append_to_log
from tmax_workers.controller_connection import ControllerConnection
from tmax_workers.coordinator import Coordinator
from tmax_workers.epoll_loop import HANG_UP, READ, WRITE, EpollLoop
from tmax_workers.kinds.shell import NotStarted, ShellRun, ShellSettings
from tmax_workers.memory import own_rss_bytes, own_usage
from tmax_workers.pane import Pane, printable_label
from tmax_workers.stale import SourceFiles
from tmax_workers.terminal import CancelConfirmation, Terminal
from tmax_workers.worker_events import (
    Begin,
    CancelTask,
    ChildGroup,
    ConnectionDown,
    Event,
    ExitWorker,
    JobEnded,
    KillTask,
    PaneCancel,
    PaneLost,
    SpillResults,
    StaleFound,
    Terminated,
    TimeElapsed,
    Unreported,
)

COPY_INTERVAL_S = 0.02
"""Shortest interval between two copies of a task's output to the pane."""
SHORT_TASK_WAKE_S = 0.02
"""While tasks follow one another without waking this thread, it checks at this interval which one runs."""
REPEAT_CANCEL_S = 0.05
"""Interval between the signals of a pending cancellation (``cancel.py`` has the reason for repeating them)."""
FIRST_BEAT_S = 0.1
"""Delay of a task's first heartbeat: a task that ends sooner needs none."""


class IoThread:
    """Owns the loop, the connection, the pane and the shell job.  ``run`` is the thread's function."""

    def __init__(
        self,
        *,
        coordinator: Coordinator,
        loop: EpollLoop,
        inotify: Inotify,
        capture: Capture,
        terminal: Terminal,
        pane: Pane,
        gate: InterruptGate,
        sources: SourceFiles,
        signal_fd: int,
        on_who: Callable[[Who], dict[bytes, bytes]],
        on_command: Callable[[], Mapping[bytes, bytes]],
        on_keep: Callable[[], None],
        on_exit: Callable[[ExitWorker], None],
        logs: str,
        blobs: str,
    ) -> None:
        self._coordinator = coordinator
        self._loop = loop
        self._inotify = inotify
        self._capture = capture
        self._terminal = terminal
        self._pane = pane
        self._gate = gate
        self._sources = sources
        self._signal_fd = signal_fd
        self._signals: deque[int] = deque()
        """Signals that the main thread has read, to be handled here."""
        self._on_who = on_who
        self._on_command = on_command
        self._on_keep = on_keep
        self._on_exit = on_exit
        self._logs = logs
        self._blobs = blobs
        self._env: dict[bytes, bytes] = {}
        self._confirmation = CancelConfirmation()
        self._shell: ShellRun | None = None
        self._connection: ControllerConnection | None = None
        self._control_watch: FolderWatch | None = None
        self._copy_at: float | None = None
        self._repeat_cancel_at: float | None = None
        self._beat_s = 2.0
        self._beat_at: float | None = None
        self._reported_busy = False
        self._has_left = False

    def start(self, rt: str, life: int, control: str, made: int = 0) -> None:
        """Publish and announce the first connection.  Called before the thread runs.  ``made``: number of earlier connections of this life."""
        loop = self._loop
        if self._inotify.fd >= 0:
            folder = os.path.dirname(os.path.abspath(control))
            self._control_watch = FolderWatch(self._inotify, folder, IN_CREATE | IN_MOVED_TO)
            self._control_watch.arm()
            loop.add(self._inotify.fd, lambda _events: self._files_changed())
        loop.add(self._coordinator.wake_fd, lambda _events: None)
        loop.add(self._signal_fd, lambda _events: self._signalled())
        if self._pane.fd >= 0:
            loop.add(self._pane.fd, self._pane_ready, 0)
        self._connection = ControllerConnection(
            loop, rt, life, control, on_ready=self._receive, is_woken=self._control_watch is not None, made=made
        )
        self._connection.open()

    @property
    def connections(self) -> int:
        """Number of connections that this life has made."""
        return self._connection.made if self._connection is not None else 0

    def run(self) -> None:
        """Run the loop until the worker leaves."""
        while not self._has_left:
            self._loop.turn(self._wait_s(time.monotonic()))
            self._coordinator.awake()
            if self._signals:
                self._signalled()
            self._after_turn(time.monotonic())

    def close_in_child(self) -> None:
        """In a forked child: close the FIFOs, or the connection outlives its owner, and the other descriptors of the loop."""
        if self._connection is not None:
            self._connection.close_in_child()
        self._loop.close()
        self._inotify.close()

    # -- time --------------------------------------------------------------------------------------

    def _wait_s(self, now: float) -> float | None:
        assert self._connection is not None
        times = [self._pane.deadline(), self._connection.deadline(), self._copy_at, self._beat_at, self._repeat_cancel_at]
        if self._shell is not None:
            times.append(self._shell.deadline())
        with self._coordinator.lock:
            times += [self._coordinator.state.next_deadline(), self._short_task_deadline(now)]
        nearest = min((one for one in times if one is not None), default=None)
        return None if nearest is None else max(0.0, nearest - now)

    def _short_task_deadline(self, now: float) -> float | None:
        """The main thread may run several tasks without waking this one: check soon which one runs, until one lasts."""
        state = self._coordinator.state
        since = state.running_since
        return now + SHORT_TASK_WAKE_S if since is not None and state.queue and now - since < SHORT_TASK_WAKE_S else None

    def _after_turn(self, now: float) -> None:
        assert self._connection is not None
        coordinator = self._coordinator
        self._connection.tick(now)
        self._pane_tick(now)
        if self._shell is not None:
            self._shell.tick(now)
        with coordinator.lock:
            due = coordinator.state.next_deadline()
            if coordinator.wire is not None and coordinator.wire.transport.wants_write:
                coordinator.flush()
                self._connection.watch_writes()
        if due is not None and now >= due:
            coordinator.arrived(TimeElapsed())
        if coordinator.broken:
            self._reconnect()
        self._follow_orders()
        self._repeat_cancel(now)
        self._show_notes(now)
        if self._pane.lost and not self._has_left:
            self._pane_was_lost()
        self._beat(now)

    # -- connection --------------------------------------------------------------------------------

    def _receive(self) -> None:
        assert self._connection is not None
        try:
            received = self._connection.receive()
        except ConnectionEnded:
            self._reconnect()
            return
        if not received:
            return
        if any(_may_be_python(message) for _, message in received) and self._sources.changed():
            self._coordinator.arrived(StaleFound())
        batch: list[Event] = []
        for epoch, message in received:
            if isinstance(message, Who):
                self._coordinator.arrived(*batch)
                batch.clear()
                if not self._accept(message):
                    return
            elif self._coordinator.wire is None or epoch != self._coordinator.wire.epoch:
                # A frame of another controller life, or of a controller that sent no Who: drop the connection.
                self._reconnect()
                return
            else:
                batch.append(cast("ToWorker", message))  # the decoder rejects other messages
        self._coordinator.arrived(*batch)

    def _accept(self, who: Who) -> bool:
        """Connect to this controller; False when it has ended meanwhile."""
        assert self._connection is not None
        try:
            wire = self._connection.accept(who.epoch)
        except ConnectionEnded:
            self._reconnect()
            return False
        self._beat_s = who.beat_s
        self._env = self._on_who(who)
        with self._coordinator.lock:
            self._coordinator.wire = wire
            self._coordinator.state.offset_s = time.time() - time.monotonic()
        self._coordinator.arrived(who)
        return True

    def _reconnect(self) -> None:
        assert self._connection is not None
        with self._coordinator.lock:
            self._coordinator.wire, self._coordinator.broken = None, False
            self._connection.open()
        if self._control_watch is not None:
            self._control_watch.arm()  # a folder that was removed while a process held it open is watched in vain
        self._coordinator.arrived(ConnectionDown())

    # -- orders ------------------------------------------------------------------------------------

    def _follow_orders(self) -> None:
        while self._coordinator.orders and not self._has_left:
            order = self._coordinator.orders.popleft()
            if isinstance(order, Begin):
                self._begin_shell(order.run)
            elif isinstance(order, CancelTask):
                if self._shell is not None:
                    self._shell.cancel()
                else:
                    self._gate.request((order.task, order.attempt))
                    self._repeat_cancel_at = time.monotonic() + REPEAT_CANCEL_S
            elif isinstance(order, KillTask):
                if self._shell is not None:
                    self._shell.kill()
            elif isinstance(order, Unreported):
                self._keep_output(order.outcome)
            elif isinstance(order, SpillResults):
                self._on_keep()
            elif isinstance(order, ExitWorker):
                self._leave(order)

    def _begin_shell(self, run: Run) -> None:
        self._coordinator.notes.append(run)
        self._show_notes(time.monotonic())
        size = self._terminal.size()
        place = ShellSettings(logs=self._logs, own_env=self._on_command(), env=self._env, size=size, blobs=self._blobs, alone=True)
        self._shell = ShellRun(run, place, self._loop, self._pane.write, self._shell_started, self._shell_ended)
        try:
            self._shell.begin()
        except NotStarted as error:
            self._shell_ended(Failed(run.task, run.attempt, Report(started_at=time.time()), error.failure))

    def _shell_started(self) -> None:
        assert self._shell is not None
        run = self._shell.run
        self._coordinator.arrived(ChildGroup(run.task, run.attempt, self._shell.group))
        if self._shell.takes_keys and self._terminal.is_tty:
            self._terminal.pass_keys()
            self._watch_pane()

    def _shell_ended(self, outcome: Done | Failed) -> None:
        self._shell = None
        if outcome.report.lost_bytes:
            self._pane.show_line(f"{outcome.report.lost_bytes} bytes that task {outcome.task} printed are not in its log: no space")
        self._signalled()  # a pending TERM came first, and may have ended the command too
        self._coordinator.arrived(JobEnded(outcome))

    def _keep_output(self, outcome: Done | Failed) -> None:
        """Write the task's output to its log, because the report that holds it is not sent."""
        if outcome.report.tail:
            try:
                append_to_log(self._logs, outcome.task, outcome.report.tail)
            except OSError as error:
                self._pane.show_line(f"what task {outcome.task} printed is lost: {error}")

    def _leave(self, order: ExitWorker) -> None:
        assert self._connection is not None
        self._has_left = True
        self._show_notes(time.monotonic())
        self._pane.show_line(f"worker leaves: {order.why}")
        self._terminal.settle()
        with self._coordinator.lock:
            self._coordinator.flush()
            self._coordinator.wire = None
            self._connection.close()
        self._capture.close()
        self._on_exit(order)

    def _repeat_cancel(self, now: float) -> None:
        if self._repeat_cancel_at is None or now < self._repeat_cancel_at:
            return
        with self._coordinator.lock:
            run = self._coordinator.state.running
        is_pending = run is not None and self._gate.repeat((run.task, run.attempt))
        self._repeat_cancel_at = now + REPEAT_CANCEL_S if is_pending else None

    # -- pane and terminal -------------------------------------------------------------------------

    def _show_notes(self, now: float) -> None:
        notes, ended = self._coordinator.notes, False
        while notes:
            note = notes.popleft()
            if isinstance(note, Run):
                self._pane.begin(note, now)
            elif isinstance(note, bytes):
                self._pane.write(note)
            else:
                self._pane.end(note, now)
                ended = True
        if ended and self._shell is None:
            self._terminal.settle()
        self._watch_pane()

    def _watch_pane(self) -> None:
        wanted = (WRITE if self._pane.wants_write else 0) | (READ if self._terminal.passes_keys else 0)
        self._loop.change(self._pane.fd, wanted)

    def _pane_tick(self, now: float) -> None:
        due = self._pane.deadline()
        if due is not None and now >= due:
            self._pane.tick(now)
        if self._copy_at is not None and now >= self._copy_at:
            self._copy_at = None
            self._copy_output(now)

    def _pane_ready(self, events: int) -> None:
        if events & READ and self._shell is not None:
            self._shell.press(self._terminal.read())
        if events & WRITE:
            self._pane.pump()
        if events & HANG_UP:
            self._pane.lost = True

    def _pane_was_lost(self) -> None:
        """Finish what runs, then leave: a worker without a pane is replaced by one that people can see."""
        if self._loop.knows(self._pane.fd):
            self._loop.remove(self._pane.fd)
            self._coordinator.arrived(PaneLost())
            self._follow_orders()

    def _files_changed(self) -> None:
        events = self._inotify.read()
        watch = self._control_watch
        if watch is not None and watch.concerns(events):
            watch.arm()  # its folder may have been removed or made again
            assert self._connection is not None
            self._connection.socket_folder_changed()
        if self._copy_at is None:
            self._show_notes(time.monotonic())
            self._copy_output(time.monotonic())

    def _copy_output(self, now: float) -> None:
        data = self._capture.read_new()
        if data:
            self._pane.write(data)
            self._copy_at = now + COPY_INTERVAL_S

    def take_signals(self) -> None:
        """On the main thread, before the end of a task is handled: handle a TERM that came first.

        The task's own handler may have ended the task because of that signal.
        """
        numbers = self._read_signals()
        if signal.SIGTERM in numbers:
            self._coordinator.arrived(Terminated())
        self._signals += numbers - {signal.SIGTERM}
        if numbers:
            self._coordinator.wake()

    def _read_signals(self) -> set[int]:
        try:
            return set(os.read(self._signal_fd, 512))
        except BlockingIOError:
            return set()

    def _signalled(self) -> None:
        numbers = self._read_signals()
        while self._signals:
            numbers.add(self._signals.popleft())
        if signal.SIGINT in numbers:
            self._interrupted()
        if signal.SIGWINCH in numbers and self._shell is not None:
            self._shell.resize(self._terminal.size())
        if signal.SIGTERM in numbers:
            self._coordinator.arrived(Terminated())

    def _interrupted(self) -> None:
        with self._coordinator.lock:
            held = self._coordinator.state.in_turn
        self._pane.write(b"\r")  # over the ^C that the terminal echoed
        if held is None:
            self._pane.show_line("Ctrl-C: nothing runs here. Detach with your tmux prefix and d; leave workers to `tmax down`")
        elif self._confirmation.press(held.task, time.monotonic()):
            self._coordinator.arrived(PaneCancel())
        else:
            self._pane.show_line(f"Ctrl-C: press again within 3 s to cancel task {held.task}")

    # -- heartbeat ---------------------------------------------------------------------------------

    def _beat(self, now: float) -> None:
        with self._coordinator.lock:
            run = self._coordinator.state.running
            connected = self._coordinator.wire is not None
        if run is None or not connected:
            self._beat_at = None
            if self._reported_busy and connected:
                self._reported_busy = False
                self._send_beat(0, 0)
        elif self._beat_at is None:
            self._beat_at = now + min(FIRST_BEAT_S, self._beat_s)
        elif now >= self._beat_at:
            self._beat_at = now + self._beat_s
            if self._shell is not None:
                self._shell.sample()
            self._reported_busy = True
            self._send_beat(run.task, run.attempt)

    def _send_beat(self, task: int, attempt: int) -> None:
        self._coordinator.send(Beat(task, attempt, own_rss_bytes(), own_usage().cpu_s))


def _may_be_python(message: Message) -> bool:
    return isinstance(message, Go) or (isinstance(message, Run) and isinstance(message.job, PythonJob))


def header(who: Who, life: int, preloaded: tuple[str, ...], threads: int) -> str:
    """Return the first line of a worker's pane."""
    modules = ", ".join(preloaded) or "nothing"
    return printable_label(
        f"tmax {who.worker} in swarm {who.swarm} (life {life}, pid {os.getpid()}): preloaded {modules}; threads {threads}"
    )
