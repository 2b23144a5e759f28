"""Describing a task to the controller, and having it accepted exactly once.

    task_of(words) --> submit (request_id) --> id
                         no controller, or it ended before it replied --> start one (not when the swarm was taken down) --> submit again

Each try carries the same request id, so that a task whose acceptance was not received is not accepted twice.
"""

from __future__ import annotations

import os
import resource
import sys

from tmax.cli import output
from tmax.cli.codec import decode
from tmax.cli.reconnect import request_again
from tmax.cli.request import READ_TIMEOUT_S, request
from tmax.errors import TmaxError, UsageError, WaitTimedOut
from tmax.layout import submitting_task

STDLIB = "<stdlib>"
"""As in ``tmax_pipes.jobs``, whose import would cost more than the whole command; a test compares the two."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")
"""Values that the interpreter may set LC_CTYPE to at its start (PEP 538)."""


def new_request_id() -> str:
    """Return a random request id: 96 bits as hexadecimal text."""
    return os.urandom(12).hex()


def task_of(words: Sequence[str], *, py: str = "", split: bool = False, **settings: Any) -> dict[str, Any]:
    """Return the task that these words and options describe, as a request to the control socket.  Raises UsageError."""
    if py:
        if split:
            raise UsageError("--split and --py cannot be given together", hint="--split is for commands: a function has no terminal")
        return {**python_task(py, words), **process_settings(), **settings}
    if not words:
        raise UsageError("no command given", hint="add: -- COMMAND [ARGUMENT ...], or: --py MODULE:FUNCTION [JSON ...]")
    shell = {"kind": "shell", "argv": list(words), "split": split, "cwd": working_folder(), "env": _without_coerced_locale(environment())}
    return {**shell, **process_settings(), **settings}


def python_task(target: str, words: Sequence[str]) -> dict[str, Any]:
    """Return a call of ``MODULE:FUNCTION``; each word is an argument (see ``argument``), ``KEY=JSON`` a keyword argument."""
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if equals and key.isidentifier():
            kwargs[key] = argument(text)
        else:
            args.append(argument(word))
    folder = working_folder()
    first = [os.path.abspath(one) for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    installed = [one for one in sys.path if one.endswith(("site-packages", "dist-packages"))]
    path = [folder, *first, STDLIB, *installed]
    return {"kind": "python", "target": target, "args": args, "kwargs": kwargs, "cwd": folder, "path": path, "env": environment()}


def argument(word: str) -> Any:
    """Return the JSON value of a word; the word itself when it is not JSON; for ``-`` the JSON value on stdin.  Raises UsageError."""
    if word == "-":
        if sys.stdin is None:
            raise UsageError("- reads a JSON value from standard input, which is closed")
        try:
            return decode(sys.stdin.read())
        except ValueError as error:
            raise UsageError("- reads one JSON value from standard input, which holds something else") from error
        except OSError as error:
            raise UsageError(f"standard input cannot be read: {error.strerror}") from error
    try:
        return decode(word)
    except ValueError:
        return word


def working_folder() -> str:
    """Return the working directory.  Raises UsageError when it has been removed."""
    try:
        return os.getcwd()
    except FileNotFoundError as error:
        raise UsageError("the working directory no longer exists", hint="cd to another one first") from error


def environment() -> dict[str, str]:
    """Return the environment without tmux's variables, which name the pane of this command and not the worker's."""
    return {key: text for key, text in os.environ.items() if not key.startswith("TMUX")}


def _without_coerced_locale(env: dict[str, str]) -> dict[str, str]:
    """Return ``env`` with the LC_CTYPE that this process was started with.

    Where no locale is set, as under cron, the interpreter sets LC_CTYPE at its start; a command run directly would not have it.
    A Python function keeps it, because any interpreter would have set it.
    """
    if env.get("LC_CTYPE") not in _COERCED:
        return env
    with open("/proc/self/environ", "rb") as file:
        before = [one.partition(b"=")[2] for one in file.read().split(b"\0") if one.startswith(b"LC_CTYPE=")]
    if before:
        return {**env, "LC_CTYPE": os.fsdecode(before[0])}
    return {key: text for key, text in env.items() if key != "LC_CTYPE"}


def process_settings() -> dict[str, Any]:
    """Return the umask and the resource limits of this process, which a task of any kind inherits."""
    umask = os.umask(0o077)  # reading it requires setting it; no file is created in between
    os.umask(umask)
    return {"umask": umask, "limits": limits()}


def limits() -> dict[str, list[int]]:
    """Return the resource limits of this process: number to [soft, hard]; -1 for no limit."""
    found = {}
    for number in range(resource.RLIMIT_RTTIME + 1):
        try:
            found[str(number)] = list(resource.getrlimit(number))
        except ValueError:
            pass  # this kernel has no limit of this number
    return found


def submit_task(common: output.Common, task: dict[str, Any], request_id: str) -> int:
    """Have the task accepted exactly once and return its id; Ctrl-C cancels it.  Raises as ``request_again`` does."""
    parent = submitting_task(common.layout.swarm)
    if parent:
        task["parent"] = parent
    try:
        ids: list[int] = request_again(common.layout, "submit", tasks=[task], request_id=request_id)["ids"]
    except WaitTimedOut as error:
        error.hint = how_to_find_out(request_id)
        raise
    except KeyboardInterrupt:
        _cancel_submitted(common, task, request_id)
        raise
    return ids[0]


def how_to_find_out(request_id: str) -> str:
    """Return the hint for a submit without a reply: how to learn whether the task was accepted."""
    return f"the task may have been accepted; to find out, repeat the command with --request-id {request_id}"


def _cancel_submitted(common: output.Common, task: dict[str, Any], request_id: str) -> None:
    """Cancel the task of a submit that Ctrl-C has interrupted before the reply; another Ctrl-C exits at once.

    The request is sent again to learn the task's id; if it did not arrive the first time, this creates the task and cancels it.
    """
    try:
        ids = request(common.layout, "submit", READ_TIMEOUT_S, tasks=[task], request_id=request_id)["ids"]
        request(common.layout, "cancel", READ_TIMEOUT_S, ids=ids)
    except (TmaxError, OSError, KeyboardInterrupt):
        output.write_message(f"note: {how_to_find_out(request_id)}")
