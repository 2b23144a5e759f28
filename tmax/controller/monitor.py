"""The monitor session (dashboard and log windows), and the snapshots pushed to those who look."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tmax.control.server import ClientConnection, Request
from tmax.controller.views import to_plain
from tmax.reactor import Timer

if TYPE_CHECKING:
    from tmax.controller.loop import Controller


class Monitor:
    """Pushes a snapshot a second to each ``watch`` while somebody looks at it; otherwise nothing wakes."""

    def __init__(self, house: Controller) -> None:
        self._house = house
        self._watches: dict[Request, bool] = {}
        self._timer: Timer | None = None
        if house.engine.terminals is not None:
            house.engine.terminals.on_viewers(self._looked_at)

    def open(self) -> None:
        """Make the monitor session, once the workers are ready and do not compete with it for the cores."""
        house = self._house
        terminals = house.engine.terminals
        if terminals is None or not house.settings.dashboard.enabled:
            return
        layout = house.layout
        dashboard = [sys.executable, "-P", "-m", "tmax_dashboard"]
        dashboard += ["--swarm", layout.swarm, "--control", layout.control, "--tmux", layout.tmux]
        terminals.monitor({"dashboard": dashboard, "log": ["tail", "-n", "200", "-F", layout.log]})

    def add(self, ask: Request, *, always: bool) -> None:
        """Begin to push to this connection; ``always``: also when nobody looks at the monitor session."""
        self._watches[ask] = always
        ask.stream(snapshot=to_plain(self._house.painter.paint()))
        self._looked_at()

    def on_closed(self, peer: ClientConnection) -> None:
        """This connection is gone."""
        self._watches = {ask: always for ask, always in self._watches.items() if ask.peer is not peer}

    def _wanted(self) -> list[Request]:
        terminals = self._house.engine.terminals
        looked_at = terminals is not None and terminals.viewers() > 0
        return [ask for ask, always in self._watches.items() if always or looked_at]

    def _looked_at(self) -> None:
        """Somebody came or went: push at once to whoever is looked at, and keep on while it is so."""
        if self._timer is None and self._wanted():
            self._push()

    def _push(self) -> None:
        self._timer = None
        wanted = self._wanted()
        if not wanted:
            return
        self._timer = self._house.reactor.after(self._house.settings.dashboard.refresh_s, lambda: self._house.when_settled(self._push))
        picture = to_plain(self._house.painter.paint())
        for ask in wanted:
            ask.stream(snapshot=picture)
