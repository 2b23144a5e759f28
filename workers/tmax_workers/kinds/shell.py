"""Shell jobs: a child process with its own session, process group, and terminal or pipes.

::

    stdin.py: its standard input
    spawning.py: posix_spawn (setsid, then open the pseudo-terminal's end: it becomes the controlling terminal)
        master or pipes --> pane, LOGS/12.log (shell_log.py: made at the first byte; removed when all of it fits the report)
        keyboard of the pane --> master
    pidfd readable --> drain what is there --> wait4 --> end what it left running --> Done | Failed
    cancel: TERM to the group -> the leader ends -> the others keep the rest of the grace -> KILL to all that descends from it

Why ``posix_spawn``: ``subprocess`` can give a child a session but no controlling terminal without ``preexec_fn``, which
forks the whole worker (15 times slower once torch is in it).  A shell in between that reopens the terminal costs another exec.

What a program left running is ended at most a second after it, in any session or group (``descendants.py``).  A job with
``keep_background`` runs without adoption of orphans: what it leaves belongs to no worker and keeps running.
"""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from tmax_pipes.jobs import ShellJob
from tmax_pipes.messages import Done, Failed, Failure, Report, Run
from tmax_workers import descendants
from tmax_workers.capture import log_of
from tmax_workers.epoll_loop import EpollLoop
from tmax_workers.kinds.shell_log import ShellLog
from tmax_workers.kinds.spawning import NotStarted, ShellCommand, command_of, start
from tmax_workers.kinds.stdin import NOTHING, Stdin
from tmax_workers.memory import own_usage, peak_of
from tmax_workers.process_group import running_in_group, signal_group
from tmax_workers.worker_errors import Refused

__all__ = ["NotStarted", "ShellRun", "ShellSettings"]

READ_BYTES = 64 * 1024
READS_A_TURN = 32
LOOK_S = 0.05
"""Interval between checks of a cancelled group once its leader has ended."""
PROGRAM_KILLED_HINT = "tmax did not send it; the kernel does when memory runs out (see dmesg), or another process did"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellSettings:
    """What a shell job gets from its worker."""

    logs: str
    env: Mapping[bytes, bytes]
    """Variables of tmax: TMAX_WORKER and the like, and thread counts."""
    own_env: Mapping[bytes, bytes]
    """Variables of this worker, for a job without an environment."""
    size: tuple[int, int]
    """Rows and columns of the pane."""
    blobs: str = ""
    """The folder of shared bodies."""
    alone: bool = False
    """This process has no other children, so every descendant belongs to the job."""


