"""A task that a command submits and stays with until it ends: ``run`` and ``kernel``.

A first signal (TERM, HUP, INT, QUIT), or an output that cannot be written, cancels the task; the rest of its output is still printed.
A second signal exits at once; the task still ends.
"""

from __future__ import annotations

from tmax.cli import output
from tmax.cli.follow import follow
from tmax.cli.input import Input
from tmax.cli.reconnect import request_again
from tmax.cli.signals import Signals
from tmax.cli.task_request import how_to_find_out, submit_task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _Unwritable(Exception):
    """The task's output cannot be written; ``error`` is the reason."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__()


class ForegroundTask:
    """One task of this command.  Handles signals from its creation to ``close``.

    ``source``: the standard input for the task; None: it has none.
    """

    def __init__(self, common: output.Common, source: Input | None) -> None:
        self._common = common
        self._source = source
        self._task = 0
        self._cancelled = False
        self._request_id = ""
        self._signals = Signals(self._report_first_signal, self._report_second_signal)

    @property
    def exit_code(self) -> int | None:
        """128 + n when signal n was received; else None."""
        return self._signals.exit_code if self._signals.number else None

    def run(self, task: dict[str, Any], request_id: str) -> dict[str, Any]:
        """Submit the task, print its output until it has ended, and return the reply to ``show``.

        With ``--json`` nothing is printed: the field ``output`` holds the output.  Raises OutputError, BrokenPipeError, NoSwarm.
        """
        common = self._common
        self._submit(task, request_id)
        common.notify(f"task {self._task}")
        pieces: list[bytes] = []
        try:
            if common.json:
                self._follow(pieces.append, None)
            else:
                self._follow(_checked(output.write_bytes), _checked(_write_stderr))
        except _Unwritable as unwritable:
            self._cancel()
            self._follow(_discard, None)
            raise unwritable.error from None
        reply = request_again(common.layout, "show", id=self._task)
        if common.json:
            reply["task"]["output"] = b"".join(pieces).decode("utf-8", "replace")
        return reply

    def wait(self, task: dict[str, Any], request_id: str) -> dict[str, Any]:
        """Submit the task, wait until it has ended, and return the reply to ``show``.  Raises NoSwarm."""
        self._submit(task, request_id)
        self._follow(_discard, None)
        return request_again(self._common.layout, "show", id=self._task)

    def _submit(self, task: dict[str, Any], request_id: str) -> None:
        self._request_id = request_id
        self._task = submit_task(self._common, task, request_id)

    def _follow(self, put: Callable[[bytes], object], put_stderr: Callable[[bytes], object] | None) -> None:
        watched = {self._signals.fd: self._on_signal}
        if self._source is not None and self._source.fd >= 0:
            watched[self._source.fd] = self._source.accept_worker
        follow(self._common, self._task, put, put_stderr, watched)

    def _report_first_signal(self) -> None:
        what = f"cancelling task {self._task}" if self._task else "cancelling the task once it is accepted"
        self._common.notify(f"\n{what}; a second signal exits at once")

    def _report_second_signal(self) -> None:
        if not self._task:
            output.write_message(f"note: {how_to_find_out(self._request_id)}")

    def _on_signal(self) -> None:
        self._signals.acknowledge()
        self._cancel()

    def _cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            request_again(self._common.layout, "cancel", ids=[self._task])

    def close(self) -> None:
        """Restore the signal handlers; close the standard input's socket."""
        self._signals.close()
        if self._source is not None:
            self._source.close()


def _write_stderr(data: bytes) -> None:
    output.write_all(2, data)


def _discard(_data: bytes) -> None:
    """Discard output."""


def _checked(write: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """Return ``write`` with its errors wrapped, so that they differ from errors of the control socket."""

    def checked(data: bytes) -> None:
        try:
            write(data)
        except Exception as error:
            raise _Unwritable(error) from error

    return checked
