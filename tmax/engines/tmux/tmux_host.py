"""Puts each worker process into a session of the swarm's own tmux server."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tmax.core.settings import TmuxSettings
from tmax.engines import server_recovery
from tmax.engines.host import HostedProcess, NewProcess, OnCreated, OnEnd
from tmax.engines.tmux import tmux_conf
from tmax.engines.tmux.control_mode import quote
from tmax.engines.tmux.sessions import FoundPane, Sessions
from tmax.engines.tmux.tmux_terminals import TmuxTerminals
from tmax.errors import TmuxError
from tmax.layout import Layout, private_folder
from tmax.reactor import Reactor

_REMOVED_TRIES = 5
"""The runtime folder may be removed as often while it is being opened."""


class TmuxHost:
    """See ``host.Host`` for what each method promises."""

    def __init__(self, layout: Layout, settings: TmuxSettings, reactor: Reactor, *, env: Mapping[str, str]) -> None:
        """``env``: of the tmux server and so of the workers."""
        self._layout = layout
        self._settings = settings
        self._found: list[FoundPane] = []
        self._on_paneless: Callable[[list[int]], None] = _ignore
        self.sessions = Sessions(reactor, socket=layout.tmux, config=layout.tmux_conf, env=env, on_paneless=self._paneless)
        self._terminals = TmuxTerminals(self.sessions, history_limit=settings.history_limit)

    @property
    def terminals(self) -> TmuxTerminals:
        """As ``Host.terminals``."""
        return self._terminals

    @property
    def sockets(self) -> Sequence[str]:
        """As ``Host.sockets``."""
        return (self._layout.tmux,)

    def open(self, on_paneless: Callable[[list[int]], None]) -> list[HostedProcess]:
        """As ``Host.open``; the panes of the sessions are what is found."""
        self._on_paneless = on_paneless
        for path in (self._layout.runtime, self._layout.state):
            quote(path)  # it is on every worker's command line
        self._found = self._open_sessions()
        return list(self._found)

    def _open_sessions(self) -> list[FoundPane]:
        for tries_left in range(_REMOVED_TRIES, -1, -1):
            private_folder(self._layout.workers)
            folder = os.lstat(self._layout.workers)
            try:
                tmux_conf.write(self._layout, self._settings)
                return self.sessions.open()
            except (FileNotFoundError, TmuxError):
                # Its folder may have been removed under it; anything else is the same at the next try.
                if not tries_left or (os.path.lexists(self._layout.tmux_conf) and _is_still(self._layout.workers, folder)):
                    raise
            private_folder(self._layout.workers)
            server_recovery.recall_servers(self._layout, [self._layout.tmux])  # one may have started that cannot be reached now
        raise AssertionError  # the last try returns or raises

    def reopen(self) -> list[str]:
        """As ``Host.reopen``."""
        remade = []
        if not os.path.lexists(self._layout.tmux_conf):
            tmux_conf.write(self._layout, self._settings)
            remade.append("tmux.conf")
        if self.sessions.reopen():
            remade.append("tmux.sock")
        return remade

    def create(self, wanted: Sequence[NewProcess], created: OnCreated) -> None:
        """As ``Host.create``: all sessions in one write."""
        self.sessions.create([replace(new, argv=_without_tmux(new.argv)) if new.is_worker else new for new in wanted], created)

    def take(self, life: int, found: HostedProcess, name: str) -> None:
        """As ``Host.take``."""
        assert isinstance(found, FoundPane)
        self.sessions.take(life, session_id=found.session_id, pane_id=found.pane_id, name=found.name)
        if found.name != name:
            self.sessions.rename(life, name)

    def forget_others(self, known: set[int]) -> None:
        """As ``Host.forget_others``: sessions of dead lives are kept for people, those of lives that run are ended."""
        dead, running = strangers(self._found, known)
        for pane in dead:
            self.sessions.take_dead(pane.life, session_id=pane.session_id)
        for pane in running:
            self.sessions.discard(pane.session_id)
        self._found = []

    def rename(self, life: int, name: str) -> None:
        """As ``Host.rename``."""
        self.sessions.rename(life, name)

    def session_name(self, life: int) -> str:
        """As ``Host.session_name``."""
        return self._terminals.session_of(life)[0]

    def output_file(self, life: int) -> str:
        """There is none: the pane shows it."""
        return ""

    def trim_output(self, life: int) -> None:
        """Tmux bounds the history of a pane."""

    def end_of(self, life: int, answer: OnEnd) -> None:
        """As ``Host.end_of``: as tmux kept it in the dead pane."""
        self.sessions.end_of(life, answer)

    def last_output(self, life: int, answer: Callable[[str], None], *, lines: int) -> None:
        """As ``Host.last_output``."""
        self.sessions.capture(life, answer, lines=lines)

    def retire(self, life: int) -> None:
        """As ``Host.retire``."""
        self.sessions.retire(life)

    def close(self, *, everything: bool) -> None:
        """As ``Host.close``."""
        self.sessions.close(end_server=everything)
        if everything:
            for path in (self._layout.tmux, self._layout.tmux_conf):
                Path(path).unlink(missing_ok=True)

    def _paneless(self, lives: list[int]) -> None:
        self._on_paneless(lives)


def strangers(panes: Sequence[FoundPane], known: set[int]) -> tuple[list[FoundPane], list[FoundPane]]:
    """Return (dead sessions to keep for people, sessions to end) among panes of lives that the store does not know.

    Sessions without the mark of a life are a person's own and are left alone.
    """
    ours = [pane for pane in panes if pane.life and pane.life not in known]
    kept = sorted((pane for pane in ours if pane.dead), key=lambda pane: pane.life)
    return kept, [pane for pane in ours if not pane.dead]


def _without_tmux(argv: Sequence[str]) -> list[str]:
    """Return ``argv`` started without the variables by which tmux names its server: no task of a worker may reach ours by them."""
    return ["env", "-u", "TMUX", "-u", "TMUX_PANE", *argv]


def _is_still(path: str, folder: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.lstat(path), folder)
    except FileNotFoundError:
        return False


def _ignore(_lives: list[int]) -> None:
    """Before ``open``."""
