"""Failures of the swarm itself that the program has not looked at: counted, and reported when the process ends.

::

    refused, or lost with its swarm --> count(future, ...) --> future.result() / exception(): looked at, counted no more
                                                           --> the process ends: one error line for each swarm, exit code not 0

A program that submits and goes away never looks at its futures.  What was not accepted would then be lost without a word.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any, Protocol

from tmax.api.task_errors import SwarmGone
from tmax.errors import ExitCode, TmaxError

NOT_ACCEPTED = "not accepted"
LOST = "accepted, and lost before they ended"


class Tally:
    """How many futures of one swarm failed in one way and were not looked at, and the reason of the first one."""

    def __init__(self, swarm: str, what: str) -> None:
        self.swarm = swarm
        self.what = what
        self.count = 0
        self.reason: BaseException = TmaxError("no reason is known")

    def line(self) -> str:
        """Return what a person should know, with a hint where there is one."""
        tasks = f"{self.count} task{'s were' if self.count != 1 else ' was'} {self.what}"
        where = (
            f" by swarm {self.swarm!r}" if self.swarm and self.what == NOT_ACCEPTED else f" (swarm {self.swarm!r})" if self.swarm else ""
        )
        reason = self.reason.message if isinstance(self.reason, TmaxError) else str(self.reason) or type(self.reason).__name__
        hint = self.reason.hint if isinstance(self.reason, TmaxError) else ""
        return f"error: {tasks}{where}: {reason}\n" + (f"hint: {hint}\n" if hint else "")


class Counted(Protocol):
    """A future whose failure is counted here."""

    tally: Tally | None


class _Book:
    """The tallies of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.tallies: dict[tuple[str, str], Tally] = {}


_book = _Book()


def count(future: Counted, swarm: str, what: str, reason: BaseException) -> None:
    """Count this future, which is about to fail with ``reason``, until the program looks at it."""
    with _book.lock:
        tally = _book.tallies.setdefault((swarm, what), Tally(swarm, what))
        if not tally.count:
            tally.reason = reason
        tally.count += 1
        future.tally = tally


def looked_at(future: Counted) -> None:
    """The program has seen how this future failed."""
    with _book.lock:
        if future.tally is not None:
            future.tally.count -= 1
            future.tally = None


def left() -> list[Tally]:
    """Return what was not looked at."""
    with _book.lock:
        return [tally for tally in _book.tallies.values() if tally.count]


def forget() -> None:
    """Let go of all of it: it was reported, or in a forked child it is the parent's, whose lock is not to be trusted."""
    _book.lock = threading.Lock()
    _book.tallies.clear()


def report_at_exit(*, interrupted: bool = False) -> None:
    """Report on standard error what was not looked at, and have this process end with an exit code that is not 0."""
    tallies = left()
    if not tallies:
        return
    reason = tallies[0].reason
    if isinstance(reason, TmaxError) and not isinstance(reason, SwarmGone):
        code = reason.exit_code
    else:  # of a swarm that is gone, only tasks that it had accepted are lost with it
        code = ExitCode.NO_SWARM if tallies[0].what == LOST else ExitCode.FAILED
    _exit_with(ExitCode.INTERRUPTED if interrupted else code or ExitCode.FAILED)
    try:
        sys.stderr.write("".join(tally.line() for tally in tallies))
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        pass  # closed, or never there; the exit code reports it, too
    forget()  # an exception's traceback holds the program's own values, such as a file that is not closed


class _ExitCode:
    """Ends the process with its code when it is destroyed."""

    def __init__(self, code: int) -> None:
        self._code = code

    def __del__(self, leave: Any = os._exit) -> None:
        leave(self._code)


def _exit_with(code: int) -> None:
    """Have the process end with this code once everything else has been torn down.

    An exception in an ``atexit`` function does not change the exit code, and ``os._exit`` there would skip the program's own functions
    and leave its open files unwritten.  The interpreter lets go of ``sys`` last, after all of these.
    """
    sys.__dict__["_tmax_exit_code"] = _ExitCode(code)
