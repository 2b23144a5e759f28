"""Functions and classes by value: what a worker cannot import, with everything it needs, and what a fork would have carried along.

::

    f of __main__ --> code, defaults, closure  +  the globals it names (and those name), each with a digest  --> rebuild.py
    an object that cannot be pickled but is a global of a main module that may be imported again --> by its name

A subclass of cloudpickle's Pickler; of its internals it uses what ``_cp`` is asked for below, and nothing else.
"""

from __future__ import annotations

import _queue
import _thread
import contextvars
import ctypes
import functools
import hashlib
import inspect
import io
import os
import pickle
import re
import sys
import types
import typing
import weakref
from collections.abc import Callable, Iterable
from typing import Any

from cloudpickle import cloudpickle as _cp

from tmax.api.mainmodule import about_of, is_defined_at_import, main_to_import
from tmax.api.pickle_dependencies import Dependencies
from tmax_pipes import rebuild

_MISSING = object()
_DYNAMIC = frozenset({"globals", "eval", "exec", "vars", "__main__", "get_type_hints", "import_module", "__import__", "modules"})
_WORDS = re.compile(r"[^\W\d]\w*")
SKELETONS = (_cp._make_skeleton_class, _cp._make_skeleton_enum)
_OPEN = "an open file cannot be sent: open it in the task"


class Unsendable(pickle.PicklingError):
    """Names the global of which function cannot be sent."""


class _Space:
    """Pickles as the module that functions of this name get where they are unpickled."""

    def __init__(self, name: str) -> None:
        self.module = sys.modules[name]
        self.names = self.module.__dict__
        about = about_of(name)
        self.importable = about.importable
        self.args = (rebuild.token(), name, tuple(about))

    def can_import(self, name: str) -> bool:
        """Return whether an import of it defines this global."""
        return any(self.importable) and is_defined_at_import(self.importable[0], name)

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild.space, self.args


class _Globals:
    """Pickles as the dictionary of a module."""

    def __init__(self, maker: Callable[..., Any], of: object) -> None:
        self._reduced = (maker, (of,))

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


class _Imported:
    """Pickles as a global of the main module, to be got by importing it."""

    def __init__(self, space: _Space, name: str) -> None:
        self._reduced = (rebuild.imported, (space, name))

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


