"""Functions that pickles name, to rebuild on the other side: the module of a function, and objects that pickle does not support.

::

    client: pickle of f --> names rebuild.space(TOKEN, "__main__", ...) and the globals of f, each with a digest
    worker: one module for each (client, module name); f gets its dictionary as globals
            a shipped global is set only when its digest differs from the one set last: a task's change stays, a client's change arrives

``TOKEN`` identifies a process: unpickled in the same process, a function gets the real module's globals and changes nothing.
Both ends use this module; it imports the standard library only.  Pickles in the store name its functions: do not rename them.
"""

from __future__ import annotations

import contextvars
import functools
import importlib
import importlib.util
import os
import pickle
import secrets
import sys
import threading
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

_SPACES = 64
_CODES = 512
_CODE_BYTES = 64 * 1024


class ModuleDescription(NamedTuple):
    """Metadata of a client's module."""

    file: str = ""
    package: str | None = None
    importable: tuple[str, str] = ("", "")
    """File and ``-m`` name under which it may be imported again; both empty: it may not."""
    argv: tuple[str, ...] = ()
    """Of a main module: ``sys.argv`` of its program."""


class Shipped:
    """The globals and classes that came with one pickle, by digest."""

    __slots__ = ("_changes", "parts")

    def __init__(self, parts: list[tuple[Mapping[Any, bytes], Mapping[Any, bytes]]]) -> None:
        self.parts = parts
        """Pairs: the digests set in a module of this process, and those that the pickle sets there."""
        self._changes = _registry.changes

    def is_current(self) -> bool:
        """Return whether all of them are still set, so that no other pickle has replaced one."""
        if self._changes != _registry.changes:
            if any(there.get(name) != digest for there, wanted in self.parts for name, digest in wanted.items()):
                return False
            self._changes = _registry.changes
        return True


class ClientModule:
    """A client's module as it exists in this process."""

    def __init__(self, module: types.ModuleType, about: ModuleDescription, *, is_home: bool) -> None:
        self.module = module
        self.about = about
        self.is_home = is_home
        self.applied: dict[str, bytes] = {}
        self._again: dict[str, Any] | None = None
        self.has_surrogate_argv = not "".join(about.argv).isascii() and any(
            "\ud800" <= letter <= "\udfff" for letter in "".join(about.argv)
        )
        """The submitter environment carries valid text only, so such an ``argv`` is set from the module's metadata."""

    def apply(self, shipped: Mapping[str, Any], digests: Mapping[str, bytes]) -> None:
        """Set the globals that the client has changed since they were set here."""
        if self.is_home:
            return
        names = self.module.__dict__
        _note(self.applied, digests)
        for name, value in shipped.items():
            if self.applied.get(name) != digests[name]:
                _registry.changes += name in self.applied
                self.applied[name] = digests[name]
                names[name] = value

    def imported(self, name: str) -> Any:
        """Return a global of the client's main module, imported under another name as ``multiprocessing`` does to start a process."""
        if self.is_home:
            return self.module.__dict__[name]
        if self._again is None:
            # The first client uses the import that its context made; a later run of the program imports its own.
            made = _registry.imported_mains.pop(self.about.importable, None)
            self._again = import_main(*self.about.importable, self.about.argv) if made is None else made
            _registry.imported_mains.pop(self.about.importable, None)
        if name not in self._again:
            raise pickle.UnpicklingError(f"{self.about.file} does not define {name!r} when it is imported")
        return self._again[name]


