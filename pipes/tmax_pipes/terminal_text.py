"""Text from outside, made safe to write to a terminal: a task's name must not move a reader's cursor or recolour a screen.  Pure."""

from __future__ import annotations

import re

_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c|$)"  # OSC, DCS and the like, to their end
    r"|\x1b[ -/]*[0-~]?"  # two-character sequences
)
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # bidi marks and overrides, invisible ones
    "\ud800-\udfff]"  # bytes that are not UTF-8 travel as lone surrogates; no terminal can show them
)
_BLANKS = frozenset("\t\n\v\f\r\u2028\u2029")


def printable(text: str) -> str:
    """Return ``text`` on one line without control, bidirectional and escape sequences.

    Line ends and tabs become blanks; a lone surrogate becomes ``\N{REPLACEMENT CHARACTER}``.
    """
    return _UNSAFE.sub(_replacement, _ESCAPES.sub("", text))


def _replacement(found: re.Match[str]) -> str:
    character = found.group()
    if character in _BLANKS:
        return " "
    return "\N{REPLACEMENT CHARACTER}" if is_surrogate(character) else ""


def without_escapes(text: str) -> str:
    """Return ``text`` without terminal escape sequences; other control characters stay."""
    return _ESCAPES.sub("", text)


def is_surrogate(character: str) -> bool:
    """Return whether this is half of a surrogate pair, by which Python carries a byte that is not UTF-8."""
    return "\ud800" <= character <= "\udfff"


def has_surrogate(text: str) -> bool:
    """Return whether ``text`` holds half of a surrogate pair, and so cannot be encoded as UTF-8."""
    return not text.isascii() and any(map(is_surrogate, text))