class CodePickler(_cp.Pickler):  # type: ignore[misc]
    """Pickles one function or class by value.  ``seen`` notes what it depends on; ``root``: of a digest, see ``digest``."""

    def __init__(
        self,
        file: io.BytesIO,
        lost: frozenset[str] | set[str],
        seen: Dependencies,
        *,
        root: object = None,
        careful: bool = False,
        buffers: Any = None,
    ) -> None:
        super().__init__(file, 5, buffers)
        self._lost = lost
        self._seen = seen
        self._root = root
        self._first: Any = None
        self._is_lenient = False
        self._spaces: dict[str, _Space] = {}
        self._homes: dict[int, Any] = {}
        self._digests: dict[tuple[str, str], bytes] = {}
        self._by_import: dict[int, _Imported] = {}
        if careful:
            self._look_for_unsendable()

    # -- which way -----------------------------------------------------------------------------------

    def reducer_override(self, obj: Any) -> Any:
        """Return how to make ``obj`` again; NotImplemented: as pickle does."""
        if isinstance(obj, types.FunctionType):
            if obj in _OURS or goes_by_name(obj, self._lost):
                return NotImplemented
            return self._generic(obj) if _is_generic(obj) else self._function(obj)
        if isinstance(obj, type):
            return self._class(obj)
        if id(obj) in self._by_import:
            return self._by_import[id(obj)].__reduce__()
        if isinstance(obj, types.ModuleType):
            return self._module(obj)
        reducer = _REDUCERS.get(type(obj))
        if reducer is not None:
            return reducer(obj, self._lost)
        if isinstance(obj, _thread._local):  # of a subclass
            return _local(obj, self._lost)
        if isinstance(obj, ctypes.CDLL):
            return rebuild.library, (type(obj), obj._name)
        if isinstance(obj, io.IOBase):
            return stream(obj)
        return _environ_or(obj)

    def _space(self, name: str) -> _Space:
        if name not in self._spaces:
            self._spaces[name] = _Space(name)
        return self._spaces[name]

    def _is_shipped(self, name: object) -> bool:
        return isinstance(name, str) and (name == "__main__" or name in self._lost) and name in sys.modules

    # -- functions -----------------------------------------------------------------------------------

    def _function(self, function: types.FunctionType) -> Any:
        self._seen.function(function)
        names = function.__globals__
        module = names.get("__name__")
        known = sys.modules.get(module) if isinstance(module, str) else None
        if known is None or known.__dict__ is not names:
            return self._dynamic_function_reduce(function)  # globals of no module: cloudpickle's way
        space = self._space(known.__name__) if self._is_shipped(module) else None
        if id(names) not in self.globals_ref:
            self.globals_ref[id(names)] = _Globals(rebuild.globals_of, space) if space else _Globals(rebuild.module_globals, module)
        newargs = self._function_getnewargs(function)
        attributes, slots = _state_of(function)
        shipped, digests = self._shipped(space, _names_of(function), function) if space else ({}, {})
        return _cp._make_function, newargs, (attributes, slots, space, shipped, digests), None, None, rebuild.set_function

    def _generic(self, function: Any) -> Any:
        """A ``functools.singledispatch`` function: its own caches hold weak references."""
        self._seen.mutable = True  # a later ``register`` changes it
        registry = list(function.registry.items())
        default = next(implementation for cls, implementation in registry if cls is object)
        attributes = {key: value for key, value in function.__dict__.items() if key not in _GENERIC and key != "__wrapped__"}
        rest = [(cls, implementation) for cls, implementation in registry if cls is not object]
        return rebuild.single_dispatch, (default,), (rest, attributes), None, None, rebuild.set_single_dispatch

    def _shipped(self, space: _Space, names: Iterable[str], owner: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
        if self._root is not None:
            return {}, {}  # a digest of the function alone: its globals have digests of their own
        shipped: dict[str, Any] = {}
        digests: dict[str, bytes] = {}
        whole = bool(_DYNAMIC.intersection(names))
        self._first = self._first or owner
        # Once everything is taken because somebody may look it up by name, what cannot be sent is left out.
        self._is_lenient = self._is_lenient or whole
        for name in list(space.names) if whole else names:  # another thread may set a global meanwhile
            value = space.names.get(name, _MISSING)
            self._seen.name(space.names, name, value, _MISSING)
            if value is _MISSING or (name.startswith("__") and name.endswith("__")):
                continue
            try:
                digests[name] = self._digest(space, name, value)
                shipped[name] = _special(value)
            except Exception as error:  # pickling runs code of the program's own
                digests.pop(name, None)
                if name not in names or (self._is_lenient and owner is not self._first):
                    continue
                if space.can_import(name):
                    digests[name], shipped[name] = b"imported", self._import(space, name, value)
                else:
                    raise _unsendable(name, value, owner, error) from error
        return shipped, digests

    def _import(self, space: _Space, name: str, value: object) -> _Imported:
        return self._by_import.setdefault(id(value), _Imported(space, name))

    def _digest(self, space: _Space, name: str, value: object) -> bytes:
        key = (str(space.args[1]), name)
        if key not in self._digests:
            self._digests[key] = digest(value, self._lost)
        return self._digests[key]

    def _look_for_unsendable(self) -> None:
        """Note every global of a main module that cannot be pickled, to be got by importing it wherever it turns up."""
        space = self._space("__main__")
        if not any(space.importable):
            return
        for name, value in list(space.names.items()):
            if not space.can_import(name):
                continue
            try:
                digest(value, self._lost)
            except Exception:  # as in _shipped
                self._import(space, name, value)

    # -- classes and modules ---------------------------------------------------------------------------

    def _class(self, cls: type) -> Any:
        reduced = _cp._class_reduce(cls)
        if reduced is NotImplemented:
            if cls.__module__ not in self._lost:
                return NotImplemented
            reduced = _cp._dynamic_class_reduce(cls)
        if reduced[0] not in SKELETONS:
            return reduced
        identity = _cp._get_or_create_tracker_id(cls)
        make, newargs, (attributes, slots), _, _, setter = reduced
        # Descriptors of slots are made with the class, and pickle notes __slotnames__ in classes as it goes.
        kept = {key: value for key, value in attributes.items() if type(value) is not types.MemberDescriptorType and key != "__slotnames__"}
        state = (kept, slots)
        if self._root is not None:
            return (make, newargs, state, None, None, setter) if cls is self._root else (rebuild.nothing, (identity,))
        self._seen.cls(cls)
        if make is _cp._make_skeleton_class:
            newargs[3]["__qualname__"] = cls.__qualname__  # cloudpickle has the last part alone: an inner class would lose its outer one
            if "__slots__" in cls.__dict__ and not issubclass(cls, tuple):
                newargs[3]["__slots__"] = cls.__slots__  # type: ignore[attr-defined]
        rebuild.know_class(identity, cls)
        space = self._space(cls.__module__) if self._is_shipped(cls.__module__) else None
        shipped, digests = self._shipped(space, _names_of_class(cls, space.names), cls) if space else ({}, {})
        of_class = digest(cls, self._lost, root=cls)
        how = (make, newargs, identity, self._plain_meta(cls), self._announcing(cls))
        return rebuild.make_class, how, (setter, state, of_class, space, shipped, digests), None, None, rebuild.set_class

    def _plain_meta(self, cls: type) -> type | None:
        """The metaclass that makes it there: one of the program's own would do again what it has done here."""
        meta = type(cls)
        if goes_by_name(meta, self._lost):
            return None
        bases: tuple[type, ...] = inspect.getmro(meta)
        return next(base for base in bases if goes_by_name(base, self._lost))

    def _announcing(self, cls: type) -> list[type]:
        """Its bases of the program's own that would act on a new subclass, as they have done here."""
        return [base for base in cls.__mro__[1:] if "__init_subclass__" in base.__dict__ and not goes_by_name(base, self._lost)]

    def _module(self, module: types.ModuleType) -> Any:
        name = module.__name__
        if not self._is_shipped(name) or sys.modules.get(name) is not module:
            return NotImplemented if sys.modules.get(name) is not module else (_cp.subimport, (name,))
        space = self._space(name)
        if self._root is not None:
            return rebuild.nothing, (name,)
        self._seen.mutable = True
        shipped, digests = self._shipped(space, ("__main__",), module)
        return rebuild.module_of, (space,), (space, shipped, digests), None, None, rebuild.set_module


def digest(value: object, lost: frozenset[str] | set[str], root: object = _MISSING) -> bytes:
    """Return a digest of ``value`` as it is now; of functions and classes in it only what is theirs.  Raises what pickling raises."""
    if isinstance(value, type) and root is _MISSING:
        return f"class {_cp._get_or_create_tracker_id(value)}".encode()
    file, known = io.BytesIO(), hashlib.sha256()
    pickler = CodePickler(file, lost, Dependencies(), root=root, buffers=lambda buffer: known.update(buffer.raw()))
    pickler.dump(_special(value))
    known.update(file.getbuffer())
    return known.digest()


def dump(value: object, lost: frozenset[str] | set[str], seen: Dependencies) -> bytes:
    """Return a function or class by value.  Raises what pickling raises; Unsendable when a global of it cannot be sent."""
    for careful in (False, True):
        file = io.BytesIO()
        try:
            CodePickler(file, lost, seen, careful=careful).dump(value)
        except Unsendable:
            raise
        except Exception:  # pickling runs the values' own code; the careful try raises what it meets
            if careful:
                raise
        else:
            return file.getvalue()
    raise AssertionError


def is_code(obj: Any) -> bool:
    """Return whether this is a function, a class, or a cache around a function."""
    return isinstance(obj, types.FunctionType | type | functools._lru_cache_wrapper)


def goes_by_name(obj: Any, lost: frozenset[str] | set[str]) -> bool:
    """Return whether a worker finds this function or class by its name."""
    return bool(_cp._should_pickle_by_reference(obj)) and _cp._whichmodule(obj, obj.__qualname__) not in lost


# -- what a function needs ---------------------------------------------------------------------------


def _state_of(function: types.FunctionType) -> tuple[dict[str, Any], dict[str, Any]]:
    attributes, slots = _cp._function_getstate(function)
    del slots["__globals__"]
    # It also has the submodules that are used as attributes of their package: being read there imports them.
    return attributes, slots


def _names_of(function: types.FunctionType) -> dict[str, None]:
    names = dict(_cp._extract_code_globals(function.__code__))
    for attribute in function.__code__.co_names:
        if attribute in _DYNAMIC:
            names[attribute] = None
    _add_annotations(names, getattr(function, "__annotations__", {}))
    names[function.__qualname__.partition(".")[0]] = None
    return names


def _names_of_class(cls: type, space: dict[str, Any]) -> dict[str, None]:
    names: dict[str, None] = {}
    _add_annotations(names, cls.__dict__.get("__annotations__", {}))  # noqa: RUF063  # asking the class would make an empty one
    names[cls.__qualname__.partition(".")[0]] = None
    return {name: None for name in names if name in space}


def _add_annotations(names: dict[str, None], annotations: Any) -> None:
    for text in annotations.values() if isinstance(annotations, dict) else ():
        if isinstance(text, str):
            names.update(dict.fromkeys(word for word in _WORDS.findall(text) if word not in _DYNAMIC))


def _is_generic(function: types.FunctionType) -> bool:
    return function.__dict__.keys() >= _GENERIC and function.__code__ is _GENERIC_CODE


@functools.singledispatch
def _some_generic(_value: object) -> None: ...


_GENERIC_CODE = _some_generic.__code__  # type: ignore[attr-defined]
_GENERIC = frozenset({"register", "dispatch", "registry", "_clear_cache"})


def _unsendable(name: str, value: object, owner: Any, error: Exception) -> Exception:
    kind = type(value)
    shown = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    what = "class" if isinstance(owner, type) else "function"
    label = getattr(owner, "__qualname__", repr(owner))
    if any(main_to_import()):
        hint = "make it inside the function, or outside `if __name__ == '__main__':`, where workers that import the program find it"
    else:
        hint = "make it inside the function, or guard the program's start with `if __name__ == '__main__':` so that workers may import it"
    return Unsendable(f"global {name!r} of {what} {label!r} is a {shown}: it cannot be sent ({error}); {hint}")


# -- objects without a form of their own -----------------------------------------------------------------


def _special(value: Any) -> Any:
    """Lists and dictionaries of ``sys`` mean the worker's own."""
    for name in ("modules", "path", "argv", "meta_path", "path_hooks"):
        if value is getattr(sys, name):
            return _Globals(functools.partial(getattr, sys), name)
    return value


def _environ_or(obj: Any) -> Any:
    if obj is os.environ:
        return getattr, (os, "environ")
    if obj is os.environb:
        return getattr, (os, "environb")
    return NotImplemented


def stream(obj: Any) -> Any:
    """Return how to make a file object again: the standard streams are the worker's own, others cannot be sent."""
    for name in ("stdout", "stderr", "stdin", "__stdout__", "__stderr__", "__stdin__"):
        if obj is getattr(sys, name):
            return getattr, (sys, name)
        if obj is getattr(getattr(sys, name), "buffer", None):
            return getattr, (getattr(sys, name), "buffer")
    if isinstance(obj, io.StringIO | io.BytesIO):
        return NotImplemented
    raise TypeError(_OPEN)


def _cached(obj: Any, lost: frozenset[str] | set[str]) -> Any:
    module = sys.modules.get(getattr(obj, "__module__", ""), None)
    if module is not None and module.__name__ not in {"__main__", *lost}:
        try:
            if _cp._getattribute(module, obj.__qualname__) is obj:
                return NotImplemented
        except AttributeError:
            pass
    parameters = obj.cache_parameters()
    return rebuild.lru_cache, (obj.__wrapped__, parameters["maxsize"], parameters["typed"])


def _local(obj: Any, _lost: object) -> Any:
    return rebuild.local, (type(obj),), dict(obj.__dict__), None, None, rebuild.set_local


def _weak(obj: Any, _lost: object) -> Any:
    return rebuild.weak_dict, (type(obj), list(obj.items()))


def _reference(obj: Any, _lost: object) -> Any:
    target = obj()
    if target is None:
        raise TypeError("a weak reference to an object that is gone cannot be sent")
    return weakref.ref, (target,)


_variables: dict[int, tuple[contextvars.ContextVar[Any], str]] = {}


def _variable(obj: contextvars.ContextVar[Any], _lost: object) -> Any:
    if id(obj) not in _variables:
        _variables[id(obj)] = (obj, f"{rebuild.token()}-{len(_variables)}")
    default: tuple[Any, ...] = ()
    try:
        default = (contextvars.Context().run(obj.get),)
    except LookupError:
        pass
    now = obj.get(_MISSING)
    value = () if now is _MISSING or (default and now is default[0]) else (now,)
    return rebuild.context_var, (_variables[id(obj)][1], obj.name, default, value)


def _queued(obj: Any, _lost: object) -> Any:
    if obj.qsize():
        raise TypeError("a SimpleQueue that holds something cannot be sent")
    return _queue.SimpleQueue, ()


def _code(obj: types.CodeType, _lost: object) -> Any:
    make, args = _cp._code_reduce(obj)
    # With the name of its file: tracebacks and inspect show lines.
    return make, tuple(obj.co_filename if part == "<dynamic-code>" else part for part in args)


def _type_variable(obj: typing.TypeVar, lost: frozenset[str] | set[str]) -> Any:
    return (_cp._make_typevar, _cp._decompose_typevar(obj)) if obj.__module__ in lost else NotImplemented


_OURS = frozenset(value for module in (rebuild, _cp) for value in vars(module).values() if isinstance(value, types.FunctionType))
_REDUCERS: dict[type, Callable[[Any, Any], Any]] = {
    functools._lru_cache_wrapper: _cached,
    _thread.LockType: lambda _obj, _lost: (rebuild.lock, ()),
    _thread.RLock: lambda _obj, _lost: (rebuild.rlock, ()),
    _thread._local: _local,
    weakref.WeakKeyDictionary: _weak,
    weakref.WeakValueDictionary: _weak,
    weakref.ref: _reference,
    contextvars.ContextVar: _variable,
    _queue.SimpleQueue: _queued,
    types.CodeType: _code,
    typing.TypeVar: _type_variable,
}
