"""Python calls as bytes: the function once, its arguments with each call.

::

    importable function --> pickle                      (by name)
    of __main__, a closure, of a module a worker does not find --> codepickler.py    (by value)
    arguments --> pickle; what they mention of __main__ --> by value

A worker has a ``__main__`` of its own, so a plain pickle that mentions ours would be read wrongly: it is looked for.
A function's bytes are kept and used again while nothing they were made of can have changed (``settled.py``).
"""

from __future__ import annotations

import functools
import pickle
import sys
import threading
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from tmax.api.searchpath import SearchPath
from tmax.api.shared_bodies import SharedBodies
from tmax_pipes import blobs, rebuild
from tmax_pipes.chunk import call_each
from tmax_pipes.jobs import Body, PythonJob

if TYPE_CHECKING:
    from tmax.api.pickle_dependencies import Dependencies

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
INLINE_BYTES = 1024
"""A function larger than this travels as a file, once for all its calls."""
_MAIN = b"__main__"
_PROTOCOL = 5
_KEPT = 64
_KEPT_BYTES = 64 * 1024 * 1024
_NO_ARGUMENTS = pickle.dumps(((), {}), _PROTOCOL)
_Names = set[str]


class _Pickled:
    """Stands for a function that is pickled already; unpickling it gives the function."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return rebuild.code, (self._data,)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A function to be called many times: what it refers to is as it was at that moment."""

    data: bytes
    body: Body
    label: str


class _Kept:
    """Bytes of one object, good as long as ``is_good``."""

    __slots__ = ("_is_of", "_module", "_name", "_seen", "prepared")

    def __init__(self, obj: Any, prepared: Prepared, seen: Dependencies | None) -> None:
        try:
            self._is_of: Callable[[], Any] = weakref.ref(obj)
        except TypeError:
            self._is_of = functools.partial(_same, obj)
        self.prepared = prepared
        self._seen = seen
        self._name: str = getattr(obj, "__qualname__", "")
        self._module: dict[str, Any] = getattr(sys.modules.get(getattr(obj, "__module__", None) or ""), "__dict__", {})

    def is_good(self, obj: Any, by_value: _Names) -> bool:
        if self._is_of() is not obj:
            return False
        if self._seen is not None:
            return self._seen.is_unchanged()
        return ("." in self._name or self._module.get(self._name) is obj) and not (by_value and obj.__module__ in by_value)


def _same(obj: Any) -> Any:
    return obj


class Functions:
    """What this client has pickled; large ones are kept among its ``bodies``."""

    def __init__(self, bodies: SharedBodies, path: SearchPath) -> None:
        self._bodies = bodies
        self._path = path
        self._kept: dict[int, _Kept] = {}
        self._keeping = threading.Lock()

    def prepare(self, function: Callable[..., Any]) -> Prepared:
        """Return ``function`` ready for calls; raises what pickling it raises."""
        return self._prepare(function, _sent_by_value(self._path))

    def call(
        self,
        function: Callable[..., Any] | Prepared,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        context: Body,
        submitter_environment: Body,
    ) -> PythonJob:
        """Return the job of this call; raises what pickling raises (usually PicklingError or TypeError), OSError for a full disk."""
        by_value = _sent_by_value(self._path)
        ready = function if isinstance(function, Prepared) else self._prepare(function, by_value)
        try:
            data = _dump_data((args, kwargs), by_value) if args or kwargs else _NO_ARGUMENTS
        except Exception as error:
            _name_argument(error, args, kwargs, by_value)
            raise
        return PythonJob(
            call=blobs.body_of(self._bodies.folder, data),
            label=ready.label,
            python=PYTHON,
            function=ready.body,
            context=context,
            submitter_environment=submitter_environment,
        )

    def _prepare(self, function: Callable[..., Any], by_value: _Names) -> Prepared:
        kept = self._kept.get(id(function))
        if kept is not None and kept.is_good(function, by_value):
            prepared = kept.prepared
            self._bodies.again(prepared.body, prepared.data)
            return prepared
        data, seen = _dump_function(function, by_value)
        prepared = Prepared(data, self._bodies.of(data, INLINE_BYTES), label_of_function(function))
        if not (seen is not None and seen.mutable):
            self._keep(function, _Kept(function, prepared, seen))
        return prepared

    def _keep(self, function: Any, kept: _Kept) -> None:
        """What is kept holds on to what the function refers to: few of them, and little in all."""
        known = self._kept
        with self._keeping:
            known[id(function)] = kept
            size_bytes = sum(len(one.prepared.data) for one in known.values())
            while len(known) > 1 and (len(known) > _KEPT or size_bytes > _KEPT_BYTES):
                size_bytes -= len(known.pop(next(iter(known))).prepared.data)

    def prepare_chunks(self, function: Callable[..., Any], size: int) -> Prepared:
        """Return ``function`` ready to be called for each of a list of ``size`` rows."""
        one = self.prepare(function)
        data = pickle.dumps(functools.partial(call_each, cast("Any", _Pickled(one.data))), _PROTOCOL)
        return Prepared(data, self._bodies.of(data, INLINE_BYTES), f"{one.label} x{size}")


