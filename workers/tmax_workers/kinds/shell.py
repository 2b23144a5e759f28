"""Programs: a child with its own session, terminal and process group.

::

    posix_spawn (setsid, then open the pseudo-terminal's end: it becomes the controlling terminal)
        master --> pane, LOGS/12.log (made at the first byte; gone again when it all fits the report)
        keyboard of the pane --> master
    pidfd readable --> drain what is there --> wait4 --> Done | Failed
    cancel: TERM to the group -> the leader ends -> the rest has what is left of the grace -> KILL to the group

Why ``posix_spawn``: ``subprocess`` can give a child a session but no controlling terminal without ``preexec_fn``, which
forks the whole worker (15 times slower once torch is in it).  A shell in between that reopens the terminal costs another exec.

Descendants that hold the terminal when the program ends do not delay its end.  They live on, as under a shell,
unless the task was cancelled.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tmax_pipes.jobs import ShellJob
from tmax_pipes.messages import TAIL_BYTES, Done, Failed, Failure, Report, Run
from tmax_workers.capture import log_of
from tmax_workers.errors import Refused
from tmax_workers.group import living, signal_group
from tmax_workers.loop import Loop
from tmax_workers.memory import own_usage, peak_of
from tmax_workers.surroundings import change_folder
from tmax_workers.threads import VARIABLES

READ_BYTES = 64 * 1024
READS_A_TURN = 32
LOOK_S = 0.05
"""How often a cancelled group is looked at once its leader has ended."""
KILLED_HINT = "tmax did not send it; the kernel does when memory runs out (dmesg says so), or somebody did"

# Python ignores the first two; the third we ignore for ourselves.  SIGHUP stays ignored on purpose: otherwise the end of
# the session's leader would kill what it left in the background.
_DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTTOU)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where and how a shell job runs in this worker."""

    logs: str
    env: Mapping[bytes, bytes]
    """Variables of ours: TMAX_WORKER and its kind, and thread counts."""
    size: tuple[int, int]
    """Rows and columns of the pane."""


