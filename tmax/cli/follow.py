"""Following a task's output as it is written, until the task has ended.

    control socket: wait ----\
    inotify: the log grew ----+--> poll --> print new output --> ... --> ended: print the rest
    inotify: the log appeared /

No timer is involved.  The log of a Python task is a hard link to its worker's scratch file: when the task ends with little output, the
link is removed, and the file is truncated and used for the next task.  So data that was read is printed only if the link still
exists afterwards; missing output then comes from the task's row.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
from binascii import a2b_base64

from tmax.cli import output
from tmax.cli.log_output import report_lost_bytes
from tmax.cli.reconnect import TRIES, request_again, start_controller
from tmax.cli.request import NO_TIMEOUT, ControlLine
from tmax.errors import NoSwarm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_IN_MODIFY = 0x2
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100
_CHUNK_BYTES = 1 << 16
_HEAD_BYTES = 4096
"""Length of the printed prefix that is kept for comparison: output that short moves into the task's row."""
_PART_BYTES = 16
"""Length of a record in the file that lists which parts of a log are stderr."""
_REASON_AFTER_S = 3.0
"""After this time, the reason why a task has not started is reported."""
_POLL_MS = 200
"""Polling interval where inotify is not available (a user's instances can be used up)."""


def follow(
    common: output.Common,
    task: int,
    put: Callable[[bytes], object] = output.write_bytes,
    put_stderr: Callable[[bytes], object] | None = None,
    watched: dict[int, Callable[[], None]] | None = None,
) -> dict[str, Any]:
    """Call ``put`` with the output of ``task``, from its beginning, until the task has ended; return its TaskView.

    ``put_stderr`` gets the output to stderr, where it was recorded separately.  ``watched``: further descriptors, each with the
    function to call when it is readable.  Starts another controller when this one ends.  Raises NoSwarm when controllers keep ending.
    """
    follower = _Follower(common, task, put, put_stderr, watched or {})
    try:
        return follower.run()
    finally:
        follower.close()


