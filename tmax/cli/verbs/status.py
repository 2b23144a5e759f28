"""``status``: the swarm, its tasks and its workers."""

from __future__ import annotations

from tmax.cli import output
from tmax.cli.declaration import Verb
from tmax.cli.request import request, request_or_read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tmax.errors import NoSwarm


def status(common: output.Common) -> int:
    """Print the swarm, its tasks and its workers; with ``--quiet`` nothing.  Raises NoSwarm (3) when no controller runs."""

    def send() -> int:
        if common.json:
            output.write_json(output.with_iso_times(request(common.layout, "status")["snapshot"]))
        elif common.quiet:
            request(common.layout, "hello")
        else:
            output.write(request(common.layout, "status", **common.text_format())["text"])
        return 0

    def read_store(missing: NoSwarm) -> int:
        from tmax.cli import offline  # imports the controller's code

        return offline.status(common, missing)

    return request_or_read(send, read_store)


VERB = Verb(
    "status",
    status,
    help="""Show the swarm, its tasks and its workers.

    Exit 3 when the swarm is not running.  tmax without a verb does the same.""",
    examples=(
        ("tmax", "the same as tmax status"),
        ("tmax status --json", "one JSON value, for programs"),
        ("tmax status -q || tmax init", "start the swarm unless it is running"),
    ),
)
