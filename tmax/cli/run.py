"""``run``: submit, show the output as it comes, leave with the command's own exit code.

Ctrl-C once: the task is cancelled, what it still prints is shown, exit 130.   Twice: leave at once; the task still ends.
"""

from __future__ import annotations

from tmax.cli import say
from tmax.cli.ask import ask
from tmax.cli.submit import accept, new_request_id, task_of
from tmax.errors import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_NOT_FOUND = 127
_TIMED_OUT = 124
"""As ``timeout`` has it."""


def run(common: say.Common, words: Sequence[str], *, request_id: str = "", **given: Any) -> int:
    """Submit a command (or with ``py`` a function) and stay with it; return its exit code, 128 + n for signal n."""
    from tmax.cli.follow import follow

    task_id = accept(common, task_of(words, **given), request_id or new_request_id())
    common.talk(f"task {task_id}")
    cancelled = []

    def cancel() -> None:
        cancelled.append(task_id)
        common.talk(f"\ncancelling task {task_id}; Ctrl-C again to leave at once")
        ask(common.layout, "cancel", ids=[task_id])

    follow(common, task_id, cancel)
    answer = ask(common.layout, "show", id=task_id)
    if common.json:
        say.value({"schema_version": say.SCHEMA_VERSION, "task": say.with_iso(answer["task"])})
    return int(Exit.INTERRUPTED) if cancelled else finish(common, answer["task"], answer["blobs"])


def finish(common: say.Common, task: dict[str, Any], blobs: str) -> int:
    """Print the result of a function, or why there is none; return the exit code that tells how ``task`` ended."""
    from tmax.cli import outcome

    if task["state"] == "done":
        if task["kind"] != "shell" and not common.json:
            outcome.show(common, task, blobs)
        return 0
    code = exit_code(task)
    own = (task.get("failure") or {}).get("kind") in {"exit", "signal"}
    if not own and not common.json:  # a command that fails has said why itself
        outcome.complain(task, common.flag)
    return code


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
