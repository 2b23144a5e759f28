"""Validates the tasks that clients describe and turns them into ``NewTask``; an invalid one is refused before anything is stored."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

from tmax.control.protocol import BulkTask
from tmax.controller.fields import MAX_NUMBER
from tmax.core.model import NewTask
from tmax.core.option_values import check
from tmax.core.settings import TaskSettings
from tmax.errors import UsageError
from tmax_pipes.jobs import (
    BACKENDS,
    BLOB_THRESHOLD_BYTES,
    DEVICES,
    Context,
    Job,
    KernelJob,
    Limits,
    PythonJob,
    ShellJob,
    encode_context,
    kind_of,
)
from tmax_pipes.options_struct import GivenOptions, TaskOptions, given_values, options_with
from tmax_pipes.task_options import TaskOption, implied, of_owner
from tmax_pipes.terminal_text import has_surrogate

MAX_JOB_BYTES = 900 * 1024
"""A job must fit one frame (1 MiB); larger arguments travel as blobs."""

MAX_COUNT = 2**31
"""Of repeats and seeds."""

_TASK_OPTIONS = of_owner("task")
_JOB_OPTIONS = of_owner("job")

_MAX_UMASK = 0o777
_LIMIT_DIGITS = 3
_MAX_CELLS = 0xFFFF
"""Rows or columns of a terminal: the kernel keeps 16 bits of each."""


def _raw(value: object, what: str) -> bytes:
    if not isinstance(value, str) or "\0" in value:
        raise UsageError(f"{what} must be text without NUL characters")
    try:
        return os.fsencode(value)
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} cannot be a byte string: {error}", hint="only \\udc80 to \\udcff may stand for stray bytes") from error


def _environment(value: object) -> dict[bytes, bytes]:
    if not isinstance(value, dict):
        raise UsageError("env must be an object of texts")
    return {_raw(key, "a variable's name"): _raw(text, f"variable {key}") for key, text in value.items()}


def _options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that a job of any kind has, and the options of its own kind."""
    return {
        **_checked(_JOB_OPTIONS, given, given["kind"]),
        "umask": _umask(given.get("umask")),
        "limits": _limits(given.get("limits", {})),
        "parent": _whole(given.get("parent", 0), "parent", least=0, most=MAX_NUMBER),
    }


def _umask(value: object) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_UMASK):
        return value
    raise UsageError("umask must be a whole number from 0 to 511 (0777)")


def _limits(value: object) -> Limits:
    if not isinstance(value, dict):
        raise UsageError("limits must be an object: number of the resource to [soft, hard]")
    found: Limits = {}
    for key, pair in value.items():
        if not (isinstance(key, str) and key.isascii() and key.isdigit() and len(key) <= _LIMIT_DIGITS):
            raise UsageError(f"{key!r} is not the number of a resource limit")
        if not isinstance(pair, list) or len(pair) != 2 or not all(map(_is_limit, pair)):
            raise UsageError(f"limit {key} must be [soft, hard], each from 0, or -1 for none")
        found[int(key)] = (pair[0], pair[1])
    return found


