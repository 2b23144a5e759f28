"""A task's outcome for a person or a program: its result on stdout, or its failure on stderr."""

from __future__ import annotations

from tmax.cli import say
from tmax.cli.codec import decode, encode
from tmax.cli.ends import not_ended
from tmax.errors import Exit, StoreError
from tmax.task_end import DONE, ENDS, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def show(common: say.Common, task: dict[str, Any], blobs: str) -> int:
    """Print what came of ``task`` (the answer of ``show``); ``blobs``: folder of large results.  Returns the exit code."""
    if task["state"] not in ENDS:
        raise not_ended(task, common.flag)
    if "blob" in task:
        _fetch(task, blobs)
    if common.json:
        say.value({"schema_version": say.SCHEMA_VERSION, "task": say.with_iso(task)})
    elif task["state"] == DONE:
        say.out(_text(task) + "\n")
    else:
        complain(task, common.flag)
    return int(Exit.OK if task["state"] == DONE else Exit.FAILED)


def _fetch(task: dict[str, Any], blobs: str) -> None:
    """Put the body of a large result where a small one would be.  A body that is not ours alone is never unpickled."""
    from tmax_pipes.blobs import get
    from tmax_pipes.errors import BlobError
    from tmax_pipes.jobs import Blob

    try:
        data = get(blobs, Blob(**task.pop("blob")))
    except BlobError as error:
        raise StoreError(
            f"the result of task {task['id']} cannot be read: {error.why}", hint=f"it should be {error.path}, yours alone and unchanged"
        ) from error
    if task["form"] == "json":
        task["result"] = decode(data.decode())
    else:
        import base64

        task["pickle"] = base64.b64encode(data).decode()


def _text(task: dict[str, Any]) -> str:
    if "pickle" in task:
        return unpickled(task)
    if "result" in task:
        return encode(task["result"])
    return f"exit code {task['exit_code']}" if task.get("exit_code") is not None else "null"


def unpickled(task: dict[str, Any]) -> str:
    """Return the ``repr`` of a result that is a Python value.  Raises StoreError when it cannot be made again here."""
    import base64
    import os
    import pickle
    import sys

    sys.path.insert(0, os.getcwd())
    try:
        return repr(pickle.loads(base64.b64decode(task["pickle"])))
    except Exception as error:  # unpickling imports and runs what the task's author wrote
        raise _unreadable(task, error) from error


def _unreadable(task: dict[str, Any], error: Exception) -> StoreError:
    made = StoreError(
        f"the result of task {task['id']} cannot be read here: {type(error).__name__}: {error}",
        hint="read it where its modules can be imported, or with --json",
    )
    made.exit_code = Exit.FAILED
    return made


def complain(task: dict[str, Any], flag: str = "") -> None:
    """Say on stderr why a task did not succeed: the remote traceback, two lines, and how its workers died."""
    failure = task.get("failure") or {}
    lines = [failure["traceback"].rstrip("\n")] if failure.get("traceback") else []
    lines.append(f"error: task {task['id']} {told(task['state'], task.get('why') or '')}")
    lines += [f"  worker {crash['worker']} died under it: {crash['cause']}" for crash in task.get("crashes") or ()]
    lines.append(f"hint: {failure.get('hint') or f'tmax logs{flag} ' + str(task['id'])}")
    say.warn("\n".join(lines))
