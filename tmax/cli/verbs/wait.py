"""``wait``: wait until tasks have ended."""

from __future__ import annotations

from tmax.cli import output
from tmax.cli.declaration import ONE_OR_MORE_WORDS, Option, Verb
from tmax.cli.reconnect import TRIES, start_controller
from tmax.cli.request import NO_TIMEOUT, ControllerEnded, request_or_read, request_stream
from tmax.cli.task_ids import TASKS_HELP, task_ids
from tmax.core.option_values import seconds
from tmax.errors import ExitCode
from tmax.task_end import DONE, end_in_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tmax.errors import NoSwarm
    from tmax.layout import Layout

_ROWS = 200
"""Tasks written at once."""
_NAMED = 50
"""Unsuccessful tasks that are named."""
_REASON_CHARS = 200
SLACK_S = 2.0
"""How much longer than the user's own limit the command waits for the controller's reply."""
_LOOKUPS_PER_S = 5000
"""The controller looks up which tasks have ended before it waits; the reply may take 1 s longer for so many tasks."""


def wait(
    common: output.Common, words: Sequence[str], *, timeout_s: float | None = None, fail_fast: bool = False, ignore_failures: bool = False
) -> int:
    """Wait until tasks have ended; return 1 when one did not succeed.  Raises WaitTimedOut (75) after ``timeout_s``, NotFound, UsageError.

    Only ``timeout_s`` limits the wait: a controller that is stopped is waited for, one that ends is started again.
    """
    import time  # only this verb needs it

    end_s = None if timeout_s is None else time.monotonic() + timeout_s

    def send() -> list[dict[str, Any]]:
        ids = task_ids(common.layout, words, NO_TIMEOUT if timeout_s is None else timeout_s + SLACK_S)
        return _wait_for(common.layout, ids, None if end_s is None else max(0.0, end_s - time.monotonic()), fail_fast=fail_fast)

    def read_store(missing: NoSwarm) -> list[dict[str, Any]]:
        from tmax.cli import offline  # imports the controller's code

        return offline.ended(common, missing, words)

    tasks = request_or_read(send, read_store)
    unsuccessful = [task for task in tasks if task["state"] != DONE]
    if common.json:
        _print_json(tasks)
    elif unsuccessful:
        _report(common, unsuccessful, len(tasks))
    else:
        common.notify(f"{len(tasks)} task{'s' if len(tasks) > 1 else ''} done")
    return int(ExitCode.FAILED if unsuccessful and not ignore_failures else ExitCode.OK)


def _wait_for(layout: Layout, ids: list[int], timeout_s: float | None, *, fail_fast: bool) -> list[dict[str, Any]]:
    """Return these tasks once all have ended; starts another controller when this one ends.

    Raises WaitTimedOut after ``timeout_s`` (None: no limit; 0: checks once), also when the controller does not reply.
    """
    import time

    end_s = None if timeout_s is None else time.monotonic() + timeout_s
    for tries_left in reversed(range(TRIES)):
        left_s = None if end_s is None else max(0.0, end_s - time.monotonic())
        reply_timeout_s = NO_TIMEOUT if left_s is None else left_s + SLACK_S + len(ids) / _LOOKUPS_PER_S
        fields = {} if left_s is None else {"timeout_s": left_s}
        try:
            lines = request_stream(layout, "wait", reply_timeout_s, ids=ids, fail_fast=fail_fast, pieces=True, **fields)
            return [task for line in lines for task in line["tasks"]]
        except ControllerEnded:
            if not tries_left:
                raise
            start_controller(layout)
    raise AssertionError("the last try returns or raises")


def _print_json(tasks: list[dict[str, Any]]) -> None:
    rows = output.JsonList("tasks")
    for at in range(0, len(tasks), _ROWS):
        rows.add(tasks[at : at + _ROWS])
    rows.end()


def _report(common: output.Common, unsuccessful: list[dict[str, Any]], count: int) -> None:
    if common.quiet:
        return
    output.write_message(
        "\n".join(f"task {task['id']} {_brief(end_in_words(task['state'], task.get('why') or ''))}" for task in unsuccessful[:_NAMED])
    )
    if len(unsuccessful) > _NAMED:
        more = len(unsuccessful) - _NAMED
        output.write_message(f"and {more} more of {count} did not succeed: tmax ps{common.flag} --failed --limit 0")


def _brief(text: str) -> str:
    """Return ``text`` on one line, cut to _REASON_CHARS characters with an ellipsis."""
    line = " ".join(text[: 4 * _REASON_CHARS].split())
    return line if len(line) <= _REASON_CHARS and len(text) <= 4 * _REASON_CHARS else f"{line[: _REASON_CHARS - 1]}…"


VERB = Verb(
    "wait",
    wait,
    usage="TASK ...",
    words=ONE_OR_MORE_WORDS,
    options=(
        Option(
            "timeout_s",
            "--timeout",
            read=seconds,
            metavar="TIME",
            help="Wait at most this long, then exit 75: seconds, or 250ms, 30s, 30m, 1h30m, 2d; 0 checks once.",
            default="no limit",
        ),
        Option("fail_fast", "--fail-fast", help="Return as soon as one task did not succeed."),
        Option("ignore_failures", "--ignore-failures", help="Exit 0 even when a task did not succeed."),
    ),
    help=f"""Wait until tasks have ended.

    Exit 0 when all succeeded, 1 when one did not, 75 when the wait timed out.

    {TASKS_HELP}""",
    examples=(
        ("tmax wait 7 9-12", "wait for these tasks"),
        ("tmax wait --timeout 10m @ || echo $?", "75: the wait timed out; the task is still running"),
    ),
)
