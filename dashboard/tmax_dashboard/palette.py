"""The styles by name, in the terminal's own sixteen colours on its own background.

No theme in true colour: the screen must stay readable on a light terminal, with eight colours, or with NO_COLOR (Textual
then removes all colours), and the user's terminal colours are a theme already.
"""

from __future__ import annotations

from functools import lru_cache

from rich.style import Style

_STYLES = {
    "": Style(),
    "badge": Style(reverse=True, bold=True),
    "strong": Style(bold=True),
    "dim": Style(dim=True),
    "good": Style(color="green"),
    "info": Style(color="cyan"),
    "warn": Style(color="yellow"),
    "bad": Style(color="red", bold=True),
    "title": Style(bold=True),
    "rule": Style(dim=True),
    "head": Style(dim=True, underline=True),
    "key": Style(bold=True, color="cyan"),
    "cursor": Style(reverse=True),
}


@lru_cache(256)
def style(*names: str) -> Style:
    """Return the combination of these styles, later ones on top.  Raises KeyError for an unknown name."""
    return Style.combine([_STYLES[""], *(_STYLES[name] for name in names)])
