"""Output of Python and kernel tasks, taken at descriptor level.

::

    descriptors 1 and 2 --append--> LOGS/.life-17   (the scratch file of this process)
                                        | first bytes, seen through inotify by the IO thread
                                        +--link--> LOGS/12.log    (found by task id from now on, also after kill -9)
                                        +--copy--> pane           (what the pane cannot take is dropped there and counted)
    end of the task:  nothing printed -> one fstat, no file
                      up to TAIL_BYTES -> into the report; name gone, scratch emptied
                      more -> 12.log stays, a new scratch begins

A file and not a pipe: a C extension that prints while it holds the GIL would fill a pipe that only a thread of the
same process drains, and wait for ever; and what was printed before a kill -9 is still there.
"""

from __future__ import annotations

import ctypes
import io
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

from tmax_pipes.messages import TAIL_BYTES

LOOK_BYTES = 128 * 1024
"""At most so much of what was printed is copied to the pane at once; the log always has all of it."""

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_IOLBF = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """What a task printed: how much, all of it when it is short, and what the pane has not shown yet."""

    size_bytes: int = 0
    tail: bytes = b""
    unshown: bytes = b""
    dropped_bytes: int = 0


NOTHING = Printed()


def log_of(logs: str, task: int) -> str:
    """Return the path of the log of a task."""
    return f"{logs}/{task}.log"


def append_to_log(logs: str, task: int, data: bytes) -> None:
    """Make what a task printed part of its log.  Raises OSError."""
    fd = os.open(log_of(logs, task), _FLAGS, 0o600)
    with open(fd, "wb") as file:
        file.write(data)


def rescue(logs: str, life: int, task: int = 0) -> bool:
    """After a worker's death: keep what its last task had printed as that task's log, and remove its scratch file.

    ``task``: what ran when it died; 0: nothing.  Returns whether the task has a log now.  Again is harmless.
    """
    scratch, log = _scratch_of(logs, life), log_of(logs, task)
    try:
        found = os.stat(scratch, follow_symlinks=False)
        if task and found.st_size and found.st_nlink == 1 and not os.path.lexists(log):
            os.link(scratch, log, follow_symlinks=False)
        os.unlink(scratch)
    except FileNotFoundError:
        pass  # it left in order, or died before it opened one
    return bool(task) and os.path.exists(log)


def _scratch_of(logs: str, life: int) -> str:
    return f"{logs}/.life-{life}"


