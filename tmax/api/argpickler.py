"""Arguments that a plain pickle cannot carry: functions and classes in them go by value, each as a pickle of its own.

The worker makes such a function or class once, however often it comes (``rebuild.code``).  Everything else goes as with pickle,
cloudpickle's additions included; a lock or an open file among arguments is refused, as by ``ProcessPoolExecutor``.
"""

from __future__ import annotations

import io
import pickle
import types
import weakref
from collections import ChainMap
from typing import Any

from cloudpickle import cloudpickle as _cp

from tmax.api import codepickler
from tmax.api.pickle_dependencies import Dependencies
from tmax.api.reducers import registered
from tmax_pipes import rebuild

_kept: weakref.WeakKeyDictionary[Any, tuple[bytes, Dependencies]] = weakref.WeakKeyDictionary()


class ArgPickler(_cp.Pickler):  # type: ignore[misc]
    """Pickles arguments."""

    def __init__(self, file: io.BytesIO, lost: set[str]) -> None:
        own = registered()
        if own:
            self.dispatch_table = ChainMap(own, _cp.Pickler.dispatch_table)  # before it is made: it looks only then
        super().__init__(file, 5)
        self._lost = lost

    def reducer_override(self, obj: Any) -> Any:
        """Return how to make ``obj`` again; NotImplemented: as pickle does."""
        if isinstance(obj, types.FunctionType | type):
            if codepickler.goes_by_name(obj, self._lost):
                return NotImplemented
            special = _cp._class_reduce(obj) if isinstance(obj, type) else None
            if special and special is not NotImplemented and special[0] not in codepickler.SKELETONS:
                return special
            return rebuild.code, (_bytes_of(obj, self._lost),)
        if codepickler.is_code(obj):
            return rebuild.code, (_bytes_of(obj, self._lost),)
        if isinstance(obj, types.ModuleType) and (obj.__name__ in self._lost or obj.__name__ == "__main__"):
            return rebuild.code, (_bytes_of(obj, self._lost),)
        if isinstance(obj, io.IOBase):
            return codepickler.stream(obj)
        return NotImplemented


def dump(value: object, lost: set[str]) -> bytes:
    """Return its pickle; raises what pickling raises."""
    file = io.BytesIO()
    try:
        ArgPickler(file, lost).dump(value)
    except pickle.PicklingError as error:
        # cloudpickle raises it with another message; pickle and ProcessPoolExecutor raise it as it is.
        if isinstance(error.__cause__, RecursionError):
            raise error.__cause__ from None
        raise
    return file.getvalue()


def _bytes_of(obj: Any, lost: set[str]) -> bytes:
    kept = _kept.get(obj) if not isinstance(obj, types.ModuleType) else None
    if kept is not None and kept[1].is_unchanged():
        return kept[0]
    seen = Dependencies()
    data = codepickler.dump(obj, lost, seen)
    if not seen.mutable:
        _kept[obj] = (data, seen)
    return data
