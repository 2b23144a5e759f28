"""Reading a result whose classes belong to the program that submitted the task: they stand only in its ``__main__``.

An object of such a class is shown by its class's name and what it holds.
"""

from __future__ import annotations

import io
import pickle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self


class StandInUnpickler(pickle.Unpickler):
    """Unpickles; what it does not find in ``__main__`` becomes a class that can only be shown."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._made: dict[str, type] = {}

    def find_class(self, module_name: str, name: str, /) -> Any:
        """Return the class or function of this name."""
        if module_name != "__main__":
            return super().find_class(module_name, name)
        return self._made.setdefault(name, StandInMeta(name.rpartition(".")[2], (StandIn,), {}))


class StandInMeta(type):
    """The class of such classes: what is asked of one is shown by its name, too, as ``Color.RED`` or a method that makes objects."""

    def __getattr__(cls, name: str) -> StandInMeta:
        """Return a class that can be called, in the place of whatever this is."""
        if name.startswith("__"):
            raise AttributeError(name)
        return StandInMeta(f"{cls.__name__}.{name}", (StandIn,), {})

    def __repr__(cls) -> str:
        """Its name."""
        return cls.__name__


class StandIn(metaclass=StandInMeta):
    """An object of a class that is not here."""

    _args: tuple[object, ...]
    _items: list[object]
    _state: object

    def __new__(cls, *args: object, **_named: object) -> Self:
        """Keep what it was made from."""
        self = super().__new__(cls)
        self._args, self._items, self._state = args, [], None
        return self

    def __init__(self, *_args: object, **_named: object) -> None:
        """Take anything."""

    def __setstate__(self, state: object) -> None:
        """Keep it."""
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
        """It may be a key."""
        return id(self)

    def __eq__(self, other: object) -> bool:
        """It equals itself."""
        return self is other

    def __repr__(self) -> str:
        """Name, what it was made from, and its attributes."""
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
