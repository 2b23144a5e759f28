"""What a pickled function depended on, and whether any of it is other by now: then it has to be pickled again.

Names, closures and defaults are compared by identity.  That is enough for what cannot change (numbers, text, functions, modules).
Other data (a dictionary, an array) is compared by the digest of a plain pickle of it; where there is none the function is pickled for every call.
"""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import fractions
import functools
import hashlib
import logging
import pathlib
import pickle
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
class Dependencies:
    """Of one function: everything its pickle was made of."""

    mutable: bool = False
    """Of something whose changes cannot be seen."""
    data: list[tuple[Any, bytes]] = field(default_factory=list)
    names: list[tuple[dict[str, Any], str, Any, Any]] = field(default_factory=list)
    functions: list[tuple[types.FunctionType, tuple[Any, ...]]] = field(default_factory=list)
    classes: list[tuple[type, list[Any]]] = field(default_factory=list)

    def name(self, names: dict[str, Any], name: str, value: Any, missing: object) -> None:
        """It looked up a global."""
        self.names.append((names, name, value, missing))
        if value is not missing and not is_settled(value) and not _is_dunder(name):
            self._note(value)

    def _note(self, value: Any) -> None:
        """It took data that may change without becoming another object."""
        if self.mutable or any(value is known for known, _ in self.data):
            return
        digest = _digest_of(value)
        if digest is None:
            self.mutable = True
        else:
            self.data.append((value, digest))

    def function(self, function: types.FunctionType) -> None:
        """It took a function by value."""
        parts = _parts(function)
        self.functions.append((function, parts))
        for part in parts[1:]:
            if not is_settled(part):
                self._note(part)

    def cls(self, cls: type) -> None:
        """It took a class by value."""
        values = _values(cls)
        self.classes.append((cls, values))
        if issubclass(cls, enum.Enum):
            return
        for name, value in cls.__dict__.items():
            if not (_is_dunder(name) or name in _BOOKS or is_settled(value) or isinstance(value, _OF_CLASSES)):
                self._note(value)

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
            there = _values(cls)
            if len(there) != len(values) or any(a is not b for a, b in zip(there, values, strict=True)):
                return False
        return all(_digest_of(value) == digest for value, digest in self.data)


def _digest_of(value: Any) -> bytes | None:
    """Return a digest of what this object holds; None where pickle cannot tell what it holds."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        known = hashlib.sha256(pickle.dumps(value, 5, buffer_callback=buffers.append))
        for buffer in buffers:
            known.update(buffer.raw())
    except Exception:  # the object's own methods may raise anything
        return None
    return known.digest()


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


def _values(cls: type) -> list[Any]:
    return [value for name, value in cls.__dict__.items() if name != "__slotnames__"]  # pickle's own note


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")
