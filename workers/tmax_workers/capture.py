"""Output of Python and kernel tasks, taken at descriptor level.

::

    descriptors 1 and 2 --append--> LOGS/.life-17   (the scratch file of this process)
                                        | first bytes, seen through inotify by the IO thread
                                        +--link--> LOGS/12.log    (readable by task id from now on, also after kill -9)
                                        +--copy--> pane           (what the pane cannot take is dropped there)
    end of the task:  nothing printed -> one lseek, no file
                      up to TAIL_BYTES -> into the report; name removed, scratch truncated
                      more -> 12.log stays, a new scratch begins

A file and not a pipe: a C extension that prints while it holds the GIL would fill a pipe that only a thread of the
same process drains, and block for ever.  A file also keeps what was printed before a kill -9.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fcntl import F_SETSIG, fcntl
from io import BufferedWriter, FileIO, TextIOWrapper
from os import close, dup2, fstat, ftruncate, link, pread, unlink
from os.path import exists
from threading import Thread
from typing import Any

from tmax_pipes.brief_calls import io_signal, seek_to_end
from tmax_pipes.messages import TAIL_BYTES
from tmax_pipes.private import open_private

SHOWN_BYTES = 128 * 1024
"""Largest part of new output that is copied to the pane at once; the log always has all of it."""

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_IOLBF = 1
_FLUSH_S = 2.0
"""Time limit of ``flush`` on an object that a task put in place of a standard stream."""
_MARK = 63
"""Set on the open file to recognise it: reading it costs a quarter of an fstat."""
_sys = vars(sys)
_flush_text, _flush_bytes = TextIOWrapper.flush, BufferedWriter.flush  # of the types: a task can set another ``flush`` on the object
_SETTINGS: tuple[object, ...] = ("utf-8", "backslashreplace", True, {}, {}) * 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """A task's output: its size, all of it when it is short, and the part that the pane has not shown yet."""

    size_bytes: int = 0
    tail: bytes = b""
    unshown: bytes = b""
    blocked: bool = False
    """An object of the task did not return from its flush."""


NOTHING = Printed()


def log_of(logs: str, task: int) -> str:
    """Return the path of the log of a task."""
    return f"{logs}/{task}.log"


def append_to_log(logs: str, task: int, data: bytes) -> None:
    """Append a task's output to its log.  Raises OSError."""
    fd = open_private(log_of(logs, task), _FLAGS)
    with open(fd, "wb") as file:
        file.write(data)


def rescue(logs: str, life: int, task: int = 0) -> bool:
    """After a worker's death, keep the output of its last task as that task's log, and remove the scratch file.

    ``task``: the task that ran; 0: none.  Returns whether the task has a log now.  A second call is harmless.
    """
    scratch, log = _scratch_of(logs, life), log_of(logs, task)
    try:
        found = os.stat(scratch, follow_symlinks=False)
        if task and found.st_size and found.st_nlink == 1 and not os.path.lexists(log):
            os.link(scratch, log, follow_symlinks=False)
        os.unlink(scratch)
    except FileNotFoundError:
        pass  # the worker left regularly, or died before it opened one
    return bool(task) and os.path.exists(log)


def _scratch_of(logs: str, life: int) -> str:
    return f"{logs}/.life-{life}"


