"""What the end of a task means.  The one table: command line, JSON, futures and dashboard take from here what they say.

::

    (state, failure kind, exit code, signal) --> TaskEnd: how a shell would see it, whether it is the program's own, in words

Imported by every command: standard library only, and none of that either.
"""

from __future__ import annotations

DONE = "done"
CANCELLED = "cancelled"
ENDS = (DONE, "failed", "dead", "interrupted", CANCELLED)
"""The states a task ends in."""
BROKEN = ("failed", "dead", "interrupted")
"""Those that nobody asked for."""

_TIMED_OUT = 124
"""As ``timeout`` has it."""
_NOT_FOUND = 127
_INTERRUPTED = 130
_FAILED = 1

_CODES = {"timeout": _TIMED_OUT, "notfound": _NOT_FOUND, CANCELLED: _INTERRUPTED}
"""Exit code of a kind of failure that is no program's own end."""
_OWN = ("exit", "signal")
"""Kinds of failure that the program has caused, and told, itself: it left with a status, or a signal reached it."""


class TaskEnd:
    """One end; all of it is derived, nothing is stored."""

    __slots__ = ("exit_code", "is_explained", "is_own", "signal", "state", "status", "words")

    def __init__(self, state: str, kind: str, exit_code: int | None, signal: int | None) -> None:
        failed = state == "failed"
        self.state = state
        self.is_own = state == DONE or (failed and kind in _OWN)
        """Whether the program ended by itself.  If not, no status of it may be shown: it has none."""
        self.status = 0 if state == DONE else exit_code if failed and kind in ("exit", "notfound") else None
        """The status the program left with, or a shell's for one that could not be started; None: there is none."""
        self.signal = signal if self.is_own and state != DONE else None
        """The signal that ended the program itself."""
        self.exit_code = _code_of(state, kind, exit_code, signal)
        """What a shell would see had it run the task."""
        self.is_explained = self.is_own or state == CANCELLED
        """Whether the user knows the reason already: the program printed it, or the user cancelled it."""
        self.words = _words_of(self, kind)
        """The end in a few words, for where no message was recorded."""

    @property
    def ok(self) -> bool:
        """True when it succeeded."""
        return self.state == DONE


def end_of(state: str, kind: str = "", exit_code: int | None = None, signal: int | None = None) -> TaskEnd:
    """Return the meaning of an end: ``kind``, ``exit_code`` and ``signal`` are those of the recorded failure, if there is one."""
    return TaskEnd(state, kind, exit_code, signal)


def end_of_failure(state: str, failure: object) -> TaskEnd:
    """Return the meaning of an end with this failure (a ``Failure``, or the dict that JSON makes of it, or None)."""
    if failure is None:
        return TaskEnd(state, "", None, None)
    if isinstance(failure, dict):
        return TaskEnd(state, failure.get("kind") or "", failure.get("exit_code"), failure.get("signal"))
    return TaskEnd(state, failure.kind, failure.exit_code, failure.signal)  # type: ignore[attr-defined]


def end_in_words(state: str, why: str) -> str:
    """Return an end in one line, with the message that was recorded: ``failed: exit 3``, ``cancelled from the pane``."""
    if why.startswith(state):
        return why
    return f"{state}: {why}" if why else state


def _code_of(state: str, kind: str, exit_code: int | None, signal: int | None) -> int:
    if state == DONE:
        return 0
    if state == CANCELLED:
        return _INTERRUPTED
    if kind in ("exit", "notfound") and exit_code:
        return exit_code
    if kind == "signal" and signal:
        return 128 + signal
    return _CODES.get(kind, _FAILED) if state == "failed" else _FAILED


def _words_of(end: TaskEnd, kind: str) -> str:
    if end.status:
        return f"exit {end.status}"
    if end.signal:
        return f"killed by signal {end.signal}"
    if end.state == "failed":
        return {"timeout": "timed out", "notfound": "not found"}.get(kind, end.state)
    return {"dead": "its workers died", "interrupted": "its worker ended while it ran"}.get(end.state, end.state)
