"""``submit``: describe the task, have it accepted exactly once, print its number.

    describe --> ask submit (request_id) --> ids
                   no controller, or it ended before it answered --> start one (not when the swarm was taken down) --> ask again

The same request id goes with each try, so that a task whose answer was lost is not accepted twice.
"""

from __future__ import annotations

import os
import resource
import sys

from tmax.cli import output
from tmax.cli.ask import LOOK_S, ask
from tmax.cli.codec import decode
from tmax.cli.reconnect import ask_again
from tmax.errors import TmaxError, UsageError, WaitTimedOut
from tmax.layout import submitting_task

STDLIB = "<stdlib>"
"""As ``tmax_pipes.jobs`` has it, whose import would cost more than all the rest; a test holds the two equal."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")
"""What the interpreter may set LC_CTYPE to (PEP 538)."""


def submit(common: output.Common, words: Sequence[str], *, request_id: str = "", **given: Any) -> int:
    """Submit a command, or with ``py`` a Python function; print the task's id."""
    request_id = request_id or new_request_id()
    task_id = accept(common, task_of(words, **given), request_id)
    if common.json:
        output.value({"schema_version": output.SCHEMA_VERSION, "id": task_id, "request_id": request_id})
    else:
        output.out(f"{task_id}\n")
        common.talk(f"accepted; follow it with: tmax logs{common.flag} -f {task_id}")
    return 0


def new_request_id() -> str:
    """Return a request id that nobody else has."""
    return os.urandom(12).hex()


def task_of(words: Sequence[str], *, py: str = "", split: bool = False, **settings: Any) -> dict[str, Any]:
    """Return the task that was typed, as the control socket takes it.  Raises UsageError."""
    if py:
        if split:
            raise UsageError("--split is for commands, not for --py")
        return {**python_task(py, words), **process_settings(), **settings}
    if not words:
        raise UsageError("no command given", hint="write it behind --: -- COMMAND [ARGUMENT ...], or: --py MODULE:FUNCTION [JSON ...]")
    shell = {"kind": "shell", "argv": list(words), "split": split, "cwd": working_folder(), "env": _given(environment())}
    return {**shell, **process_settings(), **settings}


def python_task(target: str, words: Sequence[str]) -> dict[str, Any]:
    """Return a call of ``MODULE:FUNCTION``; each word is an argument (see ``argument``), ``KEY=JSON`` a keyword."""
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
    """Return the JSON value of a word; the word itself when it is not JSON; for ``-`` the JSON value on stdin."""
    if word == "-":
        if sys.stdin is None:
            raise UsageError("- means the JSON value on standard input, which is closed")
        try:
            return decode(sys.stdin.read())
        except ValueError as error:
            raise UsageError("stdin does not hold one JSON value") from error
        except OSError as error:
            raise UsageError(f"standard input cannot be read: {error.strerror}") from error
    try:
        return decode(word)
    except ValueError:
        return word


def working_folder() -> str:
    """Return where we are.  Raises UsageError when that folder is gone."""
    try:
        return os.getcwd()
    except FileNotFoundError as error:
        raise UsageError("the working directory does not exist any more", hint="cd somewhere else first") from error


def environment() -> dict[str, str]:
    """Return our environment without tmux's own variables, which would make programs think they are in the pane we are in."""
    return {key: text for key, text in os.environ.items() if not key.startswith("TMUX")}


def _given(env: dict[str, str]) -> dict[str, str]:
    """Return our environment as we were given it: where no locale is set, as under cron, the interpreter sets LC_CTYPE as it starts.

    A function keeps it: its program would be Python, too.
    """
    if env.get("LC_CTYPE") not in _COERCED:
        return env
    with open("/proc/self/environ", "rb") as file:
        before = [one.partition(b"=")[2] for one in file.read().split(b"\0") if one.startswith(b"LC_CTYPE=")]
    if before:
        return {**env, "LC_CTYPE": os.fsdecode(before[0])}
    return {key: text for key, text in env.items() if key != "LC_CTYPE"}


def process_settings() -> dict[str, Any]:
    """Return the umask and the resource limits that we run with, as a task of any kind has them."""
    umask = os.umask(0o077)  # there is no way to look without setting it; nothing is created in between
    os.umask(umask)
    return {"umask": umask, "limits": limits()}


def limits() -> dict[str, list[int]]:
    """Return our resource limits: number to [soft, hard], -1 for none."""
    found = {}
    for number in range(resource.RLIMIT_RTTIME + 1):
        try:
            found[str(number)] = list(resource.getrlimit(number))
        except ValueError:
            pass  # this kernel has none of this number
    return found


def accept(common: output.Common, task: dict[str, Any], request_id: str) -> int:
    """Have the task accepted exactly once and return its id.  Raises as ``ask_again`` does."""
    parent = submitting_task(common.layout.swarm)
    if parent:
        task["parent"] = parent
    try:
        ids: list[int] = ask_again(common, "submit", tasks=[task], request_id=request_id)["ids"]
    except WaitTimedOut as error:
        error.hint = not_known(request_id)
        raise
    except KeyboardInterrupt:
        take_back(common, task, request_id)
        raise
    return ids[0]


def not_known(request_id: str) -> str:
    """Return what is to be said when the answer to a submit did not come."""
    return f"whether the task was accepted is not known; to find out: the same command with --request-id {request_id}"


def take_back(common: output.Common, task: dict[str, Any], request_id: str) -> None:
    """After Ctrl-C before the answer: cancel what this request may have made; another Ctrl-C leaves at once.

    The request is made again to learn the task's id; should it not have arrived the first time, its task is cancelled as well.
    """
    try:
        ids = ask(common.layout, "submit", LOOK_S, tasks=[task], request_id=request_id)["ids"]
        ask(common.layout, "cancel", LOOK_S, ids=ids)
    except (TmaxError, OSError, KeyboardInterrupt):
        output.warn(f"note: {not_known(request_id)}")