def _run_again(file: str, module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """Run a main module under the name ``__mp_main__`` and return its globals; ``sys.modules`` keeps its earlier entries."""
    import runpy  # only a worker needs it

    before, argv = sys.modules.copy(), sys.argv
    sys.argv = list(arguments)
    try:
        if module:
            return runpy.run_module(module, run_name="__mp_main__", alter_sys=True)
        return runpy.run_path(file, run_name="__mp_main__")
    finally:
        sys.argv = argv
        for name in sys.modules.keys() - before.keys():
            if getattr(sys.modules[name], "__spec__", None) is None:
                del sys.modules[name]  # made at run time: the client's one is pickled by value
        sys.modules.update(before)


class _Registry:
    """State of this process: the modules, classes and functions of its clients."""

    def __init__(self) -> None:
        self.token = ""
        self.is_worker = False
        self.spaces: OrderedDict[tuple[str, str], ClientModule] = OrderedDict()
        self.codes: OrderedDict[bytes, tuple[Any, Shipped]] = OrderedDict()
        self.changes = 0
        """Number of times a shipped global or class was replaced."""
        self.noting: list[tuple[Mapping[Any, bytes], Mapping[Any, bytes]]] | None = None
        self.by_identity: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()
        self.classes: weakref.WeakKeyDictionary[type, bytes] = weakref.WeakKeyDictionary()
        self.variables: dict[str, contextvars.ContextVar[Any]] = {}
        self.main: ClientModule | None = None
        self.imported_mains: dict[tuple[str, str], dict[str, Any]] = {}
        self.is_importing = False


_registry = _Registry()


def _forget_token() -> None:
    _registry.token = ""  # a forked child is another client: its modules change independently


os.register_at_fork(after_in_child=_forget_token)


def token() -> str:
    """Return the identifier of this process as a client."""
    _registry.token = _registry.token or secrets.token_hex(8)
    return _registry.token


def act_as_worker() -> None:
    """Mark this process as a worker: a client's main module is ``sys.modules["__main__"]`` while its functions run."""
    _registry.is_worker = True


def import_main(file: str, module: str, argv: Sequence[str]) -> dict[str, Any]:
    """Import a client's main module under another name, as ``multiprocessing`` does to start a process, and return its globals.

    Each module is imported once.  Raises what the module raises.
    """
    found = _registry.imported_mains.get((file, module))
    if found is None:
        before, _registry.is_importing = _registry.is_importing, True
        try:
            found = _registry.imported_mains[file, module] = _run_again(file, module, argv)
        finally:
            _registry.is_importing = before
    return found


def is_importing_main() -> bool:
    """Return whether a client's main module is being imported: code outside of its main guard must not start things again."""
    return _registry.is_importing


def main() -> ClientModule | None:
    """Return the main module entered last, if any."""
    return _registry.main


def enter(entered: ClientModule | None) -> None:
    """Make ``entered`` the ``__main__`` of this process, if this is a worker."""
    if entered is not None and _registry.is_worker and not entered.is_home:
        _registry.main = entered
        sys.modules["__main__"] = entered.module
        if entered.has_surrogate_argv:
            sys.argv[:] = entered.about.argv


# -- named in pickles ------------------------------------------------------------------------------


def space(owner: str, name: str, about: tuple[Any, ...]) -> ClientModule:
    """Return the module ``name`` of that client, created empty on first use."""
    found = _registry.spaces.get((owner, name))
    if found is None:
        found = _registry.spaces[owner, name] = _new_space(owner, name, ModuleDescription(*about))
        if len(_registry.spaces) > _SPACES:
            _registry.spaces.popitem(last=False)
    _registry.spaces.move_to_end((owner, name))
    if name == "__main__":
        enter(found)
    return found


def _new_space(owner: str, name: str, about: ModuleDescription) -> ClientModule:
    there = sys.modules.get(name)
    if owner == _registry.token and there is not None:
        return ClientModule(there, about, is_home=True)
    module = types.ModuleType(name)
    if about.file:
        module.__file__ = about.file
    module.__package__ = about.package
    if about.importable[1]:  # ``multiprocessing`` reads from it what a started process imports
        module.__spec__ = importlib.util.spec_from_file_location(about.importable[1], about.file or about.importable[0])
    if _registry.is_worker and name != "__main__" and (there is None or getattr(there, "__tmax_shipped__", False)):
        module.__dict__["__tmax_shipped__"] = True
        sys.modules[name] = module
    return ClientModule(module, about, is_home=False)


def globals_of(of: ClientModule) -> dict[str, Any]:
    """Return the dictionary that is the globals of its functions."""
    return of.module.__dict__


def module_of(of: ClientModule) -> types.ModuleType:
    """Return the module itself."""
    return of.module


def set_module(_module: types.ModuleType, state: tuple[ClientModule, Mapping[str, Any], Mapping[str, bytes]]) -> None:
    """Set the globals that were shipped for a module."""
    of, shipped, digests = state
    of.apply(shipped, digests)


def module_globals(name: str) -> dict[str, Any]:
    """Return the globals of a module that this process can import."""
    return importlib.import_module(name).__dict__


def imported(of: ClientModule, name: str) -> Any:
    """Return a global of a main module by importing that module."""
    return of.imported(name)


def code(data: bytes) -> Any:
    """Return the function or class of this pickle, from the cache where it is current."""
    kept = _registry.codes.get(data)
    if kept is not None and kept[1].is_current():
        for part in kept[1].parts if _registry.noting is not None else ():
            _note(*part)
        return kept[0]
    found, shipped = load(data)
    found = _its_global(found)
    if len(data) <= _CODE_BYTES:
        _registry.codes[data] = found, shipped
        if len(_registry.codes) > _CODES:
            _registry.codes.popitem(last=False)
    return found


def load(data: bytes) -> tuple[Any, Shipped]:
    """Unpickle, and return also what was shipped with the object, so that a cache can detect when to unpickle again."""
    outer, parts = _registry.noting, []  # type: ignore[var-annotated]
    _registry.noting = parts
    try:
        found = pickle.loads(data)
    finally:
        _registry.noting = outer
    for part in parts:
        _note(*part)
    return found, Shipped(parts)


def _note(there: Mapping[Any, bytes], wanted: Mapping[Any, bytes]) -> None:
    if _registry.noting is not None and wanted:
        _registry.noting.append((there, wanted))


def _its_global(found: Any) -> Any:
    """Return the global of its module that equals this function, if there is one: as an argument it is then the same object as on the client."""
    if isinstance(found, types.FunctionType) and found.__closure__ is None:
        there = found.__globals__.get(found.__qualname__)
        if isinstance(there, types.FunctionType) and there.__globals__ is found.__globals__ and there.__code__ == found.__code__:
            return there
    return found


def set_function(function: types.FunctionType, state: tuple[Any, ...]) -> None:
    """Set globals, attributes and closure of a function that was created without them."""
    attributes, slots, of, shipped, digests = state
    function.__dict__.update(attributes)
    if of is not None:
        of.apply(shipped, digests)
    for i, cell in enumerate(slots.pop("__closure__") or ()):
        try:
            content = cell.cell_contents
        except ValueError:
            continue  # it is empty on the client, too
        assert function.__closure__ is not None
        function.__closure__[i].cell_contents = content
    del slots["_cloudpickle_submodules"]  # unpickling them has imported them
    for name, value in slots.items():
        setattr(function, name, value)


def know_class(identity: str, cls: type) -> None:
    """Register a class under its identity, so that unpickling returns it."""
    _registry.by_identity[identity] = cls


def make_class(make: Callable[..., type], args: tuple[Any, ...], identity: str, plain: type | None, announcing: list[type]) -> type:
    """Return the class of this identity, created (without its contents) on first use.

    ``plain``: the metaclass that creates it; None: its own.  ``announcing``: bases whose ``__init_subclass__`` must not be called.
    """
    found = _registry.by_identity.get(identity)
    if found is not None:
        return found
    hooks = [(base, base.__dict__["__init_subclass__"]) for base in announcing if "__init_subclass__" in base.__dict__]
    for base, _ in hooks:
        setattr(base, "__init_subclass__", classmethod(nothing))  # noqa: B010  # as below
    try:
        if plain is not None and not make.__name__.endswith("enum"):
            args = (functools.partial(plain.__new__, args[0]), *args[1:])
        made = make(*args)
    finally:
        for base, hook in hooks:
            setattr(base, "__init_subclass__", hook)  # noqa: B010  # a type checker takes it for a method
    know_class(identity, made)
    return made


def set_class(cls: type, state: tuple[Any, ...]) -> None:
    """Set the contents of a class, unless it has this state already: a task's changes stay."""
    setter, inner, digest, of, shipped, digests = state
    if of is not None and of.is_home:
        return
    _note(_registry.classes, {cls: digest})
    if _registry.classes.get(cls) != digest:
        _registry.changes += cls in _registry.classes
        _registry.classes[cls] = digest
        setter(cls, inner)
    if of is not None:
        of.apply(shipped, digests)


def lru_cache(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    """Return an empty cache around this function."""
    return functools.lru_cache(maxsize, typed)(function)


def single_dispatch(function: Callable[..., Any]) -> Any:
    """Return a generic function with this default."""
    return functools.singledispatch(function)


def set_single_dispatch(function: Any, state: tuple[list[tuple[type, Callable[..., Any]]], dict[str, Any]]) -> None:
    """Register its implementations."""
    registry, attributes = state
    for cls, implementation in registry:
        function.register(cls, implementation)
    function.__dict__.update(attributes)


def local(cls: type[threading.local]) -> Any:
    """Return a thread-local object."""
    return cls.__new__(cls)


def set_local(made: Any, state: dict[str, Any]) -> None:
    """Set the values of the submitting thread."""
    made.__dict__.update(state)


def weak_dict(cls: type, items: list[tuple[Any, Any]]) -> Any:
    """Return a weak dictionary; items without another reference disappear from it."""
    return cls(items)


def context_var(identity: str, name: str, default: tuple[Any, ...], value: tuple[Any, ...]) -> contextvars.ContextVar[Any]:
    """Return the context variable of this identity, created and set on first use."""
    found = _registry.variables.get(identity)
    if found is None:
        found = contextvars.ContextVar(name, default=default[0]) if default else contextvars.ContextVar(name)
        _registry.variables[identity] = found
        if value:
            found.set(value[0])
    return found


def library(kind: Callable[[str | None], Any], name: str | None) -> Any:
    """Return a shared library."""
    return kind(name)


def lock() -> Any:
    """Return an unlocked lock."""
    return threading.Lock()


def rlock() -> Any:
    """Return an unlocked reentrant lock."""
    return threading.RLock()


def nothing(*_given: Any, **_named: Any) -> None:
    """Replace, in a digest, an object that has a digest of its own."""
