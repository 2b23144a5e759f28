"""``status``, ``workers``, ``ps``: ask, print what the controller wrote."""

from __future__ import annotations

from tmax.cli import say
from tmax.cli.ask import ask
from tmax.errors import NoSwarm, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FAILED = ("failed", "dead", "interrupted")
LIMIT = 50
_NO_LIMIT = (1 << 63) - 1


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
    if state and failed:
        raise UsageError("--failed and --state cannot be given together", hint=f"--failed means --state {','.join(FAILED)}")
    wanted = list(FAILED) if failed else state.split(",") if state else []
    fields: dict[str, Any] = {"all": every, "limit": LIMIT if limit is None else limit or _NO_LIMIT}
    if wanted:
        fields["state"] = wanted
    text = not common.json and not common.quiet
    try:
        answer = ask(common.layout, "ps", **fields, **(common.look() if text else {}))
    except NoSwarm as missing:
        from tmax.cli import offline

        answer = offline.ps(common, missing, every=every, states=wanted, limit=fields["limit"])
    show_tasks(common, answer)
    return 0


def show_tasks(common: say.Common, answer: dict[str, Any]) -> None:
    """Print a list of tasks in the form that was asked for."""
    if common.json:
        say.value(say.tasks_value(answer["tasks"]))
    elif common.quiet:
        say.out("".join(f"{task['id']}\n" for task in answer["tasks"]))
    else:
        say.out(answer["text"])
