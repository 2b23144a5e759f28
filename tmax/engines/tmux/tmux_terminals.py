"""The terminals of workers in tmux sessions, for people and for the controller."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tmax.engines.tmux.sessions import Sessions


class TmuxTerminals:
    """See ``terminals.Terminals`` for what each method promises."""

    def __init__(self, sessions: Sessions, *, history_limit: int) -> None:
        """``history_limit``: lines of a pane's history."""
        self._sessions = sessions
        self._history_limit = history_limit

    def session_of(self, life: int) -> tuple[str, str]:
        """As ``Terminals.session_of``."""
        pane = self._sessions.pane_of(life)
        return (pane.name, pane.pane_id) if pane is not None else ("", "")

    def capture(self, life: int, answer: Callable[[str], None]) -> None:
        """As ``Terminals.capture``."""
        self._sessions.capture(life, answer, lines=self._history_limit)

    def monitor(self, commands: Mapping[str, Sequence[str]]) -> None:
        """As ``Terminals.monitor``."""
        self._sessions.monitor(commands)

    def viewers(self) -> int:
        """As ``Terminals.viewers``."""
        return self._sessions.viewers

    def on_viewers(self, callback: Callable[[], None]) -> None:
        """As ``Terminals.on_viewers``."""
        self._sessions.on_viewers = callback