def _is_limit(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -1 <= value < 1 << 63


def _stdin(value: object) -> bytes:
    path = _raw(value, "stdin")
    if path and not path.startswith((b"/", b"@")):
        raise UsageError("stdin must be an absolute path, or @ and the name of an abstract socket")
    return path


def _terminal_size(value: object) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2:
        raise UsageError("terminal_size must be [rows, columns]")
    rows, columns = (_whole(one, "a terminal's rows or columns", least=1, most=_MAX_CELLS) for one in value)
    return rows, columns


def _shell(given: Mapping[str, Any]) -> ShellJob:
    argv = given.get("argv")
    if not isinstance(argv, list) or not argv:
        raise UsageError("no command given", hint="write it behind --: -- COMMAND [ARGUMENT ...]")
    if argv[0] == "":
        raise UsageError("the command is empty", hint="its first word is the program; if that is a shell variable, it may be empty")
    return ShellJob(
        argv=tuple(_raw(part, "an argument") for part in argv),
        cwd=_raw(given.get("cwd", ""), "cwd"),
        env=_environment(given.get("env", {})),
        stdin=_stdin(given.get("stdin", "")),
        terminal_size=_terminal_size(given.get("terminal_size")),
        **_options(given),
    )


def _python(given: Mapping[str, Any]) -> PythonJob:
    target = given.get("target")
    module, _, name = target.partition(":") if isinstance(target, str) else ("", "", "")
    if not module or not name or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise UsageError(f"{target!r} is not MODULE:FUNCTION", hint="for example: tmax submit --py json:dumps '[1, 2]'")
    path = given.get("path", [])
    if not isinstance(path, list) or not all(isinstance(part, str) for part in path):
        raise UsageError("path must be a list of folders")
    call = json.dumps([given.get("args", []), given.get("kwargs", {})]).encode()
    if len(call) > BLOB_THRESHOLD_BYTES:
        raise UsageError(
            f"the arguments are {len(call)} bytes of JSON, over {BLOB_THRESHOLD_BYTES}", hint="pass the name of a file instead"
        )
    return PythonJob(
        call=call,
        label=f"{module}.{name}",
        target=f"{module}:{name}",
        cwd=_raw(given.get("cwd", ""), "cwd"),
        env=_environment(given.get("env", {})),
        context=encode_context(Context(python=str(given.get("python", "")), path=tuple(part for part in path if _is_text(part)))),
        **_options(given),
    )


def _is_text(value: str) -> bool:
    """Return whether a frame can carry it: a lone surrogate, which represents a byte of a file name that is not UTF-8, it cannot."""
    return not has_surrogate(value)


def _kernel(given: Mapping[str, Any]) -> KernelJob:
    params = given.get("params", {})
    if not isinstance(params, dict) or not all(isinstance(value, int | float | str | bool) for value in params.values()):
        raise UsageError("params must be an object of numbers, texts or booleans")
    device, backend = given.get("device", "auto"), given.get("backend", "auto")
    if device not in DEVICES or backend not in BACKENDS:
        raise UsageError(
            f"device {device!r} or backend {backend!r} is not known", hint=f"devices: {' '.join(DEVICES)}; backends: {' '.join(BACKENDS)}"
        )
    return KernelJob(
        name=str(given.get("kernel", "")),
        params=params,
        device=cast("Any", device),
        backend=cast("Any", backend),
        dtype=str(given.get("dtype", "float64")),
        repeat=_whole(given.get("repeat", 1), "repeat", least=1),
        seed=_whole(given.get("seed", 0), "seed", least=0),
        **_options(given),
    )


_KINDS: dict[str, Callable[[Mapping[str, Any]], Job]] = {"shell": _shell, "python": _python, "kernel": _kernel}


def _whole(value: object, what: str, *, least: int, most: int = MAX_COUNT) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise UsageError(f"{what} must be a whole number from {least} to {most}")
    return value


def _check_job(job: Job) -> None:
    if job.parent:
        _whole(job.parent, "parent", least=0, most=MAX_NUMBER)
    size_bytes = _size_bytes(job)
    if size_bytes > MAX_JOB_BYTES:
        raise UsageError(f"arguments and environment are {size_bytes} bytes, over {MAX_JOB_BYTES}", hint="pass large values in files")


def _size_bytes(job: Job) -> int:
    """Return about how many bytes the message that carries this job has."""
    if isinstance(job, KernelJob):
        return sum(len(key) + len(str(value)) for key, value in job.params.items())
    size_bytes = len(job.cwd)
    if job.env:
        size_bytes += sum(len(key) + len(text) for key, text in job.env.items())
    if isinstance(job, ShellJob):
        return size_bytes + sum(map(len, job.argv))
    for body in (job.call, job.context, job.function):  # a generator would double the time of intake
        if isinstance(body, bytes):
            size_bytes += len(body)
    return size_bytes + sum(map(len, job.path)) if job.path else size_bytes


def _check_writable(job: Job, options: GivenOptions, request_id: str) -> None:
    """Refuse what no frame and no row can hold: a lone surrogate in a text, an integer over 64 bits."""
    try:
        msgspec.msgpack.encode((job, options, request_id))
    except (OverflowError, UnicodeEncodeError, ValueError) as error:
        raise UsageError(f"a value cannot be stored: {error}", hint="texts must be UTF-8, integers must fit 64 bits") from error


def new_task(given: object, defaults: TaskSettings, request_id: str) -> NewTask:
    """Return the task that a JSON submit describes.  Raises UsageError for an invalid description."""
    if not isinstance(given, dict) or not isinstance(given.get("kind"), str) or given["kind"] not in _KINDS:
        raise UsageError("a task needs a kind: shell, python or kernel")
    kind = given["kind"]
    job = _KINDS[kind](given)
    options = GivenOptions(**_checked(_TASK_OPTIONS, given, kind))
    _check_job(job)
    _check_writable(job, options, request_id)
    return _accepted(job, kind, options, defaults, request_id)


def new_task_of_bulk(client: str, task: BulkTask, defaults: TaskSettings) -> NewTask:
    """Return the task that the Python API describes; types were checked by the decoder.  Raises UsageError."""
    _check_job(task.job)
    return _accepted(task.job, kind_of(task.job), task.options, defaults, f"{client}:{task.seq}")


def _accepted(job: Job, kind: str, given: GivenOptions, defaults: TaskSettings, request_id: str) -> NewTask:
    options, switched_on = resolved(given, kind, defaults)
    if switched_on:
        job = msgspec.structs.replace(job, **switched_on)
    return NewTask(job=job, options=options, request_id=request_id)


@functools.lru_cache(maxsize=1024)
def resolved(given: GivenOptions, kind: str, defaults: TaskSettings) -> tuple[TaskOptions, dict[str, bool]]:
    """Return the options of a task of this kind, and the flags of its job that the settings switch on.  Raises UsageError.

    Kept for the next task: most of a client's tasks have the same options, and then share one struct.
    """
    values = given_values(given)
    values |= implied(values, kind)
    for option in _TASK_OPTIONS:
        if option.setting and option.name not in values:
            values[option.name] = getattr(defaults, option.setting)
    options = options_with(_checked(_TASK_OPTIONS, values, kind))
    flags = {one.name: True for one in _JOB_OPTIONS if one.setting and kind in one.kinds and getattr(defaults, one.setting)}
    return options, flags


def _checked(options: tuple[TaskOption, ...], given: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return those of these options that are given, each checked.  Raises UsageError."""
    found: dict[str, Any] = {}
    for option in options:
        value = given.get(option.name)
        if option.name not in given or (option.type == "name" and value == "") or (value is None and option.default is None):
            continue
        if kind not in option.kinds:
            raise UsageError(f"{option.name} does not apply to {kind} tasks")
        found[option.name] = check(option, value)
    return found
