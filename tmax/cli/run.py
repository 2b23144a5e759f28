"""``run``: submit, show the output as it comes, leave with the command's own exit code.

Ctrl-C once: the task is cancelled, what it still prints is shown, exit 130.   Twice: leave at once; the task still ends.
"""

from __future__ import annotations

import os
import stat

from tmax.cli import say
from tmax.cli.again import ask_again
from tmax.cli.submit import accept, new_request_id, task_of
from tmax.errors import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_NOT_FOUND = 127
_TIMED_OUT = 124
"""As ``timeout`` has it."""
_SAID_ITSELF = frozenset({"exit", "signal", "cancelled"})
"""Ends that need no words of ours: the command has said why, or the person knows."""


def run(common: say.Common, words: Sequence[str], *, request_id: str = "", **given: Any) -> int:
    """Submit a command (or with ``py`` a function) and stay with it; return its exit code, 128 + n for signal n.

    With ``json`` nothing is shown until it has ended; then everything, as one value.
    """
    from tmax.cli.follow import follow  # before the task exists: from then on Ctrl-C must reach it

    task_id = accept(common, task_of(words, **given), request_id or new_request_id())
    cancelled: list[int] = []

    def cancel() -> None:
        cancelled.append(task_id)
        common.talk(f"\ncancelling task {task_id}; Ctrl-C again to leave at once")
        ask_again(common, "cancel", ids=[task_id])

    output: list[bytes] = []
    try:
        common.talk(f"task {task_id}")
        if _has_input():
            say.warn("note: what is piped in here does not reach the command; it reads from its worker's pane (pass a file instead)")
        follow(common, task_id, cancel, output.append if common.json else say.out_bytes)
    except KeyboardInterrupt:
        if not cancelled:
            cancel()
        raise
    answer = ask_again(common, "show", id=task_id)
    if common.json:
        answer["task"]["output"] = b"".join(output).decode("utf-8", "replace")
    code = finish(common, answer["task"], answer["blobs"])
    return int(Exit.INTERRUPTED) if cancelled else code


def _has_input() -> bool:
    """Whether somebody gives this command something to read: a pipe, or a file that is not empty."""
    try:
        found = os.fstat(0)
    except OSError:
        return False
    return stat.S_ISFIFO(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_size > 0)


def finish(common: say.Common, task: dict[str, Any], blobs: str) -> int:
    """Print the result of a function, or why there is none; return the exit code that tells how ``task`` ended."""
    from tmax.cli import outcome

    if common.json or (task["state"] == "done" and task["kind"] != "shell"):
        outcome.show(common, task, blobs)
    elif task["state"] != "done" and (task.get("failure") or {}).get("kind") not in _SAID_ITSELF:
        outcome.complain(task, common.flag)
    return 0 if task["state"] == "done" else exit_code(task)


def exit_code(task: dict[str, Any]) -> int:
    """Return what a shell would see had it run this ended task itself."""
    failure = task.get("failure") or {}
    kind = failure.get("kind")
    if kind == "exit" and failure.get("exit_code"):
        return int(failure["exit_code"])
    if kind == "signal" and failure.get("signal"):
        return 128 + int(failure["signal"])
    if task["state"] == "cancelled" or kind == "cancelled":
        return int(Exit.INTERRUPTED)
    return {"notfound": _NOT_FOUND, "timeout": _TIMED_OUT}.get(str(kind), int(Exit.FAILED))
