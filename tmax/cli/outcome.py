"""A task's outcome: its result on stdout, or its failure on stderr."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

from tmax.cli import output
from tmax.cli.codec import encode
from tmax.errors import ExitCode, StoreError, WaitTimedOut
from tmax.task_end import DONE, ENDS, end_in_words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

_CHUNK_BYTES = 3 << 18
"""A multiple of 3, so that the base64 of the pieces joins to the base64 of the whole."""


def show(common: output.Common, task: dict[str, Any], blobs: str) -> int:
    """Print the result or the failure of ``task``, a reply to ``show``; return the exit code.

    ``blobs``: the folder of large results.  Raises WaitTimedOut when the task has not ended, StoreError when its result cannot be read.
    """
    if task["state"] not in ENDS:
        raise WaitTimedOut(f"task {task['id']} has not ended ({task['state']})", hint=f"wait for it: tmax wait{common.flag} {task['id']}")
    if "blob" in task:
        _show_large(common, task, blobs)
    elif common.json:
        output.write_json({"schema_version": output.SCHEMA_VERSION, "task": output.with_iso_times(task)})
    elif task["state"] == DONE:
        output.write(_text(task) + "\n")
    else:
        report_failure(task, common.flag)
    return int(ExitCode.OK if task["state"] == DONE else ExitCode.FAILED)


def _show_large(common: output.Common, task: dict[str, Any], blobs: str) -> None:
    """Print a result that is kept in a file, piece by piece.  A file that other users could have written is never unpickled."""
    with _opened(task, blobs) as file:
        is_json = task["form"] == "json"
        if common.json:
            key = "result" if is_json else "pickle"
            output.write(encode({"schema_version": output.SCHEMA_VERSION, "task": output.with_iso_times(task)})[:-2] + f', "{key}": ')
            for data in _json_text(file) if is_json else _base64_text(file):
                output.write_bytes(data)
            output.write("}}\n")
        elif is_json:
            for data in _json_text(file):
                output.write_bytes(data)
            output.write("\n")
        else:
            output.write(unpickled(task, file.read()) + "\n")


def _opened(task: dict[str, Any], blobs: str) -> BinaryIO:
    from tmax_pipes.blobs import opened
    from tmax_pipes.jobs import Blob
    from tmax_pipes.pipe_errors import BlobError

    try:
        return opened(blobs, Blob(**task.pop("blob")))
    except BlobError as error:
        raise StoreError(
            f"the result of task {task['id']} cannot be read: {error.why}",
            hint=f"it should be the file {error.path}, unchanged and accessible to you alone",
        ) from error


def _json_text(file: BinaryIO) -> Iterator[bytes]:
    while data := file.read(_CHUNK_BYTES):
        yield data


def _base64_text(file: BinaryIO) -> Iterator[bytes]:
    yield b'"'
    while data := file.read(_CHUNK_BYTES):
        yield b2a_base64(data, newline=False)
    yield b'"'


def _text(task: dict[str, Any]) -> str:
    if "pickle" in task:
        return unpickled(task, a2b_base64(task["pickle"]))
    if "result" in task:
        return encode(task["result"])
    return f"exit code {task['exit_code']}" if task.get("exit_code") is not None else "null"


def unpickled(task: dict[str, Any], data: bytes) -> str:
    """Return the ``repr`` of a pickled result.  Raises StoreError when it cannot be unpickled in this environment."""
    import os
    import sys

    from tmax.cli.standins import StandInUnpickler

    try:
        sys.path.insert(0, os.getcwd())
    except FileNotFoundError:
        pass  # the working directory was removed: nothing can be imported from it
    try:
        return repr(StandInUnpickler(data).load())
    except Exception as error:  # unpickling imports and runs code of the task's author
        raise _unreadable(task, error) from error


def _unreadable(task: dict[str, Any], error: Exception) -> StoreError:
    found = StoreError(
        f"the result of task {task['id']} cannot be read here: {type(error).__name__}: {error}",
        hint="run tmax result where its modules can be imported, or add --json",
    )
    found.exit_code = ExitCode.FAILED
    return found


def report_failure(task: dict[str, Any], flag: str = "") -> None:
    """Write to stderr why a task did not succeed: the remote traceback, the error, how its workers died, a hint."""
    failure = task.get("failure") or {}
    lines = [failure["traceback"].rstrip("\n")] if failure.get("traceback") else []
    lines.append(f"error: task {task['id']} {end_in_words(task['state'], task.get('why') or '')}")
    lines += [f"  worker {crash['worker']} died while it ran the task: {crash['cause']}" for crash in task.get("crashes") or ()]
    lines.append(f"hint: {failure.get('hint') or f'its output: tmax logs{flag} ' + str(task['id'])}")
    output.write_message("\n".join(lines))
