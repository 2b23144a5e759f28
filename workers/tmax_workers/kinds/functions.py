"""Functions of tasks, unpickled once and cached while they are in use."""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from types import FunctionType
from typing import Any, cast

from tmax_pipes import blobs, rebuild
from tmax_pipes.jobs import Blob, Body

_KEPT = 128
_KEPT_BYTES = 512 * 1024 * 1024
_BY_VALUE = rebuild.__name__.encode()


class _NamedFunction:
    """A global of an imported module, valid as long as its name denotes the same function."""

    __slots__ = ("_module", "_module_name", "_name", "function")

    def __init__(self, function: Callable[..., Any], module: Any) -> None:
        self.function = function
        self._name = function.__qualname__
        self._module_name = function.__module__
        self._module = module

    @classmethod
    def of(cls, function: Any) -> _NamedFunction | None:
        """Return None for an object that is no function, or that its name does not denote any more."""
        if not isinstance(function, FunctionType):
            return None
        named = cls(function, sys.modules.get(function.__module__))
        return named if named.is_good() else None

    def is_good(self) -> bool:
        module = self._module
        return module is not None and sys.modules.get(self._module_name) is module and module.__dict__.get(self._name) is self.function


class FunctionCache:
    """The unpickled functions of this process; main thread only."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Body, tuple[Callable[..., Any], rebuild.ClientModule | None, rebuild.Shipped, int]] = OrderedDict()
        self._named: dict[Body, _NamedFunction] = {}
        self._bytes = 0
        rebuild.act_as_worker()

    def load(self, body: Body, blob_folder: str) -> Callable[..., Any]:
        """Return the function of this body; its program's main module becomes ``__main__``.  Raises what unpickling raises."""
        named = self._named.get(body)
        if named is not None and named.is_good():
            return named.function
        kept = self._kept.get(body)
        if kept is not None and kept[2].is_current():  # else another task of the program has set other globals
            self._kept.move_to_end(body)
            rebuild.enter(kept[1])
            return kept[0]
        data = blobs.load(blob_folder, body)
        function, shipped = rebuild.load(data)
        if isinstance(body, Blob) or _BY_VALUE in data:  # a pickle by name alone is loaded each time, which is as quick
            self._keep(body, function, shipped, len(data))
        else:
            self._note_name(body, function)
        return cast("Callable[..., Any]", function)

    def _note_name(self, body: Body, function: Any) -> None:
        named = _NamedFunction.of(function)
        if named is not None:
            if len(self._named) >= _KEPT:
                self._named.clear()
            self._named[body] = named

    def _keep(self, body: Body, function: Callable[..., Any], shipped: rebuild.Shipped, size_bytes: int) -> None:
        if body in self._kept:
            self._bytes -= self._kept[body][-1]
        self._kept[body] = (function, rebuild.main(), shipped, size_bytes)
        self._bytes += size_bytes
        while len(self._kept) > 1 and (len(self._kept) > _KEPT or self._bytes > _KEPT_BYTES):
            _, (*_, size) = self._kept.popitem(last=False)
            self._bytes -= size


_functions = FunctionCache()


def load(body: Body, blob_folder: str) -> Callable[..., Any]:
    """Return the function of this body; see ``FunctionCache``."""
    return _functions.load(body, blob_folder)
