"""The lines that a worker shows in its pane, and the output buffer in front of the terminal.

::

    ▶ 12 shell  python train.py
    ...live output...
    ✔ 12 done 3.2 s                      ✘ 12 failed: exit 3 (0.4 s)
    more than 20 tasks in a second:      ⋯ 1873 tasks in 1.0 s: 1873 done, 0 failed

Writes never block: what the terminal does not take waits in a bounded buffer, beyond which it is dropped; the log has all of it.
A closed terminal sets ``lost`` once, and nothing more is written to it; no method raises.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping

from tmax_pipes.jobs import kind_of, label_of
from tmax_pipes.messages import Done, Failed, Failure, Run
from tmax_pipes.terminal_text import printable

LINES_PER_S = 20
"""More tasks than this in a second are shown as one line."""
BUFFER_BYTES = 256 * 1024
LINES_BYTES = 16 * 1024
"""Room beyond that for the worker's own lines: the end of a task is shown also where its output was cut."""
_LABEL_CHARS = 200
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Where there is no pane we write to a file: a full disk must cost output, not the worker."""


class PaneSymbols:
    """The symbols used in the pane, in UTF-8 or in ASCII."""

    def __init__(self, *, unicode: bool) -> None:
        self.begin, self.done, self.failed, self.many = ("▶", "✔", "✘", "⋯") if unicode else (">", "+", "x", "...")


def is_utf8_locale(env: Mapping[str, str]) -> bool:
    """Return whether the locale in ``env`` is a UTF-8 one."""
    name = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or ""
    return "utf8" in name.lower().replace("-", "")


def printable_label(text: str) -> str:
    """Return ``text`` on one line of at most 200 characters, without anything a terminal would obey."""
    if len(text) <= _LABEL_CHARS and text.isascii() and text.isprintable():
        return text
    kept = printable(text)
    return kept if len(kept) <= _LABEL_CHARS else kept[: _LABEL_CHARS - 1] + "…"


def duration_text(duration_s: float) -> str:
    """Return a duration for people."""
    if duration_s < 0.1:
        return f"{duration_s * 1000:.1f} ms"
    return f"{duration_s:.1f} s" if duration_s < 120 else f"{duration_s / 60:.1f} min"


def failure_text(failure: Failure) -> str:
    """Return the reason of a failure on one line."""
    if failure.kind == "exit":
        return f"exit {failure.exit_code}"
    if failure.kind == "signal" and failure.signal:
        return signal_name(failure.signal)
    return printable_label(failure.message.partition("\n")[0]) or failure.kind


def signal_name(number: int) -> str:
    """Return ``SIGKILL`` for 9; ``signal 77`` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Pane:
    """Lines about tasks, and a buffer in front of the terminal.  IO thread only.

    ``fd`` is non-blocking, or -1 when there is no output.
    """

    def __init__(self, fd: int, *, unicode: bool) -> None:
        self.fd = fd
        self.lost = False
        self._symbols = PaneSymbols(unicode=unicode)
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

    def show_line(self, text: str) -> None:
        """Show one line of the worker; ``text`` is printable."""
        start = "" if self._at_line_start else "\n"
        self._add(f"{start}{text}\n".encode(self._encoding, "replace"), BUFFER_BYTES + LINES_BYTES)

    def begin(self, run: Run, now: float) -> None:
        """A task begins.  Task 0, the controller's no-op that proves this worker ready, is not shown."""
        if not run.task:
            return
        self._roll(now)
        if self._quiet or self._ended >= LINES_PER_S:
            self._begun = run
        else:
            self._show_begun(run)

    def _show_begun(self, run: Run) -> None:
        again = f" (try {run.tries})" if run.tries > 1 else ""
        self.show_line(f"{self._symbols.begin} {run.task} {kind_of(run.job)}  {printable_label(label_of(run.job))}{again}")

    def end(self, outcome: Done | Failed, now: float) -> None:
        """A task has ended."""
        if not outcome.task:
            self.show_line(f"{self._symbols.done} ready")
            return
        self._roll(now)
        self._begun = None
        self._ended += 1
        self._failed += isinstance(outcome, Failed)
        if self._quiet or self._ended > LINES_PER_S:
            self._hidden += 1
            return
        took = duration_text(outcome.report.duration_s)
        if isinstance(outcome, Done):
            self.show_line(f"{self._symbols.done} {outcome.task} done {took}")
        else:
            text = failure_text(outcome.failure)
            how = text if outcome.failure.kind == "cancelled" else f"failed: {text}"
            self.show_line(f"{self._symbols.failed} {outcome.task} {how} ({took})")

    def deadline(self) -> float | None:
        """Return when ``tick`` is due; None: never."""
        return self._window_since + 1.0 if self._hidden or self._begun else None

    def tick(self, now: float) -> None:
        """Show the lines held back, when their second has passed."""
        self._roll(now)

    def _roll(self, now: float) -> None:
        passed_s = now - self._window_since
        if passed_s < 1.0:
            return
        if self._hidden:
            done = self._ended - self._failed
            self.show_line(f"{self._symbols.many} {self._ended} tasks in {passed_s:.1f} s: {done} done, {self._failed} failed")
        if self._begun:
            self._show_begun(self._begun)
        self._quiet = self._ended > LINES_PER_S
        self._begun, self._window_since, self._ended, self._failed, self._hidden = None, now, 0, 0, 0

    # -- bytes -------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Show raw bytes: a task's output."""
        self._add(data, BUFFER_BYTES)

    def _add(self, data: bytes, limit: int) -> None:
        """Append what fits a buffer of ``limit`` bytes."""
        if not data or self.lost or self.fd < 0:
            return
        kept = data[: max(0, limit - len(self._buffer))]
        if kept:
            self._at_line_start = kept.endswith((b"\n", b"\r"))
            self._buffer += kept
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
                if error.errno in _DISK_FULL:
                    self._buffer.clear()
                    return
                # EIO and the like: the pane was closed.  The task continues; the IO thread reports it to the state machine.
                self.lost = True
                self._buffer.clear()
                return
            del self._buffer[:size]
