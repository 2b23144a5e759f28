"""Unpickling a result whose classes are defined only in the ``__main__`` of the program that submitted the task.

A stand-in class takes the place of each; its objects are shown by class name and content.
"""

from __future__ import annotations

import io
import pickle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self


class StandInUnpickler(pickle.Unpickler):
    """Unpickler that returns a stand-in for every class of ``__main__``."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._made: dict[str, type] = {}

    def find_class(self, module_name: str, name: str, /) -> Any:
        """Return the class or function of this name, or its stand-in."""
        if module_name != "__main__":
            return super().find_class(module_name, name)
        return self._made.setdefault(name, StandInMeta(name.rpartition(".")[2], (StandIn,), {}))


class StandInMeta(type):
    """Metaclass of stand-ins: an attribute of one (``Color.RED``, a class method) is a stand-in named after it."""

    def __getattr__(cls, name: str) -> StandInMeta:
        """Return a callable stand-in for the attribute."""
        if name.startswith("__"):
            raise AttributeError(name)
        return StandInMeta(f"{cls.__name__}.{name}", (StandIn,), {})

    def __repr__(cls) -> str:
        """Return its name."""
        return cls.__name__


class StandIn(metaclass=StandInMeta):
    """An object of a class that is not defined in this process."""

    _args: tuple[object, ...]
    _items: list[object]
    _state: object

    def __new__(cls, *args: object, **_named: object) -> Self:
        """Keep the constructor's arguments."""
        self = super().__new__(cls)
        self._args, self._items, self._state = args, [], None
        return self

    def __init__(self, *_args: object, **_named: object) -> None:
        """Accept any arguments."""

    def __setstate__(self, state: object) -> None:
        """Keep the pickled state."""
        self._state = state

    def append(self, item: object) -> None:
        """Keep an item of a list."""
        self._items.append(item)

    def extend(self, items: list[object]) -> None:
        """Keep items of a list."""
        self._items.extend(items)

    def add(self, item: object) -> None:
        """Keep an item of a set."""
        self._items.append(item)

    def __setitem__(self, key: object, value: object) -> None:
        """Keep an item of a dictionary."""
        self._items.append((key, value))

    def __hash__(self) -> int:
        """Return the identity: a stand-in may be a key."""
        return id(self)

    def __eq__(self, other: object) -> bool:
        """Return whether it is the same object."""
        return self is other

    def __repr__(self) -> str:
        """Return class name, arguments, attributes and items."""
        parts = [repr(arg) for arg in self._args]
        states = self._state if isinstance(self._state, tuple) else (self._state,)
        for state in states:
            if isinstance(state, dict):
                parts += [f"{key}={value!r}" for key, value in state.items()]
            elif state is not None:
                parts.append(repr(state))
        if self._items:
            parts.append(repr(self._items))
        return f"{type(self).__name__}({', '.join(parts)})"
