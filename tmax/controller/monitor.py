"""The monitor session (dashboard and log windows), and the snapshots pushed to clients of ``watch``."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tmax.control.server import ClientConnection, Request
from tmax.controller.snapshot_builder import SnapshotBuilder
from tmax.controller.views import to_plain
from tmax.core.settings import DashboardSettings
from tmax.engines.terminals import Terminals
from tmax.layout import Layout
from tmax.reactor import Reactor, Timer


class Monitor:
    """Pushes a snapshot every ``dashboard.refresh_s`` to each ``watch`` while the monitor session has a viewer; no timer runs otherwise."""

    def __init__(
        self,
        snapshots: SnapshotBuilder,
        reactor: Reactor,
        when_committed: Callable[[Callable[[], None]], None],
        *,
        terminals: Terminals | None,
        layout: Layout,
        settings: DashboardSettings,
    ) -> None:
        """``terminals``: None where the engine has none; then there is no monitor session."""
        self._snapshots = snapshots
        self._reactor = reactor
        self._when_committed = when_committed
        self._terminals = terminals
        self._layout = layout
        self._settings = settings
        self._watches: dict[Request, bool] = {}
        self._timer: Timer | None = None
        if terminals is not None:
            terminals.on_viewers(self._viewers_changed)

    def open(self) -> None:
        """Make the monitor session; called after the workers are ready, as its processes would compete with them for the cores."""
        if self._terminals is None or not self._settings.enabled:
            return
        layout = self._layout
        dashboard = [sys.executable, "-P", "-m", "tmax_dashboard"]
        dashboard += ["--swarm", layout.swarm, "--control", layout.control, "--tmux", layout.tmux]
        self._terminals.monitor({"dashboard": dashboard, "log": ["tail", "-n", "200", "-F", layout.log]})

    def add(self, request: Request, *, always: bool) -> None:
        """Begin to push to this connection; ``always``: also while the monitor session has no viewer."""
        self._watches[request] = always
        request.stream(snapshot=to_plain(self._snapshots.build()))
        self._viewers_changed()

    def on_closed(self, client: ClientConnection) -> None:
        """Stop pushing to a connection that ended."""
        self._watches = {request: always for request, always in self._watches.items() if request.client is not client}

    def _wanted(self) -> list[Request]:
        has_viewer = self._terminals is not None and self._terminals.viewers() > 0
        return [request for request, always in self._watches.items() if always or has_viewer]

    def _viewers_changed(self) -> None:
        """Begin to push when there is a viewer; ``_push`` ends by itself when there is none."""
        if self._timer is None and self._wanted():
            self._push()

    def _push(self) -> None:
        self._timer = None
        wanted = self._wanted()
        if not wanted:
            return
        self._timer = self._reactor.after(self._settings.refresh_s, lambda: self._when_committed(self._push))
        snapshot = to_plain(self._snapshots.build())
        for request in wanted:
            request.stream(snapshot=snapshot)