class NotStarted(Exception):
    """The program could not be started; ``failure`` says why."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure.message)


class ShellRun:
    """One running program.  IO thread alone.

    ``show`` gets its output; ``on_end`` is called once with the outcome, after everything it printed was shown.
    """

    def __init__(self, run: Run, place: Place, loop: Loop, show: Callable[[bytes], None], on_end: Callable[[Done | Failed], None]) -> None:
        assert isinstance(run.job, ShellJob)
        self.run = run
        self._job = run.job
        self._loop = loop
        self._show = show
        self._on_end = on_end
        self._log = _Log(log_of(place.logs, run.task))
        self._started_at, self._began = time.time(), time.monotonic()
        self._reading: list[int] = []
        self._keys = -1
        self._cancelled = False
        self._look_at: float | None = None
        self._sampled_bytes = 0
        # The kernel counts what the child was before its exec as well: the worker itself.
        self._floor_bytes = own_usage().peak_rss_bytes
        self.group = self._spawn(place)
        self._pidfd = os.pidfd_open(self.group)
        for fd in self._reading:
            loop.add(fd, lambda _events, fd=fd: self._read(fd))  # type: ignore[misc]
        loop.add(self._pidfd, lambda _events: self._exited())

    @property
    def takes_keys(self) -> bool:
        """Whether the pane's keyboard belongs to it."""
        return self._keys >= 0

    # -- orders ------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Ask the whole group to end."""
        self._cancelled = True
        signal_group(self.group, signal.SIGTERM)
        signal_group(self.group, signal.SIGCONT)  # a stopped process acts on TERM only when it runs again

    def kill(self) -> None:
        """End the whole group now."""
        self._cancelled = True
        signal_group(self.group, signal.SIGKILL)

    def press(self, keys: bytes) -> None:
        """Hand on what was typed in the pane; what the program does not read in time is lost."""
        if self._keys >= 0 and keys:
            try:
                os.write(self._keys, keys)
            except OSError:
                pass  # its input is full, or it has closed it

    def resize(self, size: tuple[int, int]) -> None:
        """The pane has another size."""
        if self._keys >= 0:
            _set_size(self._keys, size)

    def sample(self) -> None:
        """Note the program's peak memory so far; for one that stays below this worker's own it is all that can be known."""
        self._sampled_bytes = max(self._sampled_bytes, peak_of(self.group))

    def deadline(self) -> float | None:
        """Return when ``tick`` is due; None: only an event can matter."""
        return self._look_at

    def tick(self, now: float) -> None:
        """Look whether a cancelled group has ended."""
        if self._look_at is not None and now >= self._look_at:
            self._finish_when_alone()

    # -- start -------------------------------------------------------------------------------------

    def _spawn(self, place: Place) -> int:
        job = self._job
        env = _environment(job, place.env, self.run)
        ours, theirs = self._open_pipes() if job.split else self._open_terminal(place.size)
        home = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # The folder is the whole process's; no task runs on the main thread while a shell job does.
            if job.cwd:
                change_folder(job.cwd)
            pid = _spawn(_found(job.argv[0], env), job.argv, env, theirs)
        except Refused as refused:
            self._give_up(ours)
            raise NotStarted(Failure("refused", refused.message, hint=refused.hint)) from refused
        except OSError as error:
            self._give_up(ours)
            raise NotStarted(_not_started(job.argv[0], error)) from error
        except (ValueError, IndexError) as error:
            # A NUL, a variable without a name, no command at all: no system call takes it, and no other worker would either.
            self._give_up(ours)
            raise NotStarted(Failure("refused", f"cannot be started: {error}")) from error
        finally:
            os.fchdir(home)
            os.close(home)
            for fd in {fd for fd in theirs.values() if isinstance(fd, int)}:
                os.close(fd)
        return pid

    def _open_terminal(self, size: tuple[int, int]) -> tuple[list[int], dict[int, int | str]]:
        """The job's own terminal.

        It does not turn line ends into CR LF (the pane's terminal does that, the log wants none), and the keys that stop
        or end a program behind its back mean nothing: they are pressed by somebody who only looks.
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
        self._reading, self._keys, self._held = [ours], ours, theirs
        return [ours, theirs], {0: name, 1: name, 2: name}

    def _open_pipes(self) -> tuple[list[int], dict[int, int | str]]:
        out, out_end = os.pipe2(os.O_CLOEXEC)
        err, err_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(out, False)
        os.set_blocking(err, False)
        self._reading, self._held = [out, err], -1
        return [out, err], {0: "/dev/null", 1: out_end, 2: err_end}

    def _give_up(self, ours: list[int]) -> None:
        self._log.close()
        for fd in ours:
            os.close(fd)

    # -- output ------------------------------------------------------------------------------------

    def _read(self, fd: int) -> None:
        for _ in range(READS_A_TURN):
            try:
                data = os.read(fd, READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""  # EIO: nobody holds the other end of the terminal
            if not data:
                self._loop.remove(fd)
                return
            self._log.write(data)
            self._show(data)

    # -- end ---------------------------------------------------------------------------------------

    def _exited(self) -> None:
        self._loop.remove(self._pidfd)
        if self._cancelled:
            self._finish_when_alone()
        else:
            self._finish()

    def _finish_when_alone(self) -> None:
        """End once nobody of the cancelled group is left.  The leader stays unreaped until then, so its number stays ours."""
        if living(self.group):
            self._look_at = time.monotonic() + LOOK_S
        else:
            self._finish()

    def _finish(self) -> None:
        self._look_at = None
        for fd in self._reading:
            if self._loop.knows(fd):
                self._drain(fd)
                self._loop.remove(fd)
        _, status, usage = os.wait4(self.group, 0)
        for fd in (*self._reading, self._held, self._pidfd):
            if fd >= 0:
                os.close(fd)
        self._keys = -1
        size_bytes, tail = self._log.finish()
        peak_bytes = usage.ru_maxrss * 1024
        report = Report(
            started_at=self._started_at,
            duration_s=time.monotonic() - self._began,
            cpu_s=usage.ru_utime + usage.ru_stime,
            peak_rss_bytes=max(self._sampled_bytes, peak_bytes if peak_bytes > self._floor_bytes else 0),
            output_bytes=size_bytes,
            tail=tail,
        )
        self._on_end(self._outcome(report, os.waitstatus_to_exitcode(status)))

    def _drain(self, fd: int) -> None:
        """Take what is there now; a descendant that goes on printing must not delay the end."""
        for _ in range(16):
            self._read(fd)
            if not self._loop.knows(fd) or not _is_readable(fd):
                return

    def _outcome(self, report: Report, code: int) -> Done | Failed:
        run = self.run
        if code < 0:
            name = signal.Signals(-code).name if -code in signal.valid_signals() else str(-code)
            hint = "" if self._cancelled or code != -signal.SIGKILL else KILLED_HINT
            return Failed(run.task, run.attempt, report, Failure("signal", f"killed by {name}", signal=-code, hint=hint))
        if code:
            return Failed(run.task, run.attempt, report, Failure("exit", f"exit {code}", exit_code=code))
        if self._cancelled:
            return Failed(run.task, run.attempt, report, Failure("cancelled", "cancelled", exit_code=0))
        return Done(run.task, run.attempt, report)


class _Log:
    """The output of one program: a file from the first byte on, none at the end when it fits the report."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1
        self._earlier = False
        self._size_bytes = 0
        self._tail = bytearray()

    def write(self, data: bytes) -> None:
        self._size_bytes += len(data)
        if self._size_bytes <= TAIL_BYTES:
            self._tail += data
        try:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                self._earlier = os.fstat(self._fd).st_size > 0
            _write_all(self._fd, data)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                raise
            # A full disk costs the log, not the program.

    def finish(self) -> tuple[int, bytes]:
        """Return how much was printed, and all of it when it is short and no earlier attempt's log holds it too."""
        fits = self._size_bytes <= TAIL_BYTES and not self._earlier
        if self._fd >= 0 and fits:
            os.unlink(self._path)
        self.close()
        return self._size_bytes, bytes(self._tail) if fits else b""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _environment(job: ShellJob, ours: Mapping[bytes, bytes], run: Run) -> dict[bytes, bytes]:
    """The submitter's variables without those of its tmux, then ours; a thread count the submitter chose stays."""
    given = job.env or os.environb
    env = {name: value for name, value in given.items() if not name.startswith(b"TMUX")}
    own_choice = {name.encode() for name in VARIABLES} & job.env.keys()
    env |= {name: value for name, value in ours.items() if name not in own_choice}
    env[b"TMAX_TASK_ID"], env[b"TMAX_ATTEMPT"] = b"%d" % run.task, b"%d" % run.attempt
    return env


