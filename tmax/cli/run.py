"""``run``: submit, show the output as it comes, leave with the command's own exit code.

its stdin    ours (input.py)
its stdout   ours   } a terminal of its own, as large as ours, where both of ours are terminals, else two pipes
its stderr   ours   }
TERM, HUP, INT, QUIT of ours, or nobody reads what it prints: it is cancelled, what it still prints is shown, exit 128 + n
a second one: we leave at once; the task still ends
"""

from __future__ import annotations

import os

from tmax.cli import output
from tmax.cli.follow import follow
from tmax.cli.input import Input
from tmax.cli.reconnect import ask_again
from tmax.cli.signals import Signals
from tmax.cli.submit import accept, new_request_id, not_known, task_of
from tmax.task_end import end_of_failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


class _Unwritable(Exception):
    """What the command printed cannot be written; ``error`` says why."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__()


def run(common: output.Common, words: Sequence[str], *, request_id: str = "", **given: Any) -> int:
    """Submit a command (or with ``py`` a function) and stay with it; return its exit code, 128 + n for signal n.

    With ``json`` nothing is shown until it has ended; then everything, as one value.
    """
    task = task_of(words, **given)
    source = Input() if task["kind"] == "shell" else None
    if source is not None:
        # A terminal only where a person has one for all it prints: a pager or colours would be wrong in a pipe, and one terminal makes one stream.
        task["split"] = task["split"] or not (os.isatty(1) and os.isatty(2))
        task["stdin"] = source.path
        if not task["split"]:
            task["terminal_size"] = _terminal_size()
    job = Job(common, source)
    try:
        return job.run(task, request_id or new_request_id())
    finally:
        job.close()


def _terminal_size() -> list[int] | None:
    """Return rows and columns of our terminal; None when it does not tell."""
    try:
        columns, rows = os.get_terminal_size(1)
    except OSError:
        return None
    return [rows, columns] if rows and columns else None


class Job:
    """One task that ends when its command does, from the signals that are heard to its end."""

    def __init__(self, common: output.Common, source: Input | None) -> None:
        self._common = common
        self._source = source
        self._task = 0
        self._cancelled = False
        self._request_id = ""
        self._signals = Signals(self._say_first, self._say_second)

    @property
    def exit_code(self) -> int | None:
        """128 + n when signal n was heard; else None: the task's own end tells it."""
        return self._signals.exit_code if self._signals.number else None

    def run(self, task: dict[str, Any], request_id: str) -> int:
        """Show what it prints, and how it ended; return the exit code."""
        common = self._common
        self._accept(task, request_id)
        common.talk(f"task {self._task}")
        lines: list[bytes] = []
        try:
            if common.json:
                self._follow(lines.append, None)
            else:
                self._follow(_checked(output.out_bytes), _checked(_err_bytes))
        except _Unwritable as unwritable:
            self._cancel()
            self._follow(_ignore, None)
            raise unwritable.error from None
        answer = ask_again(common, "show", id=self._task)
        if common.json:
            answer["task"]["output"] = b"".join(lines).decode("utf-8", "replace")
        code = finish(common, answer["task"], answer["blobs"])
        return code if self.exit_code is None else self.exit_code

    def wait(self, task: dict[str, Any], request_id: str) -> dict[str, Any]:
        """Wait until it has ended, and return what ``show`` answers."""
        self._accept(task, request_id)
        self._follow(_ignore, None)
        return ask_again(self._common, "show", id=self._task)

    def _accept(self, task: dict[str, Any], request_id: str) -> None:
        self._request_id = request_id
        self._task = accept(self._common, task, request_id)

    def _follow(self, put: Callable[[bytes], object], put_stderr: Callable[[bytes], object] | None) -> None:
        watched = {self._signals.fd: self._signalled}
        if self._source is not None and self._source.fd >= 0:
            watched[self._source.fd] = self._source.answer
        follow(self._common, self._task, put, put_stderr, watched)

    def _say_first(self) -> None:
        what = f"cancelling task {self._task}" if self._task else "the task is cancelled once it is accepted"
        self._common.talk(f"\n{what}; once more to leave at once")

    def _say_second(self) -> None:
        if not self._task:
            output.warn(f"note: {not_known(self._request_id)}")

    def _signalled(self) -> None:
        self._signals.take()
        self._cancel()

    def _cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            ask_again(self._common, "cancel", ids=[self._task])

    def close(self) -> None:
        """Hear no more signals; give no more input."""
        self._signals.close()
        if self._source is not None:
            self._source.close()


def _err_bytes(data: bytes) -> None:
    output.write_all(2, data)


def _ignore(_data: bytes) -> None:
    """Nobody reads it."""


def _checked(write: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """Return ``write`` with what it raises told apart from what asking raises."""

    def checked(data: bytes) -> None:
        try:
            write(data)
        except Exception as error:
            raise _Unwritable(error) from error

    return checked


def finish(common: output.Common, task: dict[str, Any], blobs: str) -> int:
    """Print the result of a function, or why there is none; return the exit code that tells how ``task`` ended."""
    from tmax.cli import outcome

    end = end_of_failure(task["state"], task.get("failure"))
    if common.json or (end.ok and task["kind"] != "shell"):
        outcome.show(common, task, blobs)
    elif not end.speaks:
        outcome.complain(task, common.flag)
    return end.exit_code
