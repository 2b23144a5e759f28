"""JSON without ``import json``, which alone takes two thirds of a bare interpreter's start (it imports ``re``).

Uses the C functions of the standard library's codec directly; where they are missing, falls back to ``json``.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _Rules:
    """The attributes that the C scanner reads from its context, as in ``json.JSONDecoder()``."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}.__getitem__
    memo: dict[str, str] = {}


def _scanner() -> Callable[[str, int], tuple[Any, int]]:
    try:
        from _json import make_scanner
    except ImportError:
        from json import JSONDecoder

        return JSONDecoder().raw_decode
    rules: Any = _Rules
    return make_scanner(rules)


def _quoter() -> Callable[[str], str]:
    try:
        from _json import encode_basestring_ascii
    except ImportError:
        from json.encoder import encode_basestring_ascii
    return encode_basestring_ascii


_scan = _scanner()
_quote = _quoter()
_BLANK = " \t\n\r"
_INFINITE = {float("inf"): "Infinity", float("-inf"): "-Infinity"}


def decode(text: str) -> Any:
    """Return the one JSON value in ``text``.  Raises ValueError when there is none, or text after it."""
    trimmed = text.strip(_BLANK)
    try:
        value, end = _scan(trimmed, 0)
    except (StopIteration, SystemError) as error:
        # SystemError: the scanner cannot raise JSONDecodeError unless ``json`` has been imported.
        raise ValueError("not JSON") from error
    if end != len(trimmed):
        raise ValueError("text after the JSON value")
    return value


def encode(value: object) -> str:
    r"""Return ``value`` as JSON in ASCII on one line; a lone surrogate becomes ``\udcXX``.  Raises TypeError for a type that JSON lacks."""
    parts: list[str] = []
    _write(value, parts.append)
    return "".join(parts)


def _write(value: object, put: Callable[[str], object]) -> None:
    if isinstance(value, str):
        put(_quote(value))
    elif value is None or value is True or value is False:
        put({None: "null", True: "true", False: "false"}[value])
    elif isinstance(value, int):
        put(int.__repr__(value))
    elif isinstance(value, float):
        put("NaN" if value != value else _INFINITE.get(value) or float.__repr__(value))  # noqa: PLR0124 - only NaN differs from itself
    elif isinstance(value, dict):
        _write_object(value, put)
    elif isinstance(value, list | tuple):
        _write_list(value, put)
    else:
        raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _write_object(value: dict[Any, Any], put: Callable[[str], object]) -> None:
    before = "{"
    for key, one in value.items():
        put(before)
        put(_quote(str(key)))
        put(": ")
        _write(one, put)
        before = ", "
    put("}" if value else "{}")


def _write_list(value: list[Any] | tuple[Any, ...], put: Callable[[str], object]) -> None:
    before = "["
    for one in value:
        put(before)
        _write(one, put)
        before = ", "
    put("]" if value else "[]")
