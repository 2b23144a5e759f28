"""``result``: what a task returned, or why it failed."""

from __future__ import annotations

from tmax.cli import output
from tmax.cli.declaration import ONE_WORD, Verb
from tmax.cli.outcome import show
from tmax.cli.request import request, request_or_read
from tmax.cli.task_ids import TASK_HELP, one_task_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from tmax.errors import NoSwarm


def result(common: output.Common, words: Sequence[str]) -> int:
    """Print the result of one task; return 1 when it did not succeed.  Raises WaitTimedOut (75) when it has not ended, NotFound, UsageError."""

    def send() -> dict[str, Any]:
        return request(common.layout, "show", id=one_task_id(common.layout, words[0]))

    def read_store(missing: NoSwarm) -> dict[str, Any]:
        from tmax.cli import offline  # imports the controller's code

        return offline.show(common, missing, words)

    reply = request_or_read(send, read_store)
    return show(common, reply["task"], reply["blobs"])


VERB = Verb(
    "result",
    result,
    usage="TASK",
    words=ONE_WORD,
    help=f"""Print what a task returned.

    The result is printed as JSON, or as the repr of a Python object.  Exit 1, with the traceback on stderr, when the task failed; exit 75 when it has not ended.

    {TASK_HELP}""",
    examples=(("tmax result @", "the result of the last task"), ("tmax result 7 --json", "with the task's attempts and times")),
)
