"""``cancel``: end tasks."""

from __future__ import annotations

from tmax.cli import output
from tmax.cli.declaration import DRY_RUN, ONE_OR_MORE_WORDS, Verb
from tmax.cli.request import NO_TIMEOUT, request_stream, timeout_of
from tmax.cli.task_ids import TASKS_HELP, task_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_MANY = 200
"""From so many tasks on, the reply has no time-out: the controller commits them in parts."""


def cancel(common: output.Common, words: Sequence[str], *, dry_run: bool = False) -> int:
    """Cancel tasks that have not ended, and print the state of each before and after.  Raises NotFound, UsageError."""
    rows = output.JsonList("results")
    ids = task_ids(common.layout, words)
    timeout_s = timeout_of("cancel") if len(ids) <= _MANY else NO_TIMEOUT
    for line in request_stream(common.layout, "cancel", timeout_s, ids=ids, dry_run=dry_run, pieces=True):
        if common.json:
            rows.add(line["results"])
        elif not common.quiet:
            output.write("".join(f"{_change(row)}\n" for row in line["results"]))
    if common.json:
        rows.end()
    return 0


def _change(row: dict[str, Any]) -> str:
    was, now = row["was"], row["now"]
    return f"{row['id']} {now}" if was == now or was in now else f"{row['id']} {was} -> {now}"


VERB = Verb(
    "cancel",
    cancel,
    usage="TASK ...",
    words=ONE_OR_MORE_WORDS,
    options=(DRY_RUN,),
    help=f"""Cancel tasks that have not ended.

    A queued task ends at once.  A command gets TERM, and KILL after its grace period; a Python task gets an exception first.

    {TASKS_HELP}""",
    examples=(("tmax cancel 7 9-12", "cancel these tasks"), ("tmax cancel --dry-run train", "show which task has this name")),
)
