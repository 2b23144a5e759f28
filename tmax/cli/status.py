"""``status``, ``workers``, ``ps``: ask, print what the controller wrote."""

from __future__ import annotations

from tmax.cli import output
from tmax.cli.ask import LOOK_S, SILENCE_S, ask, ask_or_read, stream
from tmax.errors import NoSwarm, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

LIMIT = 50
SOON = 1000
"""Rows for which a controller that is alive needs no time worth mentioning."""


def status(common: output.Common) -> int:
    """Print the swarm, its tasks and its workers; nothing with ``--quiet``, where the exit code says whether it runs."""

    def asked() -> int:
        if common.json:
            output.value(output.with_iso(ask(common.layout, "status")["snapshot"]))
        elif common.quiet:
            ask(common.layout, "hello")
        else:
            output.out(ask(common.layout, "status", **common.look())["text"])
        return 0

    def read(missing: NoSwarm) -> int:
        from tmax.cli import offline

        return offline.status(common, missing)

    return ask_or_read(asked, read)


def workers(common: output.Common) -> int:
    """Print the workers, one a line; their names only with ``--quiet``."""
    if common.json:
        found = ask(common.layout, "workers")["workers"]
        output.value({"schema_version": output.SCHEMA_VERSION, "workers": output.with_iso(found)})
    elif common.quiet:
        output.out("".join(f"{worker['name']}\n" for worker in ask(common.layout, "workers")["workers"]))
    else:
        output.out(ask(common.layout, "workers", **common.look())["text"])
    return 0


def ps(common: output.Common, *, every: bool = False, state: str = "", failed: bool = False, limit: int | None = None) -> int:
    """Print tasks, one a line; their ids only with ``--quiet``."""
    from tmax.task_end import BROKEN  # of all that is here only this verb needs it

    if state and failed:
        raise UsageError("--failed and --state cannot be given together", hint=f"--failed means --state {','.join(BROKEN)}")
    wanted = list(BROKEN) if failed else state.split(",") if state else []
    fields: dict[str, Any] = {"all": every, "limit": LIMIT if limit is None else limit}
    if wanted:
        fields["state"] = wanted
    silence_s = LOOK_S if 0 < fields["limit"] <= SOON else SILENCE_S
    look = common.look() if not common.json and not common.quiet else {}

    def read(missing: NoSwarm) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
        from tmax.cli import offline

        return _begun(offline.ps(common, missing, every=every, states=wanted, limit=fields["limit"]))

    show_tasks(common, *ask_or_read(lambda: _begun(stream(common.layout, "ps", silence_s, pieces=True, **fields, **look)), read))
    return 0


def _begun(lines: Iterator[dict[str, Any]]) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """Return the first line of an answer, and the others: once there is one, its source is settled."""
    return next(lines), lines


def show_tasks(common: output.Common, first: dict[str, Any], others: Iterator[dict[str, Any]]) -> None:
    """Print the lines of an answer in the form that was asked for, each as it comes."""
    listed = output.List("tasks")
    line: dict[str, Any] | None = first
    while line is not None:
        if common.json:
            listed.add(line["tasks"])
        elif common.quiet:
            output.out("".join(f"{task['id']}\n" for task in line["tasks"]))
        else:
            output.out(line["text"])
        line = next(others, None)
    if common.json:
        listed.end()