class ShellRun:
    """One running program; IO thread only.

    ``begin`` starts it.  ``show`` receives its output; ``on_start`` is called when it runs; ``on_end`` once with the outcome, after
    all output was shown.
    """

    def __init__(
        self,
        run: Run,
        place: ShellSettings,
        loop: EpollLoop,
        show: Callable[[bytes], None],
        on_start: Callable[[], None],
        on_end: Callable[[Done | Failed], None],
    ) -> None:
        assert isinstance(run.job, ShellJob)
        self.run = run
        self.group = 0
        """Its process group, which is its leader's pid; 0: not started."""
        self._job = run.job
        self._place = place
        self._loop = loop
        self._show = show
        self._on_start = on_start
        self._on_end = on_end
        self._log = ShellLog(log_of(place.logs, run.task), parts=self._job.split)
        self._started_at, self._began = time.time(), time.monotonic()
        self._stdin = Stdin(self._job.stdin, loop, self._has_stdin) if self._job.stdin else None
        self._reading: dict[int, bool] = {}  # descriptor -> whether it is stderr alone
        self._keys = self._terminal_fd = self._pidfd = -1
        self._cancelled = False
        self._look_at: float | None = None
        self._ending: descendants.TreeEnding | None = None
        self._outcome: Done | Failed | None = None
        self._sampled_bytes = 0
        # The kernel counts the child before its exec too, when it had the memory of the worker.
        self._inherited_peak_bytes = own_usage().peak_rss_bytes

    @property
    def takes_keys(self) -> bool:
        """Whether it reads the pane's keyboard."""
        return self._keys >= 0

    # -- orders ------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Send TERM to its process group."""
        self._cancelled = True
        if self._outcome is not None:
            self._kill_rest()  # its leader has ended: the time for the others is over
        elif not self.group:
            self._not_begun(Failure("cancelled", "cancelled"))
        elif self._ending is None:
            signal_group(self.group, signal.SIGTERM)
            signal_group(self.group, signal.SIGCONT)  # a stopped process acts on TERM only when it runs again

    def kill(self) -> None:
        """Kill it and all its descendants."""
        self._cancelled = True
        if not self.group and self._outcome is None:
            self._not_begun(Failure("cancelled", "cancelled"))
        elif self._ending is not None:
            self._kill_rest()
        else:
            if self._place.alone and not self._job.keep_background:
                descendants.kill_tree(self.group)
            signal_group(self.group, signal.SIGKILL)

    def press(self, keys: bytes) -> None:
        """Pass on keys typed in the pane; those that the program's full input buffer cannot take are lost."""
        if self._keys >= 0 and keys:
            try:
                os.write(self._keys, keys)
            except OSError:
                pass  # its input is full, or it has closed it

    def resize(self, size: tuple[int, int]) -> None:
        """Apply a new size of the pane, unless the program has its submitter's size."""
        if self._keys >= 0 and self._job.terminal_size is None:
            _set_size(self._keys, size)

    def sample(self) -> None:
        """Record the program's peak memory so far: the only figure for a program that stays below this worker's own peak."""
        if self.group:
            self._sampled_bytes = max(self._sampled_bytes, peak_of(self.group))
            if self._place.alone:
                descendants.reap({self.group, *descendants.helpers()})  # ended orphans, which are our children since their parents ended

    def deadline(self) -> float | None:
        """Return when ``tick`` is due; None: only an event can matter."""
        return self._ending.deadline if self._ending is not None else self._look_at

    def tick(self, now: float) -> None:
        """Check whether processes that must end have ended."""
        due = self.deadline()
        if due is None or now < due:
            return
        if self._ending is not None:
            self._end_rest()
        else:
            self._finish_when_alone()

    # -- start -------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start the program, at once or when its standard input has arrived.  Raises NotStarted."""
        if self._stdin is not None:
            try:
                if not self._stdin.fetch():
                    return
            except OSError as error:
                path = self._job.stdin.decode("utf-8", "backslashreplace")
                raise NotStarted(Failure("refused", f"its standard input {path} cannot be opened: {error.strerror}")) from error
        self._start()

    def _has_stdin(self) -> None:
        assert self._stdin is not None
        if self._stdin.refused:
            self._not_begun(Failure("refused", self._stdin.refused, hint="give it a file: tmax run -- COMMAND < FILE"))
            return
        try:
            self._start()
        except NotStarted as error:
            self._not_begun(error.failure)

    def _not_begun(self, failure: Failure) -> None:
        self._release()
        report = Report(started_at=self._started_at, duration_s=time.monotonic() - self._began)
        self._on_end(Failed(self.run.task, self.run.attempt, report, failure))

    def _start(self) -> None:
        self._started_at, self._began = time.time(), time.monotonic()
        try:
            command = command_of(self.run, self._place.env, self._place.own_env, self._place.blobs)
        except Refused as refused:
            self._release()
            raise NotStarted(Failure("refused", refused.message, hint=refused.hint)) from refused
        if self._job.keep_background and self._place.alone:
            descendants.adopt_orphans(wanted=False)
        self.group = self._spawn(command)
        self._pidfd = os.pidfd_open(self.group)
        for fd in self._reading:
            self._loop.add(fd, lambda _events, fd=fd: self._read(fd))  # type: ignore[misc]
        self._loop.add(self._pidfd, lambda _events: self._exited())
        self._on_start()

    def _spawn(self, command: ShellCommand) -> int:
        theirs = self._open_pipes() if self._job.split else self._open_terminal(self._job.terminal_size or self._place.size)
        if self._stdin is not None:
            theirs[0] = self._stdin.taken()
        try:
            return start(command, theirs)
        except NotStarted:
            self._release()
            raise
        finally:
            for fd in {fd for fd in theirs.values() if isinstance(fd, int)}:
                os.close(fd)

    def _open_terminal(self, size: tuple[int, int]) -> dict[int, int | str]:
        """Make the job's pseudo-terminal.

        It does not turn line ends into CR LF (the pane's terminal does, and the log needs none), and the keys that stop or
        quit a program have no effect, because a viewer may press them by mistake.
        """
        ours, theirs = pty.openpty()
        name = os.ttyname(theirs)
        modes = termios.tcgetattr(theirs)
        modes[0] &= ~termios.IXON
        modes[1] &= ~termios.OPOST
        for key in (termios.VQUIT, termios.VSUSP):
            modes[6][key] = b"\0"
        termios.tcsetattr(theirs, termios.TCSANOW, modes)
        _set_size(ours, size)
        os.set_blocking(ours, False)
        self._reading, self._keys, self._terminal_fd = {ours: False}, ours, theirs
        return {0: name, 1: name, 2: name}

    def _open_pipes(self) -> dict[int, int | str]:
        out, out_end = os.pipe2(os.O_CLOEXEC)
        err, err_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(out, False)
        os.set_blocking(err, False)
        self._reading = {out: False, err: True}
        return {0: NOTHING, 1: out_end, 2: err_end}

    def _release(self) -> None:
        """Close everything; nothing runs."""
        self._log.close()
        for fd in self._reading:
            self._loop.remove(fd)
        for fd in (*self._reading, self._terminal_fd, self._pidfd):
            if fd >= 0:
                os.close(fd)
        self._reading = {}
        self._keys = self._terminal_fd = self._pidfd = -1
        if self._stdin is not None:
            self._stdin.close()
        if self._job.keep_background and self._place.alone:
            descendants.adopt_orphans()

    # -- output ------------------------------------------------------------------------------------

    def _read(self, fd: int) -> None:
        for _ in range(READS_A_TURN):
            try:
                data = os.read(fd, READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""  # EIO: no process has the other end of the terminal open
            if not data:
                self._loop.remove(fd)
                return
            self._log.write(data, stderr=self._reading[fd])
            self._show(data)

    # -- end ---------------------------------------------------------------------------------------

    def _exited(self) -> None:
        self._loop.remove(self._pidfd)
        if self._cancelled and not self._ends_rest:
            self._finish_when_alone()
        else:
            self._leader_ended()

    @property
    def _ends_rest(self) -> bool:
        return self._place.alone and not self._job.keep_background

    def _finish_when_alone(self) -> None:
        """Finish when no process of the cancelled group is left.  The leader is not reaped until then, so that its pid is not reused."""
        if running_in_group(self.group):
            self._look_at = time.monotonic() + LOOK_S
        else:
            self._look_at = None
            self._leader_ended()

    def _leader_ended(self) -> None:
        for fd in self._reading:
            if self._loop.knows(fd):
                self._drain(fd)
        _, status, usage = os.wait4(self.group, 0)
        peak_bytes = usage.ru_maxrss * 1024
        report = Report(
            started_at=self._started_at,
            duration_s=time.monotonic() - self._began,
            cpu_s=usage.ru_utime + usage.ru_stime,
            peak_rss_bytes=max(self._sampled_bytes, peak_bytes if peak_bytes > self._inherited_peak_bytes else 0),
        )
        self._outcome = self._outcome_of(report, os.waitstatus_to_exitcode(status))
        if self._ends_rest and descendants.has_children():
            # If cancelled, they keep the rest of the task's grace, and ``kill`` ends it.
            grace_s = None if self._cancelled else min(descendants.GRACE_S, self.run.options.grace_s)
            self._ending = descendants.TreeEnding(grace_s, descendants.helpers(), terminated_group=self.group if self._cancelled else 0)
            self.group = 0
            self._end_rest()
        else:
            self.group = 0
            self._finish()

    def _kill_rest(self) -> None:
        if self._ending is not None:
            self._ending.kill()
            self._end_rest()

    def _end_rest(self) -> None:
        assert self._ending is not None
        watched = set(self._ending.fds())
        for fd in watched:
            self._loop.remove(fd)
        if self._ending.step():
            self._finish()
            return
        for fd in self._ending.fds():
            self._loop.add(fd, lambda _events: self._end_rest())

    def _finish(self) -> None:
        self._look_at = self._ending = None
        for fd in list(self._reading):
            if self._loop.knows(fd):
                self._drain(fd)
        outcome = self._outcome
        assert outcome is not None
        size_bytes, tail, parts = self._log.finish()
        self._release()
        report = msgspec.structs.replace(outcome.report, output_bytes=size_bytes, tail=tail, stderr=parts, lost_bytes=self._log.lost_bytes)
        if self._cancelled:
            report = msgspec.structs.replace(
                report, duration_s=time.monotonic() - self._began
            )  # includes the grace of processes that outlived their leader
        self._on_end(msgspec.structs.replace(outcome, report=report))

    def _drain(self, fd: int) -> None:
        """Read what is available now, in at most 16 reads: a descendant that keeps printing must not delay the end."""
        for _ in range(16):
            self._read(fd)
            if not self._loop.knows(fd) or not _is_readable(fd):
                return

    def _outcome_of(self, report: Report, code: int) -> Done | Failed:
        run = self.run
        if code < 0:
            name = signal.Signals(-code).name if -code in signal.valid_signals() else str(-code)
            hint = "" if self._cancelled or code != -signal.SIGKILL else PROGRAM_KILLED_HINT
            return Failed(run.task, run.attempt, report, Failure("signal", f"killed by {name}", signal=-code, hint=hint))
        if code:
            return Failed(run.task, run.attempt, report, Failure("exit", f"exit {code}", exit_code=code))
        if self._cancelled:
            return Failed(run.task, run.attempt, report, Failure("cancelled", "cancelled", exit_code=0))
        return Done(run.task, run.attempt, report)


def _set_size(fd: int, size: tuple[int, int]) -> None:
    try:
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    except OSError:
        pass  # it has just ended


def _is_readable(fd: int) -> bool:
    waiting = fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0")
    return int(struct.unpack("i", waiting)[0]) > 0