class Capture:
    """Owns descriptors 1 and 2 of this process.

    ``begin`` and ``end`` are called on the main thread, ``look`` on the IO thread; a lock is between them.
    ``watch`` is told each file that may grow from now on.
    """

    def __init__(self, logs: str, life: int, watch: Callable[[str], None]) -> None:
        self._logs = logs
        self._scratch = _scratch_of(logs, life)
        self._watch = watch
        self._lock = threading.Lock()
        self._task = 0
        self._base = 0  # where the task's own output begins: not 0 in the log of an earlier attempt
        self._shown = 0
        self._linked = False
        self._appended = -1  # descriptor of an earlier attempt's log, while this attempt goes on in it
        self._libc = ctypes.CDLL(None)
        self._fd = -1
        self._open_scratch(fresh=True)
        _line_buffer_c_output(self._libc)
        self._streams = (_text(1), _text(2))
        sys.stdout, sys.stderr = self._streams

    # -- main thread -------------------------------------------------------------------------------

    def begin(self, task: int, attempt: int) -> None:
        """What is printed from now on belongs to this task."""
        self._task = task
        if attempt > 1 and os.path.exists(log_of(self._logs, task)):
            self._append_to(log_of(self._logs, task))

    def end(self) -> Printed:
        """The task has ended; return what it printed and make ready for the next one."""
        self._flush()
        found = os.fstat(1)
        if (found.st_ino, found.st_dev) != self._identity or os.fstat(2).st_ino != found.st_ino:
            self._take_descriptors()
            found = os.fstat(1)
        if found.st_size == self._base and self._appended < 0:
            self._task = 0
            return NOTHING
        with self._lock:
            return self._settle(found.st_size)

    def close(self) -> None:
        """Remove the scratch file; what is printed afterwards is lost."""
        self._flush()
        try:
            os.unlink(self._scratch)
        except FileNotFoundError:
            pass  # closed before, or the state folder is gone

    # -- IO thread ---------------------------------------------------------------------------------

    def look(self) -> tuple[bytes, int]:
        """Return what was printed since the last look and is to be shown, and how many bytes were left out before it."""
        with self._lock:
            size = os.fstat(self._fd).st_size
            if size <= self._shown:
                return b"", 0
            if self._task and not self._linked:
                self._link()
            return self._unshown(size)

    # -- steps -------------------------------------------------------------------------------------

    def _settle(self, size: int) -> Printed:
        unshown, dropped = self._unshown(size)
        own = size - self._base
        tail = b""
        if self._appended >= 0:
            self._leave_appended()
        elif own <= TAIL_BYTES:
            tail = os.pread(self._fd, own, 0)
            if self._linked:
                os.unlink(log_of(self._logs, self._task))
            os.ftruncate(self._fd, 0)
        else:
            if not self._linked:
                self._link()
            os.unlink(self._scratch)
            os.close(self._fd)
            self._open_scratch(fresh=False)
        self._task, self._base, self._shown, self._linked = 0, 0, 0, False
        return Printed(size_bytes=own, tail=tail, unshown=unshown, dropped_bytes=dropped)

    def _unshown(self, size: int) -> tuple[bytes, int]:
        start = max(self._shown, size - LOOK_BYTES)
        dropped = start - self._shown
        data = os.pread(self._fd, size - start, start)
        self._shown = start + len(data)
        return data, dropped

    def _link(self) -> None:
        log = log_of(self._logs, self._task)
        self._linked = True
        try:
            os.link(self._scratch, log, follow_symlinks=False)
        except FileExistsError:
            # Left by another store: task numbers are used once, and later attempts append above.
            os.unlink(log)
            os.link(self._scratch, log, follow_symlinks=False)

    def _append_to(self, log: str) -> None:
        with self._lock:
            self._appended = self._fd
            self._fd = os.open(log, _FLAGS, 0o600)
            self._base = self._shown = os.fstat(self._fd).st_size
            self._linked = True
            self._take_descriptors()
            self._watch(log)

    def _leave_appended(self) -> None:
        os.close(self._fd)
        self._fd, self._appended = self._appended, -1
        self._take_descriptors()

    def _open_scratch(self, *, fresh: bool) -> None:
        self._fd = os.open(self._scratch, _FLAGS | (os.O_TRUNC if fresh else os.O_EXCL), 0o600)
        self._take_descriptors()
        self._watch(self._scratch)

    def _take_descriptors(self) -> None:
        os.dup2(self._fd, 1)
        os.dup2(self._fd, 2)
        found = os.fstat(self._fd)
        self._identity = (found.st_ino, found.st_dev)

    def _flush(self) -> None:
        out, err = self._streams
        if sys.stdout is not out or sys.stderr is not err or out.closed or err.closed:
            self._take_streams()
        try:
            out, err = self._streams
            out.flush()
            err.flush()
        except OSError:
            self._streams = (_text(1), _text(2))  # a full disk: what could not be written must not fail the next task
            sys.stdout, sys.stderr = self._streams
        self._libc.fflush(None)

    def _take_streams(self) -> None:
        """A task put other objects in the place of ``sys.stdout`` and ``sys.stderr``, or closed ours."""
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:  # whatever a user's object does in flush, it is not ours to report
                pass
        if any(stream.closed for stream in self._streams):
            self._take_descriptors()
            self._streams = (_text(1), _text(2))
        sys.stdout, sys.stderr = self._streams


def _text(fd: int) -> io.TextIOWrapper:
    """A text stream on ``fd`` that shows each line at once and can print anything."""
    return io.TextIOWrapper(open(fd, "wb", closefd=False), encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _line_buffer_c_output(libc: ctypes.CDLL) -> None:
    """Let C code's ``printf`` show its lines at once too; on a file it would keep them until 4 KiB are full."""
    libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _IOLBF, 0)
