"""Which tmux is new enough.  Pure."""

from __future__ import annotations

import re

from tmax.errors import TmuxError

MINIMUM = (3, 2)
"""``new-session -e`` and ``pane_dead_status`` of 3.2 are what we cannot do without."""

INSTALL_HINT = "install it, for example: sudo apt-get install tmux; or start workers without it: tmax init --engine process"
_NUMBER = re.compile(r"(\d+)\.(\d+)")
_NEWEST = (999, 0)


def parse(text: str) -> tuple[int, int]:
    """Return (major, minor) of ``tmux 3.3a``, ``3.2``, ``next-3.4``; a development version without number is the newest.

    Raises TmuxError for text that is no version of tmux.
    """
    words = text.split()
    found = _NUMBER.search(words[-1]) if words else None
    if found:
        return int(found[1]), int(found[2])
    if words and words[-1].startswith("master"):
        return _NEWEST
    raise TmuxError(f"{text.strip()!r} is not a version of tmux", hint="see: tmax doctor")


def require(text: str) -> tuple[int, int]:
    """Return the version in ``text``; raises TmuxError when it is older than MINIMUM."""
    version = parse(text)
    if version < MINIMUM:
        wanted = ".".join(map(str, MINIMUM))
        raise TmuxError(
            f"tmux {text.strip().removeprefix('tmux ')} is too old: {wanted} or newer is needed",
            hint="install a newer one, for example: sudo apt-get install tmux (Debian 12 and Ubuntu 22.04 have one)",
        )
    return version
