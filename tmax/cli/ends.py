"""``wait``, ``result``, ``cancel``: what becomes of tasks."""

from __future__ import annotations

from tmax.cli import output
from tmax.cli.ask import NO_LIMIT, Lost, ask, ask_or_read, silence_of, stream
from tmax.errors import ExitCode, NoSwarm, TmaxError, UsageError, WaitTimedOut
from tmax.task_end import DONE, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


ROWS = 200
"""Tasks whose lines are written at once."""
TOLD = 50
"""Failed tasks that a message names."""
WHY = 200
"""Characters of a reason in a message about several tasks."""
SLACK_S = 2.0
"""How much longer than its own limit a wait lets the controller take to say that the time is over."""
LOOKED_UP_PER_S = 5000
"""For so many tasks it has a second more: which of them have ended is looked up first, also with a limit of 0."""


def brief(text: str) -> str:
    """Return ``text`` on one line, cut to WHY characters and then marked."""
    line = " ".join(text[: 4 * WHY].split())
    return line if len(line) <= WHY and len(text) <= 4 * WHY else f"{line[: WHY - 1]}…"


def ids_of(common: output.Common, words: Sequence[str], silence_s: float | None = None) -> list[int]:
    """Return the ids that these words mean (``7 3-9 @ @~2 NAME``), in order and without repeats.  Raises NotFound, UsageError.

    ``silence_s``: as ``ask`` has it.
    """
    numbers = [int(word) if word.isascii() and word.isdigit() and len(word) < 16 else 0 for word in words]
    if all(numbers):
        return list(dict.fromkeys(numbers))
    ids: list[int] = ask(common.layout, "select", silence_s, selectors=list(words))["ids"]
    return ids


def wait(
    common: output.Common, words: Sequence[str], *, timeout_s: float | None = None, fail_fast: bool = False, ignore_failures: bool = False
) -> int:
    """Wait until these tasks have ended; 1 when one of them did not succeed, 75 when the time is over.

    There is no other limit than ``timeout_s``; a controller that is stopped or ends is waited for, or started again.
    """
    import time

    end_s = None if timeout_s is None else time.monotonic() + timeout_s

    def asked() -> list[dict[str, Any]]:
        ids = ids_of(common, words, NO_LIMIT if timeout_s is None else timeout_s + SLACK_S)
        return ended(common, ids, None if end_s is None else max(0.0, end_s - time.monotonic()), fail_fast=fail_fast)

    def read(missing: NoSwarm) -> list[dict[str, Any]]:
        from tmax.cli import offline

        return offline.ended(common, missing, words)

    tasks = ask_or_read(asked, read)
    if common.json:
        listed = output.List("tasks")
        for at in range(0, len(tasks), ROWS):
            listed.add(tasks[at : at + ROWS])
        listed.end()
    bad = [task for task in tasks if task["state"] != DONE]
    if bad and not common.json and not common.quiet:
        output.warn("\n".join(f"task {task['id']} {brief(told(task['state'], task.get('why') or ''))}" for task in bad[:TOLD]))
        if len(bad) > TOLD:
            output.warn(f"and {len(bad) - TOLD} more of {len(tasks)} did not succeed: tmax ps{common.flag} --failed --limit 0")
    elif not bad:
        common.talk(f"{len(tasks)} task{'s' if len(tasks) > 1 else ''} done")
    return int(ExitCode.FAILED if bad and not ignore_failures else ExitCode.OK)


def ended(common: output.Common, ids: list[int], timeout_s: float | None = None, *, fail_fast: bool = False) -> list[dict[str, Any]]:
    """Return these tasks once all have ended; goes on with the next controller when this one ends.

    Raises WaitTimedOut after ``timeout_s`` (None: no limit; 0: one look), also when the controller does not say so itself.
    """
    import time

    from tmax.cli.reconnect import TRIES, revive

    end_s = None if timeout_s is None else time.monotonic() + timeout_s
    for tries_left in reversed(range(TRIES)):
        left_s = None if end_s is None else max(0.0, end_s - time.monotonic())
        silence_s = NO_LIMIT if left_s is None else left_s + SLACK_S + len(ids) / LOOKED_UP_PER_S
        fields = {} if left_s is None else {"timeout_s": left_s}
        try:
            lines = stream(common.layout, "wait", silence_s, ids=ids, fail_fast=fail_fast, pieces=True, **fields)
            return [task for line in lines for task in line["tasks"]]
        except Lost:
            if not tries_left:
                raise
            revive(common)
    raise AssertionError("the last try returns or raises")


def result(common: output.Common, words: Sequence[str]) -> int:
    """Print the result of one task: JSON, or the ``repr`` of a Python value; 1 when it did not succeed, 75 when it has not ended."""

    def asked() -> dict[str, Any]:
        found = ids_of(common, words)
        if len(found) != 1:
            raise UsageError(f"{' '.join(words)} means {len(found)} tasks", hint="result shows one")
        return ask(common.layout, "show", id=found[0])

    def read(missing: NoSwarm) -> dict[str, Any]:
        from tmax.cli import offline

        return offline.show(common, missing, words)

    answer = ask_or_read(asked, read)
    from tmax.cli.outcome import show

    return show(common, answer["task"], answer["blobs"])


def cancel(common: output.Common, words: Sequence[str], *, dry_run: bool = False) -> int:
    """End tasks that have not ended; print what became of each."""
    listed = output.List("results")
    # No limit of silence where there are many: each part of them is a commit.
    ids = ids_of(common, words)
    for line in stream(
        common.layout, "cancel", silence_of("cancel") if len(ids) <= ROWS else NO_LIMIT, ids=ids, dry_run=dry_run, pieces=True
    ):
        if common.json:
            listed.add(line["results"])
        elif not common.quiet:
            output.out("".join(f"{_cancelled(row)}\n" for row in line["results"]))
    if common.json:
        listed.end()
    return 0


def _cancelled(row: dict[str, Any]) -> str:
    was, now = row["was"], row["now"]
    return f"{row['id']} {now}" if was == now or was in now else f"{row['id']} {was} -> {now}"


def not_ended(task: dict[str, Any], flag: str) -> TmaxError:
    """Return the error for who wants the result of a task too early."""
    return WaitTimedOut(f"task {task['id']} has not ended ({task['state']})", hint=f"tmax wait{flag} {task['id']}")
