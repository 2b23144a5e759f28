"""Following a task's output as it is written, until the task has ended.

    control socket: wait ----\
    inotify: the log grew ----+--> poll --> print what is new --> ... --> ended: print the rest
    inotify: the log appeared /

Nothing is polled in time.  The log of a Python task is a name of its worker's scratch file: when the task ends with
little output the name goes, and the file is emptied and used for the next task.  So what was read counts only when
the name was still there afterwards; what is missing then comes from the task's row.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
from binascii import a2b_base64

from tmax.cli import output
from tmax.cli.ask import NO_LIMIT, ControlLine
from tmax.cli.reconnect import TRIES, ask_again, revive
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
"""So much of what was printed is remembered: output that short moves into the task's row."""
_PART_BYTES = 16
"""Of a record of the file that says which parts of a log are stderr."""
_NOTE_S = 3.0
"""So long after the beginning a person is told what a task waits for that has not begun."""
_BLIND_MS = 200
"""Without inotify (a user's instances can be used up) we look this often."""


def follow(
    common: output.Common,
    task: int,
    put: Callable[[bytes], object] = output.out_bytes,
    put_stderr: Callable[[bytes], object] | None = None,
    watched: dict[int, Callable[[], None]] | None = None,
) -> dict[str, Any]:
    """Give ``put`` what ``task`` prints, from the beginning, until it has ended; return its TaskView.

    ``put_stderr`` gets what it printed to stderr, where that is known apart.  ``watched``: further descriptors, each with what to
    call when it is readable.  Goes on with the next controller when this one ends.
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
        self._note_at: float | None = time.monotonic() + _NOTE_S
        self._head = b""
        self._file = -1
        self._identity: tuple[int, int] | None = None
        self._line: ControlLine | None = None
        self._path = ask_again(common, "logs", target=task)["wanted_file"]
        self._ears = _InotifyWatch()
        self._parts = _Parts(f"{self._path.removesuffix('.log')}.stderr")
        self._ears.watch(os.path.dirname(self._path), _IN_CREATE | _IN_MOVED_TO)

    def run(self) -> dict[str, Any]:
        while True:
            try:
                view = self._until_ended()
            except NoSwarm:
                self._reconnect()
            else:
                self._rest()
                return view

    def _reconnect(self) -> None:
        self._drop_line()
        self._tries_left -= 1
        if not self._tries_left:
            raise NoSwarm(self._common.layout.swarm, "keeps ending")
        revive(self._common)

    def _until_ended(self) -> dict[str, Any]:
        if self._line is None:
            self._line = ControlLine(self._common.layout, NO_LIMIT)
            self._line.send("wait", {"ids": [self._task]})
        poll = select.poll()
        for fd in (self._line.fileno(), self._ears.fd, *self._watched):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        while True:
            self._show_new()
            ready = {fd for fd, _ in poll.poll(self._limit_ms())}
            if self._note_at is not None and time.monotonic() >= self._note_at and self._line.fileno() not in ready:
                self._say_why()
            if self._ears.fd in ready:
                self._ears.drain()
            for fd, call in self._watched.items():
                if fd in ready:
                    call()
            if self._line.fileno() in ready:
                view: dict[str, Any] = self._line.receive()["tasks"][0]
                return view

    def _limit_ms(self) -> float | None:
        blind_ms = None if self._ears.fd >= 0 else _BLIND_MS
        if self._note_at is None:
            return blind_ms
        left_ms = max(0.0, 1000 * (self._note_at - time.monotonic()))  # the logs of other tasks come meanwhile
        return left_ms if blind_ms is None else min(left_ms, blind_ms)

    def _say_why(self) -> None:
        """It has been a while: tell why, if the task has not begun."""
        self._note_at = None
        task = ask_again(self._common, "show", id=self._task)["task"]
        if task["state"] in {"ready", "waiting"} and task["why"]:
            self._common.talk(f"task {self._task} waits: {task['why']}")

    def _show_new(self) -> None:
        while self._file >= 0 or self._open():
            data = os.pread(self._file, _CHUNK_BYTES, self._printed_bytes)
            if self._put_stderr is not None and data:
                self._parts.read()  # before we look whether the log is still there: its parts go after it
            if not self._still_named():
                continue  # what was read may be another task's; perhaps a new attempt has made a new log
            if data:
                self._show(data, self._parts)
                self._printed_bytes += len(data)
                self._head = (self._head + data)[:_HEAD_BYTES] if len(self._head) < _HEAD_BYTES else self._head
            elif os.fstat(self._file).st_size < self._printed_bytes:
                self._begin_anew()  # a new attempt began the log anew
            else:
                return

    def _show(self, data: bytes, parts: _Parts) -> None:
        if self._put_stderr is None:
            self._put(data)
            return
        for piece, is_stderr in parts.split(data, self._printed_bytes):
            (self._put_stderr if is_stderr else self._put)(piece)

    def _begin_anew(self) -> None:
        self._printed_bytes, self._head = 0, b""
        self._parts.forget()

    def _open(self) -> bool:
        try:
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        found = os.fstat(self._file)
        if self._identity not in {None, (found.st_dev, found.st_ino)}:
            self._begin_anew()
        self._identity = (found.st_dev, found.st_ino)
        self._ears.watch(self._path, _IN_MODIFY)
        return True

    def _still_named(self) -> bool:
        """Whether the log is still the file that we read; lets go of it when it is not."""
        try:
            if os.path.samestat(os.lstat(self._path), os.fstat(self._file)):
                return True
        except FileNotFoundError:
            pass  # the attempt ended with little output: the task's row has it
        self._identity = (0, 0)  # whatever has this name next is another attempt's, from its beginning
        self._close_file()
        return False

    def _rest(self) -> None:
        """The task has ended: print what was not printed yet, from where its output is kept now."""
        answer = ask_again(self._common, "logs", target=self._task)
        if answer["file"]:
            self._close_file()
            self._show_new()
            if answer.get("lost_bytes"):
                from tmax.cli.logs import say_lost

                say_lost(answer)
            return
        tail = a2b_base64(answer["tail"])
        if self._printed_bytes > len(tail) or not tail.startswith(self._head):
            self._printed_bytes = 0  # what was printed was an earlier attempt's
        if len(tail) > self._printed_bytes:
            self._parts.take(answer.get("stderr") or ())
            self._show(tail[self._printed_bytes :], self._parts)

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
        self._ears.close()


class _Parts:
    """Which parts of a log are stderr: pairs of offset and length, read from the file beside it as it grows."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._read_bytes = 0
        self._spans: list[tuple[int, int]] = []

    def read(self) -> None:
        """Take what was recorded since; a part is recorded before it is in the log."""
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

    def take(self, spans: Sequence[Sequence[int]]) -> None:
        """These are all."""
        self._spans = [(offset, length) for offset, length in spans]

    def forget(self) -> None:
        """Another log begins."""
        self._read_bytes = 0
        self._spans.clear()

    def split(self, data: bytes, start: int) -> list[tuple[bytes, bool]]:
        """Return ``data``, which stands at ``start`` of the log, in pieces that are wholly stderr or wholly not; go on behind it next time."""
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
    """One inotify instance; ``fd`` is -1 when there is none to be had."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)

    def watch(self, path: str, mask: int) -> None:
        """Hear of changes of ``path``; what cannot be watched makes us blind, never deaf for ever."""
        if self.fd >= 0 and self._libc.inotify_add_watch(self.fd, os.fsencode(path), mask) < 0:
            self.close()

    def drain(self) -> None:
        """Take what was heard; the files say the rest."""
        try:
            os.read(self.fd, _CHUNK_BYTES)
        except BlockingIOError:
            pass  # heard before, read before

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