def label_of_function(function: Callable[..., Any]) -> str:
    """Return what a person reads: ``module.name``."""
    name = getattr(function, "__qualname__", None)
    if name is None:
        inner = getattr(function, "func", None)  # functools.partial
        return f"partial {label_of_function(inner)}" if callable(inner) else type(function).__qualname__
    module = getattr(function, "__module__", "") or ""
    name = str(name).replace("<locals>.", "")
    return name if module in {"", "__main__", "builtins"} else f"{module}.{name}"


def dump_call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Return one pickle of ``(function, args, kwargs)``; raises what pickling raises (usually PicklingError or TypeError)."""
    path = _search_path()
    data, _ = _dump_function(function, _sent_by_value(path))
    return _dump_data((_Pickled(data), args, kwargs), _sent_by_value(path))


@functools.cache
def _search_path() -> SearchPath:
    return SearchPath()


def _dump_function(function: Any, lost: _Names) -> tuple[bytes, Dependencies | None]:
    """Return its bytes, and what they were made of when it goes by value."""
    if not _goes_by_value(function, lost):
        try:
            data = _plainly(function)
        except Exception:  # pickle lets through whatever an object's own methods raise; the other way is the judge
            data = None
        if data is not None and not _mentions(data, lost):
            return data, None if isinstance(function, types.FunctionType | types.BuiltinFunctionType | type) else _always()
    from tmax.api import argpickler, codepickler
    from tmax.api.pickle_dependencies import Dependencies

    seen = Dependencies()
    if codepickler.is_code(function):
        return codepickler.dump(function, lost, seen), seen
    seen.mutable = True  # a partial, a method of an object, an object that can be called: data
    return argpickler.dump(function, lost), seen


def _always() -> Dependencies:
    from tmax.api.pickle_dependencies import Dependencies

    return Dependencies(mutable=True)


def _goes_by_value(function: Any, lost: _Names) -> bool:
    return getattr(function, "__module__", None) in {"__main__", *lost} or _has_registered()


def _dump_data(value: object, lost: _Names) -> bytes:
    """Return the pickle of arguments."""
    if not _has_registered():
        try:
            data = _plainly(value)
        except Exception:  # as above
            data = None
        if data is not None and not _mentions(data, lost):
            return data
    from tmax.api import argpickler

    return argpickler.dump(value, lost)


def _name_argument(error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any], lost: _Names) -> None:
    """Add to an error of pickling a note about which argument it was."""
    named = [(f"argument {place}", value) for place, value in enumerate(args, 1)]
    named += [(f"argument {name!r}", value) for name, value in kwargs.items()]
    for name, value in named:
        try:
            _dump_data(value, lost)
        except Exception:  # pickling runs the value's own code, which may raise anything; the caller raises its own error
            error.add_note(f"{name}, a {type(value).__module__}.{type(value).__qualname__}, cannot be sent to a worker")
            return


def _mentions(data: bytes, lost: _Names) -> bool:
    return _MAIN in data or (bool(lost) and any(name.encode() in data for name in lost))


def _plainly(value: object) -> bytes:
    return pickle.dumps(value, _PROTOCOL)


def _sent_by_value(path: SearchPath) -> _Names:
    """Return the modules whose functions cannot or, because the program chose so, must not go by name."""
    # Another thread may be importing it at this moment; then nothing was chosen yet.
    registry = getattr(sys.modules.get("cloudpickle"), "list_registry_pickle_by_value", None)
    wished: _Names = registry() if registry is not None else set()
    if not wished:
        return path.lost()
    return path.lost() | {name for name in sys.modules.copy() if name in wished or name.startswith(tuple(f"{one}." for one in wished))}


def _has_registered() -> bool:
    """Return whether the program registered a way of its own to pickle a class with ``multiprocessing``."""
    pickler = getattr(sys.modules.get("multiprocessing.reduction"), "ForkingPickler", None)  # None, too, while a thread imports it
    return pickler is not None and len(pickler._extra_reducers) != _counting()()  # noqa: SLF001


@functools.cache
def _counting() -> Callable[[], int]:
    from tmax.api.reducers import known  # once: an import in a function costs a microsecond each time

    return known