def _found(name: bytes, env: Mapping[bytes, bytes]) -> bytes:
    """The file that ``name`` means on the submitter's PATH, as a shell would find it; FileNotFoundError, PermissionError."""
    if b"/" in name:
        return name
    blocked = b""
    for folder in env.get(b"PATH", os.defpath.encode()).split(b":"):
        path = (folder or b".") + b"/" + name
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            blocked = path
    if blocked:
        raise PermissionError(errno.EACCES, "Permission denied", blocked)
    raise FileNotFoundError(errno.ENOENT, "command not found", name)


def _spawn(path: bytes, argv: tuple[bytes, ...], env: Mapping[bytes, bytes], ends: Mapping[int, int | str]) -> int:
    """Start it with ``ends`` as its descriptors: a descriptor of ours, or a path it opens itself."""
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
    for fd, end in ends.items():
        if isinstance(end, str):
            actions.append((os.POSIX_SPAWN_OPEN, fd, end, os.O_RDWR, 0))
        else:
            actions.append((os.POSIX_SPAWN_DUP2, end, fd))
    try:
        return os.posix_spawn(path, argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_DEFAULT_SIGNALS)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        # A script without a #! line: as every shell does, give it to sh.
        shell = (b"/bin/sh", path, *argv[1:])
        return os.posix_spawn(shell[0], shell, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=_DEFAULT_SIGNALS)


def _not_started(name: bytes, error: OSError) -> Failure:
    shown = name.decode("utf-8", "backslashreplace")
    if isinstance(error, FileNotFoundError):
        hint = "check the spelling, or give its whole path; the PATH is that of the shell that submitted"
        return Failure("notfound", f"command not found: {shown}", exit_code=127, hint=hint)
    return Failure("notfound", f"cannot run {shown}: {error.strerror}", exit_code=126, hint=f"chmod +x {shown}, or name its interpreter")


def _set_size(fd: int, size: tuple[int, int]) -> None:
    try:
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    except OSError:
        pass  # it has just ended


def _is_readable(fd: int) -> bool:
    waiting = fcntl.ioctl(fd, termios.FIONREAD, b"\0\0\0\0")
    return int(struct.unpack("i", waiting)[0]) > 0
