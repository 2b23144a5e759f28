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
from tmax.task_end import end_of_failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def run(common: say.Common, words: Sequence[str], *, request_id: str = "", **given: Any) -> int:
    """Submit a command (or with ``py`` a function) and stay with it; return its exit code, 128 + n for signal n.

    With ``json`` nothing is shown until it has ended; then everything, as one value.
    """
    from tmax.cli.follow import follow  # before the task exists: from then on Ctrl-C must reach it

    task_id = accept(common, task_of(words, **given), request_id or new_request_id())
    common.talk(f"task {task_id}")
    if _has_input():
        say.warn("note: what is piped in here does not reach the command; it reads from its worker's pane (pass a file instead)")
    cancelled: list[int] = []

    def cancel() -> None:
        cancelled.append(task_id)
        common.talk(f"\ncancelling task {task_id}; Ctrl-C again to leave at once")
        ask_again(common, "cancel", ids=[task_id])

    output: list[bytes] = []
    try:
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

    end = end_of_failure(task["state"], task.get("failure"))
    if common.json or (end.ok and task["kind"] != "shell"):
        outcome.show(common, task, blobs)
    elif not end.speaks:
        outcome.complain(task, common.flag)
    return end.exit_code
