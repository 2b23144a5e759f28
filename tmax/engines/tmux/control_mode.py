r"""One long-lived control-mode client: every command to tmux goes over one pipe, none costs a process.

::

    send(line, done) --> lines to write --> stdin of `tmux -C new-session -A -s ctl`
    stdout --> Parser --> %begin..%end|%error --> done(ok, lines) of the oldest command not answered yet
                      \-> notifications (%client-detached ...) --> on_notice(line)
    end-of-file       --> every open command fails --> opened again --> on_open(server pid): another one, or the same

Answers come in the order of the commands, so a command needs no name.  One command a line: a line with `;` in it would
be answered twice.  A server that is stopped leaves its clients waiting for ever; here, silence for ``timeout_s`` while
something is unanswered fails what is open, and answers that come later are counted off and dropped.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from tmax.engines.life_mark import without_marks
from tmax.engines.tmux.tmux_version import INSTALL_HINT
from tmax.errors import TmuxError
from tmax.reactor import Reactor, Timer

Done: TypeAlias = Callable[[bool, list[str]], None]

SESSION = "ctl"
"""The hidden session this client is attached to; its pane waits and never wakes."""

TIMEOUT_S = 2.0
OPEN_LIMIT_S = 5.0
"""For the first answer: a server has to start, on a machine that may be busy with an ``init`` of many."""
REOPEN_MAX_S = 5.0
_READ_BYTES = 256 * 1024
_GONE = ["the tmux client has ended"]


def quote(text: str) -> str:
    """Return ``text`` as one word of a tmux command line, taken literally.  Raises TmuxError for control characters.

    Formats (``#{}``, ``#()``) are a second language that some commands expand after this one: names and targets
    that come here are our own, and no text of a user is ever sent.
    """
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text):
        raise TmuxError(f"{text!r} cannot be sent to tmux: it holds a control character")
    return "'" + text.replace("'", "'\"'\"'") + "'"


def command(*words: str) -> str:
    """Return these words as one tmux command line."""
    return " ".join(map(quote, words))


class Parser:
    """Bytes of a control-mode client in, answers and notifications out.  Pure."""

    def __init__(self, on_answer: Callable[[bool, list[str], bool], None], on_notice: Callable[[str], None]) -> None:
        """``on_answer(ok, lines, ours)``: ``ours`` is False for the answer to the command line that started the client."""
        self._on_answer = on_answer
        self._on_notice = on_notice
        self._rest = b""
        self._block: str | None = None
        self._lines: list[str] = []

    def feed(self, data: bytes) -> None:
        """Take in what was read, and call back for each whole line of it."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.decode("utf-8", "replace"))

    def _line(self, line: str) -> None:
        if self._block is None:
            if line.startswith("%begin "):
                self._block, self._lines = line[len("%begin ") :], []
            elif line:
                self._on_notice(line)
            return
        # Only the very numbers of %begin end a block: what a pane shows may look like anything.
        for word in ("%end ", "%error "):
            if line == word + self._block:
                ours = self._block.split()[-1] != "0"
                self._block = None
                self._on_answer(word == "%end ", self._lines, ours)
                return
        self._lines.append(line)


class ControlMode:
    """The client, opened again when it ends; all callbacks come on the reactor's thread."""

    def __init__(
        self,
        reactor: Reactor,
        *,
        socket: str,
        config: str,
        env: Mapping[str, str],
        on_notice: Callable[[str], None],
        on_open: Callable[[int], None],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """``on_open(server_pid)`` is called each time a client has been opened again after it ended."""
        self._reactor = reactor
        self._argv = ["tmux", "-S", socket, "-f", config, "-C", *_JOIN, "--", "cat"]
        self._env = without_marks(env)
        self._on_notice = on_notice
        self._on_open = on_open
        self._timeout_s = timeout_s
        self._client: subprocess.Popen[bytes] | None = None
        self._parser = Parser(self._answered, self._noticed)
        self._open: deque[Done | None] = deque()
        """Commands not answered; None: it was given up, its answer may still come."""
        self._unsent = bytearray()
        self._watchdog: Timer | None = None
        self._received_at = 0.0
        self._failures = 0
        self._retry: Timer | None = None
        self._closed = False
        self.last_line = ""
        """The last line that was neither an answer nor a notification: why a client ended."""
        self.server_pid = 0
        self.version = ""
        self.open_limit_s = OPEN_LIMIT_S

    # -- opening -----------------------------------------------------------------------------------

    def open(self) -> None:
        """Start the client, and the server when there is none; raises TmuxError with a hint when that fails.  May be tried again."""
        if self._retry is not None:
            self._retry.cancel()
        self._drop_client()
        self._spawn()
        identity = self.call([_IDENTITY], self.open_limit_s)[0]
        self._known(identity)

    def _spawn(self) -> None:
        try:
            self._client = subprocess.Popen(
                self._argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self._env,
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )
        except FileNotFoundError:
            raise TmuxError("tmux is not installed", hint=INSTALL_HINT) from None
        except OSError as error:
            raise TmuxError(f"tmux cannot be started: {error.strerror}", hint="see: tmax doctor") from error
        for fd in self._fds():
            os.set_blocking(fd, False)
        self._parser = Parser(self._answered, self._noticed)
        self._reactor.on_readable(self._fds()[1], self._on_readable)

    def _fds(self) -> tuple[int, int]:
        """The descriptors we write and read; only while there is a client."""
        assert self._client is not None
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        return self._client.stdin.fileno(), self._client.stdout.fileno()

    def _known(self, answer: Sequence[str]) -> None:
        pid, _, self.version = (answer[0] if answer else "").partition(" ")
        self.server_pid = int(pid) if pid.isdigit() else 0

    def _reopen(self) -> None:
        if self._closed:
            return
        try:
            self._spawn()
        except TmuxError:
            self._retry_later()
        else:
            self.send(_IDENTITY, self._reopened)

    def _reopened(self, ok: bool, lines: list[str]) -> None:
        if ok:
            self._failures = 0
            self._known(lines)
            self._on_open(self.server_pid)
        # Not ok: this client has ended too (``_ended`` tries again), or the server hangs and will answer or end.

    def _retry_later(self) -> None:
        self._failures += 1
        self._retry = self._reactor.after(min(REOPEN_MAX_S, 0.05 * 2**self._failures), self._reopen)

    # -- sending -----------------------------------------------------------------------------------

    def send(self, line: str, done: Done | None = None) -> None:
        """Send one command; ``done(ok, lines)`` is called once: with the answer, with tmux's error, or after ``timeout_s``."""
        self.batch([line], done)

    def batch(self, lines: Sequence[str], done: Done | None = None) -> None:
        """Send these commands in one write; ``done`` is called once for each, in this order."""
        callback = done or _ignore
        if self._client is None:
            for _ in lines:
                self._reactor.call_soon(lambda: callback(False, list(_GONE)))
            return
        self._unsent += "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
        self._open.extend([callback] * len(lines))
        self._arm()
        self._write()

    def call(self, lines: Sequence[str], timeout_s: float = TIMEOUT_S) -> list[list[str]]:
        """Send these commands and wait for the answers: only where nothing else has begun (open) or all has ended (close).

        Raises TmuxError when one is refused, or none comes within ``timeout_s``.
        """
        answers: list[tuple[bool, list[str]]] = []
        self.batch(lines, lambda ok, text: answers.append((ok, text)))
        end = time.monotonic() + timeout_s
        while len(answers) < len(lines):
            self._wait(end - time.monotonic())
        for line, (ok, text) in zip(lines, answers, strict=True):
            if not ok:
                raise TmuxError(f"tmux refused {line.split()[0]}: {' '.join(text) or self.last_line}", hint="see: tmax doctor")
        return [text for _, text in answers]

    def _wait(self, left_s: float) -> None:
        if self._client is None:
            raise TmuxError(f"tmux ended: {self.last_line or 'no reason given'}", hint="see: tmax doctor")
        if left_s <= 0:
            raise TmuxError("tmux does not answer", hint="its server may be stopped or busy; see: tmax doctor")
        write_fd, read_fd = self._fds()
        poll = select.poll()  # select.select refuses descriptors from 1024 on
        poll.register(read_fd, select.POLLIN)
        if self._unsent:
            poll.register(write_fd, select.POLLOUT)
        ready = [fd for fd, _ in poll.poll(1000 * left_s)]
        self._write()
        if read_fd in ready:
            self._on_readable()

    def _write(self) -> None:
        if self._client is None:
            return
        fd = self._fds()[0]
        try:
            del self._unsent[: os.write(fd, self._unsent)]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._unsent.clear()  # end-of-file is read next, and fails what is open
        self._reactor.on_writable(fd, self._write if self._unsent else None)

    # -- receiving ---------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        try:
            data = os.read(self._fds()[1], _READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._ended()
            return
        self._received_at = self._reactor.now()
        self._parser.feed(data)

    def _answered(self, ok: bool, lines: list[str], ours: bool) -> None:
        if not ours:
            if not ok:
                self.last_line = " ".join(lines)
            return
        done = self._open.popleft() if self._open else None
        if not self._open:
            self._disarm()
        if done is not None:
            done(ok, lines)

    def _noticed(self, line: str) -> None:
        if line.startswith("%"):
            self._on_notice(line)
        else:
            self.last_line = line

    def _ended(self) -> None:
        self._drop_client()
        self._fail_open([self.last_line] if self.last_line else _GONE)
        self._open.clear()
        if not self._closed:
            self._retry_later()

    def _drop_client(self) -> None:
        client, self._client = self._client, None
        self._disarm()
        self._unsent.clear()
        if client is None:
            return
        for pipe in (client.stdin, client.stdout):
            if pipe is not None:
                self._reactor.forget(pipe.fileno())
                pipe.close()
        client.kill()
        client.wait()

    def _fail_open(self, why: list[str]) -> None:
        """Answer what is open with ``why``; the places stay, because answers may still come."""
        open_, self._open = self._open, deque([None] * len(self._open))
        for done in open_:
            if done is not None:
                done(False, list(why))

    # -- the watchdog ------------------------------------------------------------------------------

    def _arm(self) -> None:
        if self._watchdog is None:
            self._received_at = self._reactor.now()
            self._watchdog = self._reactor.after(self._timeout_s, self._on_silence)

    def _disarm(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def _on_silence(self) -> None:
        self._watchdog = None
        left_s = self._received_at + self._timeout_s - self._reactor.now()
        if left_s > 0:
            self._watchdog = self._reactor.after(left_s, self._on_silence)
        elif any(done is not None for done in self._open):
            self._fail_open([f"tmux did not answer in {self._timeout_s:g} s"])

    def close(self) -> None:
        """End the client; the server and its sessions stay.  Twice is harmless."""
        self._closed = True
        self._drop_client()
        self._open.clear()


_JOIN = ("new-session", "-A", "-s", SESSION, "-f", "no-output", "-x", "80", "-y", "24")
_IDENTITY = command("display-message", "-p", "#{pid} #{version}")


def _ignore(_ok: bool, _lines: list[str]) -> None:
    """For commands whose answer is not needed."""
