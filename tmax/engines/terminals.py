"""What only engines with terminals have: sessions that people attach to, and the monitor session.

An engine without terminals has ``terminals = None``: the controller makes no monitor session, and ``attach``, ``tmux`` and
``logs WORKER`` (where the engine keeps no output file) report an error that names what to use instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol


class Terminals(Protocol):
    """The terminals of one engine's workers.  Called on the loop's thread; nothing blocks."""

    def session_of(self, life: int) -> tuple[str, str]:
        """Return (session name, pane id) of a life; empty strings when it has none."""

    def capture(self, life: int, answer: Callable[[str], None]) -> None:
        """Call ``answer`` once with what the terminal of a life shows, its history included; with an empty text when it has none."""

    def monitor(self, commands: Mapping[str, Sequence[str]]) -> None:
        """Make sure that the monitor session has these windows (name -> command); they are made again after tmux was killed."""

    def viewers(self) -> int:
        """Return how many people's clients show the monitor session."""

    def on_viewers(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever ``viewers()`` has changed."""
