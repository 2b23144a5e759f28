"""A task's outcome for a person or a program: its result on stdout, or its failure on stderr."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

from tmax.cli import output
from tmax.cli.codec import encode
from tmax.cli.ends import not_ended
from tmax.errors import ExitCode, StoreError
from tmax.task_end import DONE, ENDS, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

_CHUNK_BYTES = 3 << 18
"""A multiple of three, so that the base64 of the pieces is the base64 of the whole."""


def show(common: output.Common, task: dict[str, Any], blobs: str) -> int:
    """Print what came of ``task`` (the answer of ``show``); ``blobs``: folder of large results.  Returns the exit code."""
    if task["state"] not in ENDS:
        raise not_ended(task, common.flag)
    if "blob" in task:
        _show_large(common, task, blobs)
    elif common.json:
        output.value({"schema_version": output.SCHEMA_VERSION, "task": output.with_iso(task)})
    elif task["state"] == DONE:
        output.out(_text(task) + "\n")
    else:
        complain(task, common.flag)
    return int(ExitCode.OK if task["state"] == DONE else ExitCode.FAILED)


def _show_large(common: output.Common, task: dict[str, Any], blobs: str) -> None:
    """Print a result that is kept in a file, piece by piece.  A body that is not ours alone is never unpickled."""
    with _opened(task, blobs) as file:
        is_json = task["form"] == "json"
        if common.json:
            key = "result" if is_json else "pickle"
            output.out(encode({"schema_version": output.SCHEMA_VERSION, "task": output.with_iso(task)})[:-2] + f', "{key}": ')
            for data in _json_text(file) if is_json else _base64_text(file):
                output.out_bytes(data)
            output.out("}}\n")
        elif is_json:
            for data in _json_text(file):
                output.out_bytes(data)
            output.out("\n")
        else:
            output.out(unpickled(task, file.read()) + "\n")


def _opened(task: dict[str, Any], blobs: str) -> BinaryIO:
    from tmax_pipes.blobs import opened
    from tmax_pipes.jobs import Blob
    from tmax_pipes.pipe_errors import BlobError

    try:
        return opened(blobs, Blob(**task.pop("blob")))
    except BlobError as error:
        raise StoreError(
            f"the result of task {task['id']} cannot be read: {error.why}", hint=f"it should be {error.path}, yours alone and unchanged"
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
    """Return the ``repr`` of a result that is a Python value.  Raises StoreError when it cannot be made again here."""
    import os
    import sys

    from tmax.cli.standins import StandInUnpickler

    try:
        sys.path.insert(0, os.getcwd())
    except FileNotFoundError:
        pass  # the working directory was removed: nothing is imported from it
    try:
        return repr(StandInUnpickler(data).load())
    except Exception as error:  # unpickling imports and runs what the task's author wrote
        raise _unreadable(task, error) from error


def _unreadable(task: dict[str, Any], error: Exception) -> StoreError:
    made = StoreError(
        f"the result of task {task['id']} cannot be read here: {type(error).__name__}: {error}",
        hint="read it where its modules can be imported, or with --json",
    )
    made.exit_code = ExitCode.FAILED
    return made


def complain(task: dict[str, Any], flag: str = "") -> None:
    """Say on stderr why a task did not succeed: the remote traceback, two lines, and how its workers died."""
    failure = task.get("failure") or {}
    lines = [failure["traceback"].rstrip("\n")] if failure.get("traceback") else []
    lines.append(f"error: task {task['id']} {told(task['state'], task.get('why') or '')}")
    lines += [f"  worker {crash['worker']} died under it: {crash['cause']}" for crash in task.get("crashes") or ()]
    lines.append(f"hint: {failure.get('hint') or f'tmax logs{flag} ' + str(task['id'])}")
    output.warn("\n".join(lines))
