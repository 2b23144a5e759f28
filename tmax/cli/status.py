"""``status``, ``workers``, ``ps``: ask, print what the controller wrote."""

from __future__ import annotations

from tmax.cli import say
from tmax.cli.ask import LOOK_S, SILENCE_S, ask, stream
from tmax.errors import NoSwarm, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

LIMIT = 50
SOON = 1000
"""Rows for which a controller that is alive needs no time worth mentioning."""


def status(common: say.Common) -> int:
    """Print the swarm, its tasks and its workers; nothing with ``--quiet``, where the exit code says whether it runs."""
    try:
        if common.json:
            say.value(say.with_iso(ask(common.layout, "status")["snapshot"]))
        elif common.quiet:
            ask(common.layout, "hello")
        else:
            say.out(ask(common.layout, "status", **common.look())["text"])
    except NoSwarm as missing:
        from tmax.cli import offline

        return offline.status(common, missing)
    return 0


def workers(common: say.Common) -> int:
    """Print the workers, one a line; their names only with ``--quiet``."""
    if common.json:
        found = ask(common.layout, "workers")["workers"]
        say.value({"schema_version": say.SCHEMA_VERSION, "workers": say.with_iso(found)})
    elif common.quiet:
        say.out("".join(f"{worker['name']}\n" for worker in ask(common.layout, "workers")["workers"]))
    else:
        say.out(ask(common.layout, "workers", **common.look())["text"])
    return 0


def ps(common: say.Common, *, every: bool = False, state: str = "", failed: bool = False, limit: int | None = None) -> int:
    """Print tasks, one a line; their ids only with ``--quiet``."""
    from tmax.task_end import BROKEN  # of all that is here only this verb needs it

    if state and failed:
        raise UsageError("--failed and --state cannot be given together", hint=f"--failed means --state {','.join(BROKEN)}")
    wanted = list(BROKEN) if failed else state.split(",") if state else []
    fields: dict[str, Any] = {"all": every, "limit": LIMIT if limit is None else limit}
    if wanted:
        fields["state"] = wanted
    text = not common.json and not common.quiet
    lines = stream(
        common.layout, "ps", LOOK_S if 0 < fields["limit"] <= SOON else SILENCE_S, pieces=True, **fields, **(common.look() if text else {})
    )
    try:
        first = next(lines)
    except NoSwarm as missing:
        from tmax.cli import offline

        lines = offline.ps(common, missing, every=every, states=wanted, limit=fields["limit"])
        first = next(lines)
    show_tasks(common, first, lines)
    return 0


def show_tasks(common: say.Common, first: dict[str, Any], others: Iterator[dict[str, Any]]) -> None:
    """Print the lines of an answer in the form that was asked for, each as it comes."""
    listed = say.List("tasks")
    line: dict[str, Any] | None = first
    while line is not None:
        if common.json:
            listed.add(line["tasks"])
        elif common.quiet:
            say.out("".join(f"{task['id']}\n" for task in line["tasks"]))
        else:
            say.out(line["text"])
        line = next(others, None)
    if common.json:
        listed.end()
