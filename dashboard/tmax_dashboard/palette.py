"""What the words for style look like: the terminal's own sixteen colours on its own background.

Not a theme in true colour: on a light terminal, over a line that knows eight colours, or with NO_COLOR (Textual then
takes every colour out) the screen must stay readable, and the user's own choice of colours is already a theme.
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
    """Return the style of these words laid over each other, the last one on top; KeyError for a word that is unknown."""
    return Style.combine([_STYLES[""], *(_STYLES[name] for name in names)])
