"""What a person sees in the pane, and the bytes on their way to it.

::

    ▶ 12 shell  python train.py
    ...live output...
    ✔ 12 done 3.2 s                      ✘ 12 failed: exit 3 (0.4 s)
    more than 20 tasks in a second:      ⋯ 1873 tasks in 1.0 s: 1873 done, 0 failed

Writes never block: what the terminal does not take waits in a bounded buffer, then is dropped and counted.  A terminal
that is gone is noticed once (``lost``) and then written to no more; it never raises.
"""

from __future__ import annotations

import errno
import os
import signal
import unicodedata
from collections.abc import Mapping

from tmax_pipes.jobs import kind_of, label_of
from tmax_pipes.messages import Done, Failed, Failure, Run

LINES_PER_S = 20
"""More tasks than this in a second are shown as one line."""
BUFFER_BYTES = 256 * 1024
_LABEL_CHARS = 200
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Where there is no pane we write to a file: a full disk must cost output, not the worker."""


class Marks:
    """The signs used in the pane, in UTF-8 or in plain ASCII."""

    def __init__(self, *, unicode: bool) -> None:
        self.begin, self.done, self.failed, self.many = ("▶", "✔", "✘", "⋯") if unicode else (">", "+", "x", "...")


def speaks_utf8(env: Mapping[str, str]) -> bool:
    """Return whether the locale in ``env`` is a UTF-8 one."""
    name = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or ""
    return "utf8" in name.lower().replace("-", "")


def plain(text: str) -> str:
    """Return ``text`` without anything a terminal could obey: control and format characters, lone surrogates."""
    if len(text) <= _LABEL_CHARS and text.isascii() and text.isprintable():
        return text
    kept = "".join(" " if char in "\t\n" else char for char in text if char in "\t\n" or unicodedata.category(char)[0] != "C")
    return kept if len(kept) <= _LABEL_CHARS else kept[: _LABEL_CHARS - 1] + "…"


def seconds(duration_s: float) -> str:
    """Return a duration as a person reads it."""
    if duration_s < 0.1:
        return f"{duration_s * 1000:.1f} ms"
    return f"{duration_s:.1f} s" if duration_s < 120 else f"{duration_s / 60:.1f} min"


def why(failure: Failure) -> str:
    """Return in a few words what went wrong."""
    if failure.kind == "exit":
        return f"exit {failure.exit_code}"
    if failure.kind == "signal" and failure.signal:
        return signal_name(failure.signal)
    return plain(failure.message.partition("\n")[0]) or failure.kind


def signal_name(number: int) -> str:
    """Return ``SIGKILL`` for 9; ``signal 77`` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Pane:
    """Lines about tasks, and a buffer in front of the terminal.  Used by the IO thread alone.

    ``fd`` is non-blocking, or -1 when there is nothing to write to.
    """

    def __init__(self, fd: int, *, unicode: bool) -> None:
        self.fd = fd
        self.lost = False
        self.dropped_bytes = 0
        self._marks = Marks(unicode=unicode)
        self._encoding = "utf-8" if unicode else "ascii"
        self._buffer = bytearray()
        self._at_line_start = True
        self._quiet = False
        self._window_since = 0.0
        self._ended = 0
        self._failed = 0
        self._hidden = 0
        self._begun: Run | None = None

    # -- lines -------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        """Show one line of ours; ``text`` is plain already."""
        start = "" if self._at_line_start else "\n"
        self.write(f"{start}{text}\n".encode(self._encoding, "replace"))

    def begin(self, run: Run, now: float) -> None:
        """A task begins.  Task 0 is the controller's no-op that proves this worker ready; no person asked for it."""
        if not run.task:
            return
        self._roll(now)
        if self._quiet or self._ended >= LINES_PER_S:
            self._begun = run
        else:
            self._say_begun(run)

    def _say_begun(self, run: Run) -> None:
        again = f" (try {run.tries})" if run.tries > 1 else ""
        self.say(f"{self._marks.begin} {run.task} {kind_of(run.job)}  {plain(label_of(run.job))}{again}")

    def end(self, outcome: Done | Failed, now: float) -> None:
        """A task ended."""
        if not outcome.task:
            self.say(f"{self._marks.done} ready")
            return
        self._roll(now)
        self._begun = None
        self._ended += 1
        self._failed += isinstance(outcome, Failed)
        if self._quiet or self._ended > LINES_PER_S:
            self._hidden += 1
            return
        took = seconds(outcome.report.duration_s)
        if isinstance(outcome, Done):
            self.say(f"{self._marks.done} {outcome.task} done {took}")
        else:
            told = why(outcome.failure)
            how = told if outcome.failure.kind == "cancelled" else f"failed: {told}"
            self.say(f"{self._marks.failed} {outcome.task} {how} ({took})")

    def deadline(self) -> float | None:
        """Return when ``tick`` is due; None: never."""
        return self._window_since + 1.0 if self._hidden or self._begun else None

    def tick(self, now: float) -> None:
        """Say what was held back, when its second is over."""
        self._roll(now)

    def _roll(self, now: float) -> None:
        passed_s = now - self._window_since
        if passed_s < 1.0:
            return
        if self._hidden:
            done = self._ended - self._failed
            self.say(f"{self._marks.many} {self._ended} tasks in {passed_s:.1f} s: {done} done, {self._failed} failed")
        if self._begun:
            self._say_begun(self._begun)
        self._quiet = self._ended > LINES_PER_S
        self._begun, self._window_since, self._ended, self._failed, self._hidden = None, now, 0, 0, 0

    # -- bytes -------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Show raw bytes: the tasks' own output."""
        if not data or self.lost or self.fd < 0:
            return
        self._at_line_start = data.endswith((b"\n", b"\r"))
        room = BUFFER_BYTES - len(self._buffer)
        if len(data) > room:
            self.dropped_bytes += len(data) - room
            data = data[:room]
        self._buffer += data
        self.pump()

    @property
    def wants_write(self) -> bool:
        """Whether bytes wait for the terminal."""
        return bool(self._buffer)

    def pump(self) -> None:
        """Write what the terminal takes now."""
        while self._buffer:
            try:
                size = os.write(self.fd, self._buffer)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self.dropped_bytes += len(self._buffer)
                    self._buffer.clear()
                    return
                # EIO and its kind: the pane was closed.  The task goes on; the state hears of it from whoever sees `lost`.
                self.lost = True
                self._buffer.clear()
                return
            del self._buffer[:size]
