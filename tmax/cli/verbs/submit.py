"""``submit``: queue a task and print its id."""

from __future__ import annotations

from tmax.cli import output
from tmax.cli.declaration import ANY_WORDS, Verb
from tmax.cli.task_flags import TASK_FLAGS
from tmax.cli.task_request import new_request_id, submit_task, task_of
from tmax.errors import OutputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def submit(common: output.Common, words: Sequence[str], *, request_id: str = "", **options: Any) -> int:
    """Queue a command, or with ``py`` a Python function; print the task's id.  Raises UsageError, NoSwarm, WaitTimedOut, OutputError."""
    request_id = request_id or new_request_id()
    task_id = submit_task(common, task_of(words, **options), request_id)
    try:
        if common.json:
            output.write_json({"schema_version": output.SCHEMA_VERSION, "id": task_id, "request_id": request_id})
        else:
            output.write(f"{task_id}\n")
    except OutputError as error:
        error.hint = f"task {task_id} was accepted: submitting again would run it twice"
        raise
    common.notify(f"accepted; follow it with: tmax logs{common.flag} -f {task_id}")
    return 0


VERB = Verb(
    "submit",
    submit,
    usage="-- COMMAND ...",
    words=ANY_WORDS,
    passes_on=True,
    options=TASK_FLAGS,
    help="""Queue a command or a Python function and print its id.

    It runs in this working directory with this environment, umask and resource limits, in a worker's terminal, where
    pagers are set to cat.""",
    examples=(
        ("tmax submit -- python train.py --lr 0.1", "queue a command"),
        ("tmax submit -p high --timeout 30m -- make", "before others; ended after 30 minutes"),
        ("tmax submit --py math:hypot 3 4", "queue a function with JSON arguments"),
        ("id=$(tmax submit -q -- make)", "keep the id in a script"),
    ),
)