class _Follower:
    def __init__(
        self,
        common: output.Common,
        task: int,
        put: Callable[[bytes], object],
        put_stderr: Callable[[bytes], object] | None,
        watched: dict[int, Callable[[], None]],
    ) -> None:
        self._common = common
        self._put = put
        self._put_stderr = put_stderr
        self._watched = watched
        self._task = task
        self._tries_left = TRIES
        self._printed_bytes = 0
        self._reason_at_s: float | None = time.monotonic() + _REASON_AFTER_S
        self._head = b""
        self._file = -1
        self._identity: tuple[int, int] | None = None
        self._line: ControlLine | None = None
        self._path = request_again(common.layout, "logs", target=task)["wanted_file"]
        self._inotify = _InotifyWatch()
        self._parts = _Parts(f"{self._path.removesuffix('.log')}.stderr")
        self._inotify.watch(os.path.dirname(self._path), _IN_CREATE | _IN_MOVED_TO)

    def run(self) -> dict[str, Any]:
        while True:
            try:
                view = self._until_ended()
            except NoSwarm:
                self._reconnect()
            else:
                self._print_rest()
                return view

    def _reconnect(self) -> None:
        self._drop_line()
        self._tries_left -= 1
        if not self._tries_left:
            raise NoSwarm(self._common.layout.swarm, "keeps ending")
        start_controller(self._common.layout)

    def _until_ended(self) -> dict[str, Any]:
        if self._line is None:
            self._line = ControlLine(self._common.layout, NO_TIMEOUT)
            self._line.send("wait", {"ids": [self._task]})
        poll = select.poll()
        for fd in (self._line.fileno(), self._inotify.fd, *self._watched):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        while True:
            self._print_new()
            ready = {fd for fd, _ in poll.poll(self._timeout_ms())}
            if self._reason_at_s is not None and time.monotonic() >= self._reason_at_s and self._line.fileno() not in ready:
                self._report_reason()
            if self._inotify.fd in ready:
                self._inotify.drain()
            for fd, call in self._watched.items():
                if fd in ready:
                    call()
            if self._line.fileno() in ready:
                view: dict[str, Any] = self._line.receive()["tasks"][0]
                return view

    def _timeout_ms(self) -> float | None:
        interval_ms = None if self._inotify.fd >= 0 else _POLL_MS
        if self._reason_at_s is None:
            return interval_ms
        left_ms = max(0.0, 1000 * (self._reason_at_s - time.monotonic()))  # other tasks' logs wake the poll, too
        return left_ms if interval_ms is None else min(left_ms, interval_ms)

    def _report_reason(self) -> None:
        """Report why the task has not started, if it has not."""
        self._reason_at_s = None
        task = request_again(self._common.layout, "show", id=self._task)["task"]
        if task["state"] in {"ready", "waiting"} and task["why"]:
            self._common.notify(f"task {self._task} waits: {task['why']}")

    def _print_new(self) -> None:
        while self._file >= 0 or self._open():
            data = os.pread(self._file, _CHUNK_BYTES, self._printed_bytes)
            if self._put_stderr is not None and data:
                self._parts.read()  # before the check that the log still exists: its parts are removed after it
            if not self._is_still_linked():
                continue  # the data may be another task's; a new attempt may have created a new log
            if data:
                self._print(data, self._parts)
                self._printed_bytes += len(data)
                self._head = (self._head + data)[:_HEAD_BYTES] if len(self._head) < _HEAD_BYTES else self._head
            elif os.fstat(self._file).st_size < self._printed_bytes:
                self._restart()  # a new attempt has truncated the log
            else:
                return

    def _print(self, data: bytes, parts: _Parts) -> None:
        if self._put_stderr is None:
            self._put(data)
            return
        for piece, is_stderr in parts.split(data, self._printed_bytes):
            (self._put_stderr if is_stderr else self._put)(piece)

    def _restart(self) -> None:
        self._printed_bytes, self._head = 0, b""
        self._parts.clear()

    def _open(self) -> bool:
        try:
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        found = os.fstat(self._file)
        if self._identity not in {None, (found.st_dev, found.st_ino)}:
            self._restart()
        self._identity = (found.st_dev, found.st_ino)
        self._inotify.watch(self._path, _IN_MODIFY)
        return True

    def _is_still_linked(self) -> bool:
        """Return whether the open file is still the task's log; close it when it is not."""
        try:
            if os.path.samestat(os.lstat(self._path), os.fstat(self._file)):
                return True
        except FileNotFoundError:
            pass  # the attempt ended with little output, which is in the task's row
        self._identity = (0, 0)  # the next file of this name belongs to another attempt
        self._close_file()
        return False

    def _print_rest(self) -> None:
        """Print the output that was not printed yet, from its file or the task's row; the task has ended."""
        reply = request_again(self._common.layout, "logs", target=self._task)
        if reply["file"]:
            self._close_file()
            self._print_new()
            report_lost_bytes(reply)
            return
        tail = a2b_base64(reply["tail"])
        if self._printed_bytes > len(tail) or not tail.startswith(self._head):
            self._printed_bytes = 0  # the printed output was an earlier attempt's
        if len(tail) > self._printed_bytes:
            self._parts.replace(reply.get("stderr") or ())
            self._print(tail[self._printed_bytes :], self._parts)

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _drop_line(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def close(self) -> None:
        self._close_file()
        self._drop_line()
        self._inotify.close()


class _Parts:
    """The parts of a log that are stderr: pairs of offset and length, read from the file beside it as it grows."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._read_bytes = 0
        self._spans: list[tuple[int, int]] = []

    def read(self) -> None:
        """Read new records; a part is recorded before it is written to the log."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return
        try:
            while data := os.pread(fd, _CHUNK_BYTES, self._read_bytes):
                whole = len(data) // _PART_BYTES * _PART_BYTES
                if not whole:
                    return
                self._read_bytes += whole
                for at in range(0, whole, _PART_BYTES):
                    offset, length = (int.from_bytes(data[at + part : at + part + 8], "little") for part in (0, 8))
                    self._spans.append((offset, length))
        finally:
            os.close(fd)

    def replace(self, spans: Sequence[Sequence[int]]) -> None:
        """Replace all parts by ``spans``."""
        self._spans = [(offset, length) for offset, length in spans]

    def clear(self) -> None:
        """Remove all parts, for a new log."""
        self._read_bytes = 0
        self._spans.clear()

    def split(self, data: bytes, start: int) -> list[tuple[bytes, bool]]:
        """Return ``data``, at offset ``start`` of the log, as pieces, each with whether it is stderr; drops the parts before its end."""
        pieces: list[tuple[bytes, bool]] = []
        at, end = start, start + len(data)
        for offset, length in self._spans:
            if offset >= end:
                break
            begin, stop = max(offset, at), min(offset + length, end)
            if stop <= begin:
                continue
            if begin > at:
                pieces.append((data[at - start : begin - start], False))
            pieces.append((data[begin - start : stop - start], True))
            at = stop
        if at < end:
            pieces.append((data[at - start :], False))
        self._spans = [span for span in self._spans if sum(span) > end]
        return pieces


class _InotifyWatch:
    """One inotify instance; ``fd`` is -1 when none is available."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)

    def watch(self, path: str, mask: int) -> None:
        """Watch ``path`` for the events of ``mask``; when that fails, close the instance: the follower falls back to polling."""
        if self.fd >= 0 and self._libc.inotify_add_watch(self.fd, os.fsencode(path), mask) < 0:
            self.close()

    def drain(self) -> None:
        """Discard the events: they only wake the poll."""
        try:
            os.read(self.fd, _CHUNK_BYTES)
        except BlockingIOError:
            pass  # discarded already

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