class Capture:
    """Owns descriptors 1 and 2 of this process.

    ``begin`` and ``end`` are called on the main thread, ``read_new`` on the IO thread; a lock guards them.
    ``watch`` is called with each file that may grow from now on.
    """

    def __init__(self, logs: str, life: int, watch: Callable[[str], None]) -> None:
        self._logs = logs
        self._scratch = _scratch_of(logs, life)
        self._watch = watch
        self._lock = threading.Lock()
        self._task = 0
        self._base = 0  # offset of this attempt's output: not 0 in the log of an earlier attempt
        self._shown = 0
        self._linked = False
        self._appended = -1  # descriptor of the scratch file while this attempt appends to the log of an earlier one
        libc = ctypes.CDLL(None)
        self._flush_c = libc.fflush
        self._fd = -1
        self._open_scratch(fresh=True)
        _line_buffer_c_output(libc)
        self._blocked = False
        self._renew_streams()

    # -- main thread -------------------------------------------------------------------------------

    def begin(self, task: int, attempt: int) -> None:
        """Output from now on belongs to this task."""
        self._task = task
        if attempt > 1 and exists(log_of(self._logs, task)):
            self._append_to(log_of(self._logs, task))

    def end(self) -> Printed:
        """The task has ended: return its output and prepare for the next task."""
        self._flush()
        if not self._has_descriptors():
            self._take_descriptors()
        size = seek_to_end(self._fd)  # writes append (O_APPEND), so the position does not matter
        if size == self._base and not self._linked and not self._blocked:
            self._task = 0
            return NOTHING
        with self._lock:
            return self._finish()

    def close(self) -> None:
        """Remove the scratch file; later output is lost."""
        self._flush()
        _remove(self._scratch)

    # -- IO thread ---------------------------------------------------------------------------------

    def read_new(self) -> bytes:
        """Return what was printed since the last call and is to be shown: its last LOOK_BYTES."""
        with self._lock:
            size = fstat(self._fd).st_size
            if size <= self._shown:
                self._shown = size  # the task may have truncated it
                return b""
            if self._task and not self._linked:
                self._link()
            return self._unshown(size)

    # -- steps -------------------------------------------------------------------------------------

    def _has_descriptors(self) -> bool:
        """Whether 1 and 2 still are the file opened here; False when the task closed or redirected them."""
        return io_signal(1) == _MARK == io_signal(2)

    def _finish(self) -> Printed:
        size = seek_to_end(self._fd)  # again: another thread or a child may have printed since
        unshown = self._unshown(size)
        own = max(0, size - self._base)  # the task may have truncated it
        tail = b""
        if self._appended >= 0:
            self._leave_appended()
        elif own <= TAIL_BYTES:
            tail = pread(self._fd, own, 0)
            if self._linked:
                _remove(log_of(self._logs, self._task))
            ftruncate(self._fd, 0)
        else:
            if not self._linked:
                self._link()
            _remove(self._scratch)
            close(self._fd)
            self._open_scratch(fresh=False)
        self._task, self._base, self._shown, self._linked = 0, 0, 0, False
        blocked, self._blocked = self._blocked, False
        return Printed(size_bytes=own, tail=tail, unshown=unshown, blocked=blocked)

    def _unshown(self, size: int) -> bytes:
        shown = min(self._shown, size)  # a task can truncate the file: ``echo > /dev/stderr`` of a child does
        start = max(shown, size - SHOWN_BYTES)
        data = pread(self._fd, size - start, start)
        self._shown = start + len(data)
        return data

    def _link(self) -> None:
        log = log_of(self._logs, self._task)
        self._linked = True
        try:
            link(self._scratch, log, follow_symlinks=False)
        except FileExistsError:
            # Left by another store: a task number is used once, and later attempts append instead.
            unlink(log)
            link(self._scratch, log, follow_symlinks=False)

    def _append_to(self, log: str) -> None:
        with self._lock:
            self._appended = self._fd
            self._fd = open_private(log, _FLAGS)
            self._base = self._shown = fstat(self._fd).st_size
            self._linked = True
            self._take_descriptors()
            self._watch(log)

    def _leave_appended(self) -> None:
        close(self._fd)
        self._fd, self._appended = self._appended, -1
        self._take_descriptors()

    def _open_scratch(self, *, fresh: bool) -> None:
        self._fd = open_private(self._scratch, _FLAGS | (os.O_TRUNC if fresh else os.O_EXCL))
        self._take_descriptors()
        self._watch(self._scratch)

    def _take_descriptors(self) -> None:
        fcntl(self._fd, F_SETSIG, _MARK)
        dup2(self._fd, 1)
        dup2(self._fd, 2)

    def _flush(self) -> None:
        out, err = self._streams
        try:
            is_ours = _sys.get("stdout") is out and _sys.get("stderr") is err and self._settings() == _SETTINGS
            if is_ours:
                _flush_text(out)
                _flush_text(err)
        except Exception:  # closed, detached, full disk: it must not fail the next task
            is_ours = False
        if not is_ours:
            self._take_streams()
        self._flush_c(None)

    def _settings(self) -> tuple[object, ...]:
        """Attributes of our streams that a task can change although they still flush, its own methods on them included."""
        (out, err), (out_bytes, err_bytes) = self._streams, self._buffers
        return (
            *(out.encoding, out.errors, out.line_buffering, out.__dict__, out_bytes.__dict__),
            *(err.encoding, err.errors, err.line_buffering, err.__dict__, err_bytes.__dict__),
        )

    def _take_streams(self) -> None:
        """Flush the task's replacements of ``sys.stdout`` and ``sys.stderr``, and restore ours."""
        theirs = [stream for name in ("stdout", "stderr") if (stream := _sys.get(name)) is not None and stream not in self._streams]
        if theirs:
            self._blocked = not _flush_all(theirs)
        for _ in ("as they are", "with the descriptors in place"):
            if self._flush_ours():
                break
            self._take_descriptors()
        self._renew_streams()

    def _flush_ours(self) -> bool:
        done = True
        for flush, stream in (*((_flush_text, one) for one in self._streams), *((_flush_bytes, one) for one in self._buffers)):
            try:
                flush(stream)
            except OSError:
                done = False
            except Exception:  # closed; or detached, and then its buffer is flushed
                pass
        return done and self._has_descriptors()  # with nothing to flush, closed descriptors raise no error

    def _renew_streams(self) -> None:
        # New streams even if ours are intact: a task's text stream on our buffer closes the buffer when it is collected.
        self._buffers = BufferedWriter(FileIO(1, "wb", closefd=False)), BufferedWriter(FileIO(2, "wb", closefd=False))
        self._streams = _text(self._buffers[0]), _text(self._buffers[1])
        sys.stdout, sys.stderr = self._streams


def _remove(path: str) -> None:
    try:
        unlink(path)
    except FileNotFoundError:
        pass  # removed before, or the state folder is gone


def _text(buffer: BufferedWriter[FileIO]) -> TextIOWrapper[BufferedWriter[FileIO]]:
    """A line-buffered text stream that can encode any character."""
    return TextIOWrapper(buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _flush_all(streams: list[Any]) -> bool:
    """Flush a task's own stream objects; False when a flush does not return.  On a thread, because it may block for ever."""

    def flush() -> None:
        for stream in streams:
            try:
                stream.flush()
            except BaseException:  # a user object's error in flush is not reported
                pass

    try:
        thread = Thread(target=flush, name="tmax-flush", daemon=True)
        thread.start()
    except RuntimeError:
        return True  # no thread can be started: its buffered output is lost
    thread.join(_FLUSH_S)
    return not thread.is_alive()


def _line_buffer_c_output(libc: ctypes.CDLL) -> None:
    """Make C's stdout line-buffered: on a file it would buffer 4 KiB."""
    libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _IOLBF, 0)
