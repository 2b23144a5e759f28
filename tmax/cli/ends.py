"""``wait``, ``result``, ``cancel``: what becomes of tasks."""

from __future__ import annotations

from tmax.cli import say
from tmax.cli.ask import Lost, ask
from tmax.errors import Exit, NoSwarm, TmaxError, WaitTimedOut
from tmax.task_end import DONE, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def ids_of(common: say.Common, words: Sequence[str]) -> list[int]:
    """Return the ids that these words mean (``7 3-9 @ @~2 NAME``), in order and without repeats.  Raises NotFound, UsageError."""
    numbers = [int(word) if word.isascii() and word.isdigit() and len(word) < 16 else 0 for word in words]
    if all(numbers):
        return list(dict.fromkeys(numbers))
    ids: list[int] = ask(common.layout, "select", selectors=list(words))["ids"]
    return ids


def wait(
    common: say.Common, words: Sequence[str], *, timeout_s: float | None = None, fail_fast: bool = False, ignore_failures: bool = False
) -> int:
    """Wait until these tasks have ended; 1 when one of them did not succeed, 75 when the time is over."""
    try:
        tasks = ended(common, ids_of(common, words), timeout_s, fail_fast=fail_fast)
    except NoSwarm as missing:
        from tmax.cli import offline

        tasks = offline.ended(common, missing, words)
    if common.json:
        say.value(say.tasks_value(tasks))
    bad = [task for task in tasks if task["state"] != DONE]
    if bad and not common.json and not common.quiet:
        say.warn("\n".join(f"task {task['id']} {told(task['state'], task.get('why') or '')}" for task in bad))
    elif not bad:
        common.talk(f"{len(tasks)} task{'s' if len(tasks) > 1 else ''} done")
    return int(Exit.FAILED if bad and not ignore_failures else Exit.OK)


def ended(common: say.Common, ids: list[int], timeout_s: float | None = None, *, fail_fast: bool = False) -> list[dict[str, Any]]:
    """Return these tasks once all have ended; goes on with the next controller when this one ends.  Raises WaitTimedOut after ``timeout_s``."""
    import time

    from tmax.cli.again import TRIES, revive

    end_s = None if timeout_s is None else time.monotonic() + timeout_s
    for tries_left in reversed(range(TRIES)):
        fields = {} if end_s is None else {"timeout_s": max(0.0, end_s - time.monotonic())}
        try:
            tasks: list[dict[str, Any]] = ask(common.layout, "wait", 0, ids=ids, fail_fast=fail_fast, **fields)["tasks"]
            return tasks
        except Lost:
            if not tries_left:
                raise
            revive(common)
    raise AssertionError("the last try returns or raises")


def result(common: say.Common, words: Sequence[str]) -> int:
    """Print the result of one task: JSON, or the ``repr`` of a Python value; 1 when it did not succeed, 75 when it has not ended."""
    try:
        found = ids_of(common, words)
        answer = ask(common.layout, "show", id=found[0])
    except NoSwarm as missing:
        from tmax.cli import offline

        answer = offline.show(common, missing, words)
    from tmax.cli.outcome import show

    return show(common, answer["task"], answer["blobs"])


def cancel(common: say.Common, words: Sequence[str], *, dry_run: bool = False) -> int:
    """End tasks that have not ended; print what became of each."""
    rows = ask(common.layout, "cancel", ids=ids_of(common, words), dry_run=dry_run)["results"]
    if common.json:
        say.value({"schema_version": say.SCHEMA_VERSION, "results": rows})
    elif not common.quiet:
        say.out("".join(f"{_cancelled(row)}\n" for row in rows))
    return 0


def _cancelled(row: dict[str, Any]) -> str:
    was, now = row["was"], row["now"]
    return f"{row['id']} {now}" if was == now or was in now else f"{row['id']} {was} -> {now}"


def not_ended(task: dict[str, Any], flag: str) -> TmaxError:
    """Return the error for who wants the result of a task too early."""
    return WaitTimedOut(f"task {task['id']} has not ended ({task['state']})", hint=f"tmax wait{flag} {task['id']}")
