"""Safe text, measured in columns; numbers for people.  Pure.

Text from outside (labels, names, reasons, output) passes through ``clean`` before it is drawn.  A control
character becomes its picture (ESC: ``␛``), so that it stays visible; other characters that would move, turn
or hide text become ``\N{REPLACEMENT CHARACTER}``.  Nothing is parsed as markup: ``[red]`` is five characters.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from rich.cells import cell_len

from tmax_pipes.terminal_text import without_escapes

LABEL_LIMIT = 300
"""Characters kept of a label: more than the widest screen shows, few enough that a megabyte of name costs nothing."""

_BLANKS = frozenset("\t\n\v\f\r\x85\u2028\u2029")
_BLOCKS = "▁▂▃▄▅▆▇█"


@lru_cache(4096)
def clean(text: str, limit: int = LABEL_LIMIT) -> str:
    """Return at most ``limit`` characters of ``text`` on one line, with nothing in it that a terminal would obey."""
    text = text[:limit]
    if text.isascii() and text.isprintable():
        return text
    shown: list[str] = []
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character) == "Mn" else 0
        if marks <= 2:  # scripts use up to two marks on a letter; many more would cover the lines above
            shown.append(_shown(character))
    return "".join(shown)


@lru_cache(4096)
def _shown(character: str) -> str:
    code = ord(character)
    if character in _BLANKS:
        return " "
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    # Variation selectors, skin tones and flags: terminals disagree about their width, which would misalign the line.
    if 0xFE00 <= code <= 0xFE0F or 0x1F3FB <= code <= 0x1F3FF:
        return ""
    if 0x1F1E6 <= code <= 0x1F1FF:
        return chr(ord("A") + code - 0x1F1E6)
    if unicodedata.category(character) == "Zs":
        return " "
    return character if character.isprintable() and unicodedata.category(character) != "Me" else "\N{REPLACEMENT CHARACTER}"


def columns_of(text: str) -> int:
    """Return the columns that ``text`` takes, as Textual counts them (a wide character takes two)."""
    return cell_len(text)


def clip(text: str, width: int) -> str:
    """Return ``text`` cut to ``width`` columns; an ellipsis marks the cut."""
    if len(text) * 2 <= width or cell_len(text) <= width:
        return text
    if width <= 0:
        return ""
    kept: list[str] = []
    left = width - 1
    for character in text:
        left -= cell_len(character)
        if left < 0:
            break
        kept.append(character)
    return "".join(kept) + "…"


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Return ``text`` in exactly ``width`` columns: cut, or filled with blanks on the left (``right``) or the right."""
    text = clip(text, width)
    blanks = " " * (width - cell_len(text))
    return blanks + text if right else text + blanks


def since(seconds: float) -> str:
    """Return how long something has lasted: ``83s``, ``14m``, ``2h05m``, ``3d04h``.

    Coarse on purpose, so that long durations are not drawn again every second.
    """
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole}s"
    if whole < 7200:
        return f"{whole // 60}m"
    if whole < 172_800:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02}h"


def took(seconds: float | None) -> str:
    """Return a measured duration: ``0.2ms``, ``340ms``, ``1.2s``, ``83s``, ``14m``; ``-`` when there is none."""
    if seconds is None:
        return "-"
    if seconds < 0.0099:
        return f"{max(seconds, 0.0) * 1000:.1f}ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    return f"{seconds:.1f}s" if seconds < 9.95 else since(seconds + 0.5)


def size(count_bytes: float | None) -> str:
    """Return bytes in powers of 1000: ``512 B``, ``45 MB``, ``1.2 GB``; ``-`` when unknown."""
    if count_bytes is None:
        return "-"
    amount = float(count_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:
            return f"{amount:.1f} {unit}" if unit not in {"B", "kB"} and amount < 9.95 else f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def count(number: float) -> str:
    """Return a count in at most seven columns: ``7``, ``12,345``, ``123k``, ``1.2M``."""
    if number < 100_000:
        return f"{number:,.0f}"
    if number < 999_500:
        return f"{number / 1000:.0f}k"
    return f"{number / 1e6:.1f}M" if number < 99_950_000 else f"{number / 1e6:,.0f}M"


def brief(number: float) -> str:
    """Return a count in at most four columns, for narrow places: ``999``, ``1.2k``, ``12k``, ``1.2M``."""
    for unit, one in (("", 1), ("k", 1e3), ("M", 1e6)):
        if number < 999.5 * one:
            return f"{number / one:.1f}{unit}" if unit and number < 9.95 * one else f"{number / one:.0f}{unit}"
    return f"{number / 1e9:.0f}G"


def bars(values: Sequence[float], width: int, height: int) -> tuple[str, ...]:
    """Return ``height`` lines of ``width`` columns, the top one first: one bar for each of the last ``width`` values.

    The highest value shown fills the height; zero is a blank, and any larger value is visible.
    """
    shown = list(values[-width:]) if width > 0 else []
    shown = [0.0] * (width - len(shown)) + shown
    most = max(shown, default=0)
    steps = [0 if value <= 0 else max(1, round(value / most * height * 8)) for value in shown]
    return tuple("".join(_block(step - level * 8) for step in steps) for level in reversed(range(height)))


def _block(step: int) -> str:
    return " " if step <= 0 else _BLOCKS[min(step, 8) - 1]


def log_lines(data: bytes, *, cut: bool = False) -> tuple[str, ...]:
    """Return a task's output as safe lines; ``cut``: its beginning is missing, so the first line is incomplete.

    Escape sequences are removed; of a line overwritten with carriage returns the last text is kept.
    """
    text = without_escapes(data.decode("utf-8", "replace"))
    lines = text.split("\n")
    if lines and not lines[-1]:
        lines.pop()
    if cut:
        lines = ["… earlier output is left out", *lines[1:]]
    return tuple(_log_line(line) for line in lines)


def _log_line(line: str) -> str:
    if "\r" in line:
        line = next((part for part in reversed(line.split("\r")) if part), "")
    if "\t" in line:
        line = line.expandtabs(8)
    return line if line.isascii() and line.isprintable() else clean(line, 20_000)
