"""Python callables: unpickle or import, call, pickle the result.

function -> functions.load (once); body -> blobs.load -> pickle (args, kwargs) | JSON [args, kwargs] of an imported function
     -> call -> result: pickle 5 | cloudpickle | JSON
"""

from __future__ import annotations

import importlib
import json
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from tmax_pipes import blobs
from tmax_pipes.jobs import Body, PythonJob
from tmax_workers.kinds import functions
from tmax_workers.worker_errors import Refused, WorkerError

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_NONE = pickle.dumps(None, 5)
Caller: TypeAlias = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


class TargetNotFound(WorkerError):
    """This worker cannot find a module or function that a task names."""


class Unpicklable(WorkerError):
    """A task's result cannot be pickled."""


@dataclass(slots=True, kw_only=True)
class Output:
    """A job's encoded result; ``device`` and ``strategy`` are those of a kernel."""

    result: Body = b""
    form: Literal["pickle", "json", "none"] = "none"
    device: str = ""
    strategy: str = ""


def directly(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call the function."""
    return function(*args, **kwargs)


def run(job: PythonJob, blob_folder: str, caller: Caller = directly) -> Output:
    """Call the job's function through ``caller`` and return its encoded result.  Changes made by loading it belong to the process, not to the task.

    Raises what the function raises; Refused, TargetNotFound, Unpicklable; BlobError for a body that is missing.
    """
    function, args, kwargs = _call_of(job, blobs.load(blob_folder, job.call), blob_folder)
    value = caller(function, args, kwargs)
    if job.target:
        packed = _as_json(value)
        if packed is not None:
            return Output(result=blobs.body_of(blob_folder, packed), form="json")
    return Output(result=blobs.body_of(blob_folder, _as_pickle(value)), form="pickle")


def _call_of(job: PythonJob, body: bytes, blob_folder: str) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    if job.target:
        args, kwargs = json.loads(body) if body else ([], {})
        return resolve(job.target), tuple(args), kwargs
    if job.python and job.python != VERSION:
        raise Refused(
            f"{job.label or 'the function'} was pickled by Python {job.python}, this worker runs Python {VERSION}",
            f"start the swarm with the Python {job.python} that submits, or submit with Python {VERSION}",
        )
    try:
        if job.function:
            function = functions.load(job.function, blob_folder)
            args, kwargs = pickle.loads(body)
        else:
            function, args, kwargs = pickle.loads(body)
    except ModuleNotFoundError as error:
        raise TargetNotFound(
            f"the module {error.name!r}, which {job.label or 'the function'} needs, is not found here",
            "install it for the workers' Python, or submit from the folder that holds it",
        ) from error
    except AttributeError as error:
        raise TargetNotFound(
            f"{job.label or 'the function'} is not found here: {error}", "define it at the top of an importable module"
        ) from error
    return function, args, kwargs


def resolve(target: str) -> Callable[..., Any]:
    """Import and return what ``module:qualified.name`` names; TargetNotFound when there is no such module or callable."""
    module_name, _, path = target.partition(":")
    try:
        found: Any = _import(module_name)
    except ModuleNotFoundError as error:
        if error.name and not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise  # the module exists, but something it imports does not: keep the traceback
        raise TargetNotFound(f"no module named {module_name!r}", "check the spelling, and submit from the folder that holds it") from None
    for name in path.split("."):
        if not hasattr(found, name):
            raise TargetNotFound(f"{module_name!r} has no {path!r}", f"what comes after the colon is defined in {module_name}")
        found = getattr(found, name)
    if not callable(found):
        raise TargetNotFound(f"{target} is not callable, it is a {type(found).__name__}", "name a function")
    function: Callable[..., Any] = found
    return function


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        # The folder may have been listed before this file was written.
        importlib.invalidate_caches()
        return importlib.import_module(name)


def _as_json(value: Any) -> bytes | None:
    """Return the JSON text of a value that survives the round trip; None for any other."""
    try:
        text = json.dumps(value, allow_nan=False)
        return text.encode() if _same(json.loads(text), value) else None
    except (TypeError, ValueError, RecursionError):
        return None


def _same(back: Any, value: Any) -> bool:
    """Whether decoding gives the value again; a tuple may become a list."""
    if isinstance(value, (list, tuple)) and isinstance(back, list):
        return len(back) == len(value) and all(map(_same, back, value))
    if isinstance(value, dict) and isinstance(back, dict):
        return back.keys() == value.keys() and all(_same(back[key], value[key]) for key in value)
    return type(back) is type(value) and bool(back == value)


def _as_pickle(value: Any) -> bytes:
    if value is None:
        return _NONE
    try:
        return pickle.dumps(value, 5)
    except Exception:  # pickling runs the value's own code; cloudpickle may still manage
        return _as_cloudpickle(value)


def _as_cloudpickle(value: Any) -> bytes:
    from tmax_workers.kinds.resultpickler import dump

    try:
        data = dump(value)
    except Exception as error:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        hint = "return plain data, or write it to a file and return the path"
        raise Unpicklable(f"the result, a {kind}, cannot be sent: {type(error).__name__}: {error}"[:2000], hint) from error
    return data
