"""``run``: submit a command, print its output as it comes, exit with the command's own exit code.

its stdin    this process's (input.py)
its stdout   this process's  } one terminal of this one's size where both are terminals, else two pipes
its stderr   this process's  }
"""

from __future__ import annotations

import os

from tmax.cli import output
from tmax.cli.declaration import ANY_WORDS, Verb
from tmax.cli.foreground_task import ForegroundTask
from tmax.cli.input import Input
from tmax.cli.outcome import report_failure, show
from tmax.cli.task_flags import TASK_FLAGS
from tmax.cli.task_request import new_request_id, task_of
from tmax.task_end import end_of_failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def run(common: output.Common, words: Sequence[str], *, request_id: str = "", **options: Any) -> int:
    """Run a command, or with ``py`` a function, as a task; return its exit code, 128 + n when signal n ended it or this process.

    With ``--json`` the output and the result are printed at the end, as one value.  Raises UsageError, NoSwarm, OutputError.
    """
    task = task_of(words, **options)
    source = Input() if task["kind"] == "shell" else None
    if source is not None:
        # One terminal makes one stream of stdout and stderr, and in a pipe a command must find no terminal: no pager, no colours.
        task["split"] = task["split"] or not (os.isatty(1) and os.isatty(2))
        task["stdin"] = source.path
        if not task["split"]:
            task["terminal_size"] = _terminal_size()
    running = ForegroundTask(common, source)
    try:
        reply = running.run(task, request_id or new_request_id())
        code = finish(common, reply["task"], reply["blobs"])
        return code if running.exit_code is None else running.exit_code
    finally:
        running.close()


def _terminal_size() -> list[int] | None:
    """Return rows and columns of this terminal; None when they are unknown."""
    try:
        columns, rows = os.get_terminal_size(1)
    except OSError:
        return None
    return [rows, columns] if rows and columns else None


def finish(common: output.Common, task: dict[str, Any], blobs: str) -> int:
    """Print the result of a function, or why there is none; return the exit code that the task's end means."""
    end = end_of_failure(task["state"], task.get("failure"))
    if common.json or (end.ok and task["kind"] != "shell"):
        show(common, task, blobs)
    elif not end.is_explained:
        report_failure(task, common.flag)
    return end.exit_code


VERB = Verb(
    "run",
    run,
    usage="-- COMMAND ...",
    words=ANY_WORDS,
    passes_on=True,
    options=TASK_FLAGS,
    help="""Run a command on the swarm and exit with its exit code.

    The output is printed as it comes.  The command has this command's stdin, stdout and stderr.  It has a terminal only if stdout and stderr are terminals;
    pagers are set to cat.  The exit code is 128 + n when signal n ended the command.

    Ctrl-C, TERM, HUP and QUIT cancel the task.""",
    examples=(
        ("tmax run -- make test", "run it on a worker; Ctrl-C cancels it"),
        ("sort names | tmax run -- uniq -c | less", "run it in a pipe"),
        ("tmax run --timeout 10m -- ./job", "end it after 10 minutes, with exit code 124"),
        ("tmax run --py json:dumps '[1, 2]'", "call a function and print its result"),
    ),
)
