"""What a pickled function depended on, and whether any of it may be other by now: then it has to be pickled again.

Names, closures and defaults are compared by identity.  That says all for what cannot change (numbers, text, functions, modules);
anything else is ``mutable``, and such a function is pickled for every call.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import functools
import logging
import pathlib
import re
import types
import typing
import uuid
from dataclasses import dataclass, field
from typing import Any

_ATOMS = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    range,
    type(...),
    type(NotImplemented),
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.GenericAlias,
    types.UnionType,
    type,
    re.Pattern,
    logging.Logger,
    pathlib.PurePath,
    dt.date,
    dt.time,
    dt.timedelta,
    dt.timezone,
    decimal.Decimal,
    fractions.Fraction,
    uuid.UUID,
    typing.TypeVar,
    functools._lru_cache_wrapper,  # noqa: SLF001
)
_EXACT = frozenset(_ATOMS)
_OF_CLASSES = (property, classmethod, staticmethod, types.GetSetDescriptorType, types.MemberDescriptorType, functools.cached_property)
_BOOKS = frozenset({"_abc_impl", "_field_defaults"})


def is_settled(value: object) -> bool:
    """Return whether a name that still holds this very object still means the same."""
    if type(value) in _EXACT or isinstance(value, type | types.ModuleType | enum.Enum | pathlib.PurePath):
        return True
    if type(value) in {tuple, frozenset}:
        return all(map(is_settled, value))  # type: ignore[call-overload]
    return type(value).__module__ == "typing"


@dataclass(slots=True)
class Seen:
    """Of one function: everything its pickle was made of."""

    mutable: bool = False
    names: list[tuple[dict[str, Any], str, Any, Any]] = field(default_factory=list)
    functions: list[tuple[types.FunctionType, tuple[Any, ...]]] = field(default_factory=list)
    classes: list[tuple[type, list[Any]]] = field(default_factory=list)

    def name(self, names: dict[str, Any], name: str, value: Any, missing: object) -> None:
        """It looked up a global."""
        self.names.append((names, name, value, missing))
        if value is not missing and not is_settled(value) and not _is_dunder(name):
            self.mutable = True

    def function(self, function: types.FunctionType) -> None:
        """It took a function by value."""
        parts = _parts(function)
        self.functions.append((function, parts))
        if not all(map(is_settled, parts[1:])):
            self.mutable = True

    def cls(self, cls: type) -> None:
        """It took a class by value."""
        values = list(cls.__dict__.values())
        self.classes.append((cls, values))
        if issubclass(cls, enum.Enum):
            return
        for name, value in cls.__dict__.items():
            if not (_is_dunder(name) or name in _BOOKS or is_settled(value) or isinstance(value, _OF_CLASSES)):
                self.mutable = True

    def is_unchanged(self) -> bool:
        """Return whether a pickle made now would be the same."""
        if self.mutable:
            return False
        for names, name, value, missing in self.names:
            if names.get(name, missing) is not value:
                return False
        for function, parts in self.functions:
            now = _parts(function)
            if len(now) != len(parts) or any(a is not b for a, b in zip(now, parts, strict=True)):
                return False
        for cls, values in self.classes:
            there = cls.__dict__
            if len(there) != len(values) or any(a is not b for a, b in zip(there.values(), values, strict=True)):
                return False
        return True


def _parts(function: types.FunctionType) -> tuple[Any, ...]:
    """Its code, defaults, attributes and what it closes over, flat: so each is compared by identity."""
    parts: list[Any] = [function.__code__]
    if function.__defaults__:
        parts += function.__defaults__
    if function.__kwdefaults__:
        parts += function.__kwdefaults__.values()
    if function.__dict__:
        parts += function.__dict__.values()
    for cell in function.__closure__ or ():
        try:
            parts.append(cell.cell_contents)
        except ValueError:
            parts.append(None)
    return tuple(parts)


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
