"""``workers``: the workers of the swarm."""

from __future__ import annotations

from tmax.cli import output
from tmax.cli.declaration import Verb
from tmax.cli.request import request


def workers(common: output.Common) -> int:
    """Print the workers, one a line; only their names with ``--quiet``.  Raises NoSwarm."""
    if common.json:
        found = request(common.layout, "workers")["workers"]
        output.write_json({"schema_version": output.SCHEMA_VERSION, "workers": output.with_iso_times(found)})
    elif common.quiet:
        output.write("".join(f"{worker['name']}\n" for worker in request(common.layout, "workers")["workers"]))
    else:
        output.write(request(common.layout, "workers", **common.text_format())["text"])
    return 0


VERB = Verb(
    "workers",
    workers,
    help="List the workers with state, task, pid, tmux session and pane.",
    examples=(("tmax workers", "a table"), ("tmax workers -q", "only the names"), ("tmax workers --json", "one JSON value, for programs")),
)
