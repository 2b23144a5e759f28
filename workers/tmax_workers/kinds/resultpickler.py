"""Pickling of results that plain pickle rejects: by value, except globals of the submitter's main module, which go by name."""

from __future__ import annotations

import io
import sys
import types
from typing import Any

from cloudpickle import cloudpickle


class ResultPickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Classes of ``__main__`` go by name: the submitter gets instances of its own."""

    def reducer_override(self, obj: Any) -> Any:
        """Return how to rebuild ``obj``; NotImplemented: as pickle does."""
        if isinstance(obj, type | types.FunctionType) and obj.__module__ == "__main__" and _is_there(obj):
            return NotImplemented if "." not in obj.__qualname__ else obj.__qualname__
        return super().reducer_override(obj)


def _is_there(obj: Any) -> bool:
    found: Any = sys.modules["__main__"]
    for name in obj.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is obj


def dump(value: object) -> bytes:
    """Return its pickle; raises what pickling raises."""
    file = io.BytesIO()
    ResultPickler(file, 5).dump(value)
    return file.getvalue()
