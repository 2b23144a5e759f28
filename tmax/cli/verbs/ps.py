"""``ps``: a list of tasks."""

from __future__ import annotations

from tmax.cli import output
from tmax.cli.declaration import Option, Verb
from tmax.cli.request import READ_TIMEOUT_S, REPLY_TIMEOUT_S, request_or_read, request_stream
from tmax.core.option_values import count, one_of
from tmax.errors import NoSwarm, UsageError
from tmax.task_end import BROKEN, ENDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from tmax.layout import Layout

STATES = ("waiting", "ready", "sent", "running", *ENDS)
"""As ``tmax.core.model.TaskState``, whose import costs too much here; a test compares them."""
_read_state = one_of(*STATES)
_LIMIT = 50
_FAST_ROWS = 1000
"""Up to so many rows, a controller that does not reply within READ_TIMEOUT_S is taken to be stopped."""


def states(text: str) -> str:
    """Return a comma-separated list of task states unchanged.  Raises UsageError."""
    for one in text.split(","):
        _read_state(one)
    return text


def ps(common: output.Common, *, every: bool = False, state: str = "", failed: bool = False, limit: int = _LIMIT) -> int:
    """Print tasks, one a line; only their ids with ``--quiet``.  ``limit`` 0: all.  Raises NoSwarm, UsageError."""
    if state and failed:
        raise UsageError("--failed and --state cannot be given together", hint=f"--failed means --state {','.join(BROKEN)}")
    wanted = list(BROKEN) if failed else state.split(",") if state else []
    fields: dict[str, Any] = {"all": every, "limit": limit, **({"state": wanted} if wanted else {})}
    if not common.json and not common.quiet:
        fields |= common.text_format()

    def send() -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
        return _first_and_rest(_request_rows(common.layout, fields))

    def read_store(missing: NoSwarm) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
        from tmax.cli import offline  # imports the controller's code

        return _first_and_rest(offline.ps(common, missing, every=every, states=wanted, limit=limit))

    _print(common, *request_or_read(send, read_store))
    return 0


def _request_rows(layout: Layout, fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    timeout_s = READ_TIMEOUT_S if 0 < fields["limit"] <= _FAST_ROWS else REPLY_TIMEOUT_S
    return request_stream(layout, "ps", timeout_s, pieces=True, **fields)


def _first_and_rest(lines: Iterator[dict[str, Any]]) -> tuple[dict[str, Any], Iterator[dict[str, Any]]]:
    """Return the first line of a reply and the others: after the first, it is settled that this source can answer."""
    return next(lines), lines


def _print(common: output.Common, first: dict[str, Any], others: Iterator[dict[str, Any]]) -> None:
    """Print each line of a reply as it comes, in the form that the options chose."""
    rows = output.JsonList("tasks")
    line: dict[str, Any] | None = first
    while line is not None:
        if common.json:
            rows.add(line["tasks"])
        elif common.quiet:
            output.write("".join(f"{task['id']}\n" for task in line["tasks"]))
        else:
            output.write(line["text"])
        line = next(others, None)
    if common.json:
        rows.end()


VERB = Verb(
    "ps",
    ps,
    options=(
        Option("every", "-a", "--all", help="List ended tasks too."),
        Option("state", "--state", read=states, metavar="S[,S]", help=f"List only tasks in these states: {', '.join(STATES)}."),
        Option("failed", "--failed", help=f"List only tasks that are {', '.join(BROKEN[:-1])} or {BROKEN[-1]}."),
        Option("limit", "-l", "--limit", read=count, metavar="N", help="List at most N tasks; 0: all.", default=str(_LIMIT)),
    ),
    help="""List running and queued tasks.

    With --all, --state or --failed also ended ones, the newest first.""",
    examples=(
        ("tmax ps", "tasks that run or are queued"),
        ("tmax ps --failed", "tasks that did not succeed"),
        ("tmax ps -aq --limit 5", "the ids of five tasks"),
    ),
)
