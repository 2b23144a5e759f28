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
import signal
from binascii import a2b_base64

from tmax.cli import say
from tmax.cli.again import TRIES, ask_again, revive
from tmax.cli.ask import NO_LIMIT, Line
from tmax.errors import NoSwarm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_IN_MODIFY = 0x2
_IN_MOVED_TO = 0x80
_IN_CREATE = 0x100
_CHUNK_BYTES = 1 << 16
_BLIND_MS = 200
"""Without inotify (a user's instances can be used up) we look this often."""


def follow(
    common: say.Common, task: int, on_interrupt: Callable[[], None] | None = None, put: Callable[[bytes], object] = say.out_bytes
) -> dict[str, Any]:
    """Give ``put`` what ``task`` prints, from the beginning, until it has ended; return its TaskView.

    ``on_interrupt``: called at the first Ctrl-C instead of leaving; a second one leaves.  Goes on with the next
    controller when this one ends.
    """
    follower = _Follower(common, task, put)
    try:
        if on_interrupt is not None:
            follower.on_interrupt(on_interrupt)
        return follower.run()
    finally:
        follower.close()


class _Follower:
    def __init__(self, common: say.Common, task: int, put: Callable[[bytes], object]) -> None:
        self._common = common
        self._put = put
        self._task = task
        self._interrupts: _Interrupts | None = None
        self._tries_left = TRIES
        self._printed_bytes = 0
        self._file = -1
        self._identity: tuple[int, int] | None = None
        self._ears = _Ears()
        self._line: Line | None = None
        self._path = ask_again(common, "logs", target=task)["wanted_file"]
        self._ears.watch(os.path.dirname(self._path), _IN_CREATE | _IN_MOVED_TO)

    def on_interrupt(self, call: Callable[[], None]) -> None:
        """At the first Ctrl-C call this from the loop; the second one is a KeyboardInterrupt again."""
        self._interrupts = _Interrupts(call)

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
            self._line = Line(self._common.layout, NO_LIMIT)
            self._line.send("wait", {"ids": [self._task]})
        poll = select.poll()
        for fd in (self._line.fileno(), self._ears.fd, self._interrupts.fd if self._interrupts else -1):
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        while True:
            self._show_new()
            ready = {fd for fd, _ in poll.poll(None if self._ears.fd >= 0 else _BLIND_MS)}
            if self._ears.fd in ready:
                self._ears.drain()
            if self._interrupts and self._interrupts.fd in ready:
                self._interrupts.answer()
            if self._line.fileno() in ready:
                view: dict[str, Any] = self._line.receive()["tasks"][0]
                return view

    def _show_new(self) -> None:
        while self._file >= 0 or self._open():
            data = os.pread(self._file, _CHUNK_BYTES, self._printed_bytes)
            if not self._still_named():
                continue  # what was read may be another task's; perhaps a new attempt has made a new log
            if data:
                self._put(data)
                self._printed_bytes += len(data)
            elif os.fstat(self._file).st_size < self._printed_bytes:
                self._printed_bytes = 0  # a new attempt began the log anew
            else:
                return

    def _open(self) -> bool:
        try:
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        found = os.fstat(self._file)
        if self._identity not in {None, (found.st_dev, found.st_ino)}:
            self._printed_bytes = 0
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
            return
        tail = a2b_base64(answer["tail"])
        self._put(tail[self._printed_bytes :] if len(tail) >= self._printed_bytes else tail)

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
        if self._interrupts is not None:
            self._interrupts.close()


class _Interrupts:
    """Ctrl-C as something to poll for.  An exception could come between printing a piece and noting that it was printed."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._call = call
        self._before = signal.signal(signal.SIGINT, self._interrupted)

    def _interrupted(self, number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the next one means: leave at once
        os.eventfd_write(self.fd, 1)

    def answer(self) -> None:
        os.eventfd_read(self.fd)
        self._call()

    def close(self) -> None:
        signal.signal(signal.SIGINT, self._before)
        os.close(self.fd)


class _Ears:
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
