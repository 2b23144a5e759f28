"""Python calls as bytes: quick for what a worker can import, by value for the rest.

::

    importable function --> pickle            (function by name)
    lambda, closure, anything of __main__ --> cloudpickle (function by value)
    function given to ``prepare`` --> pickled once, its bytes put into each call

A worker has a ``__main__`` of its own, so a plain pickle that mentions ours would be read wrongly: it is looked for.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tmax_pipes.jobs import Body, PythonJob

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_MAIN = b"__main__"
_PROTOCOL = 5


class _Pickled:
    """Stands for an object that is pickled already; unpickling it gives the object."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return pickle.loads, (self._data,)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A function to be called many times, pickled once: what it closes over is as it was at that moment."""

    stand_in: Any
    label: str
    mains: int
    """How often the pickled function itself mentions ``__main__``."""


def label_of_function(function: Callable[..., Any]) -> str:
    """Return what a person reads: ``module.name``."""
    name = getattr(function, "__qualname__", None)
    if name is None:
        inner = getattr(function, "func", None)  # functools.partial
        return f"partial {label_of_function(inner)}" if callable(inner) else type(function).__qualname__
    module = getattr(function, "__module__", "") or ""
    name = str(name).replace("<locals>.", "")
    return name if module in {"", "__main__", "builtins"} else f"{module}.{name}"


def prepare(function: Callable[..., Any]) -> Prepared:
    """Return ``function`` ready for many calls; raises what pickling it raises."""
    label = label_of_function(function)
    try:
        data = _plainly(function)
    except Exception:  # pickle lets through whatever an object's own methods raise; cloudpickle is the judge
        data = None
    if data is not None and _MAIN not in data and not _by_value_registered():
        return Prepared(function, label, 0)
    data = _by_value(function)
    return Prepared(_Pickled(data), label, data.count(_MAIN))


def dump_call(function: Callable[..., Any] | Prepared, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Return the pickle of ``(function, args, kwargs)``; raises what pickling raises (usually PicklingError or TypeError)."""
    allowed = 0
    call: tuple[Any, tuple[Any, ...], dict[str, Any]] = (function, args, kwargs)
    if isinstance(function, Prepared):
        allowed = function.mains
        call = (function.stand_in, args, kwargs)
    elif getattr(function, "__module__", None) == "__main__":
        return _by_value(call)
    try:
        data = _plainly(call)
    except Exception:  # as in prepare
        return _by_value(call)
    if (_MAIN in data and data.count(_MAIN) > allowed) or _by_value_registered():
        return _by_value(call)
    return data


def _plainly(value: object) -> bytes:
    return pickle.dumps(value, _PROTOCOL)


def _by_value(value: object) -> bytes:
    import cloudpickle  # a program that only calls importable functions never pays for it

    data: bytes = cloudpickle.dumps(value, _PROTOCOL)
    return data


def _by_value_registered() -> bool:
    """Return whether the program asked cloudpickle to take some module by value."""
    cloudpickle = sys.modules.get("cloudpickle")
    return cloudpickle is not None and bool(cloudpickle.list_registry_pickle_by_value())


class SearchPath:
    """The entries of ``sys.path`` that a worker cannot know: not the interpreter's own, not installed packages."""

    def __init__(self) -> None:
        self._seen: list[str] = []
        self._extras: tuple[str, ...] = ()

    def extras(self) -> tuple[str, ...]:
        """Return them, absolute; computed again only when ``sys.path`` has changed."""
        if sys.path != self._seen:
            self._seen = list(sys.path)
            own = tuple({os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix), sys.prefix, sys.base_prefix})
            extras = filter(None, map(_absolute, self._seen))
            self._extras = tuple(dict.fromkeys(entry for entry in extras if entry.isprintable() and not _below(entry, own)))
        return self._extras


def _absolute(entry: str) -> str:
    """Return the whole path of an entry; empty for a relative one when the working directory was removed: nothing is found there."""
    try:
        return os.path.abspath(entry)
    except FileNotFoundError:
        return ""


def _below(entry: str, folders: tuple[str, ...]) -> bool:
    """Return whether this is a library folder of the interpreter itself."""
    return any(entry.startswith(f"{folder}/lib") for folder in folders)


def python_job(call: Body, label: str, path: tuple[str, ...]) -> PythonJob:
    """Return the job of a pickled call."""
    return PythonJob(call=call, label=label, path=path, python=PYTHON)
