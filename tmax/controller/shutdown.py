"""The end of a swarm, and of its controller.

::

    tmax down --> Leaving --> ... SwarmEmpty --> engine and store are closed, files removed --> the reply --> exit
    SIGTERM   --> messages from workers are recorded --> Stopping --> exit; the workers keep running for the next controller
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable

from tmax.control.server import ClientConnection, Request
from tmax.controller.loop import Loop
from tmax.core.events import Leaving, Stopping
from tmax.core.query import SwarmQuery
from tmax.engines.engine import Engine
from tmax.errors import StoreError
from tmax.layout import Layout
from tmax.reactor import Reactor
from tmax.storage.task_store import TaskStore
from tmax_pipes.durable_files import atomic_write

LOG = logging.getLogger("tmax.controller")

ANSWER_S = 0.05
"""How long the process waits for its last replies to be sent."""

STOP_LIMIT_S = 2.0
"""How long the last turn may take after SIGTERM; workers keep the results that it does not record."""

OWNER_S = 30.0
"""How long a temporary swarm waits for its owner."""


class Shutdown:
    """Takes the swarm down, or only this process."""

    def __init__(
        self,
        loop: Loop,
        query: SwarmQuery,
        *,
        engine: Engine,
        store: TaskStore,
        reactor: Reactor,
        layout: Layout,
        release: Callable[[], None],
    ) -> None:
        """``release``: releases the controller's lock; called last."""
        self._loop = loop
        self._query = query
        self._engine = engine
        self._store = store
        self._reactor = reactor
        self._layout = layout
        self._release = release
        self._waiting: list[Request] = []
        self._owners: set[ClientConnection] = set()
        self._before_close: list[Callable[[], None]] = []
        self._is_down = False
        self._is_closed = False
        if self._is_temporary:
            reactor.after(OWNER_S, self._end_if_unowned)
        loop.on_exit(self._close)
        loop.on_exit(self._log_exit)

    @property
    def _is_temporary(self) -> bool:
        return self._layout.swarm.startswith("tmp-")

    def before_close(self, call: Callable[[], None]) -> None:
        """Call before engine and store are closed."""
        self._before_close.append(call)

    # -- requests ----------------------------------------------------------------------------------

    def begin(self, *, now: bool) -> None:
        """Begin to take the swarm down.  A second call has no effect, except with ``now`` after one without: it ends running tasks."""
        if not self._query.is_leaving or (now and not self._query.is_leaving_now):
            self._loop.emit(Leaving(now=now))

    def answer_when_down(self, request: Request) -> None:
        """Answer when the swarm is down."""
        self._waiting.append(request)

    def add_owner(self, client: ClientConnection) -> None:
        """Take the swarm down when this connection ends."""
        self._owners.add(client)

    def report(self, text: str) -> None:
        """Send this line to the clients that are taking the swarm down."""
        for request in self._waiting:
            request.stream(phase=text)

    def on_closed(self, client: ClientConnection) -> None:
        """Forget a connection that ended; when it owned the swarm, take the swarm down."""
        self._waiting = [request for request in self._waiting if request.client is not client]
        if client in self._owners:
            self._owners.discard(client)
            self.begin(now=True)

    def stop(self) -> None:
        """Handle SIGTERM: record the messages from workers, and end; end after STOP_LIMIT_S even if the store has not answered."""
        self._reactor.after(STOP_LIMIT_S, lambda: self._loop.finish(0))
        self._engine.receive_all()
        self._loop.emit(Stopping())

    # -- the end -----------------------------------------------------------------------------------

    def on_empty(self) -> None:
        """No worker is left: release all that the next controller needs, and then answer."""
        self._is_down = True
        self._loop.suspend()
        self._close()
        counts = self._query.counts
        for request in self._waiting:
            request.answer(queued=counts["ready"] + counts["waiting"], running=counts["sent"] + counts["running"])
        self._waiting.clear()
        self._reactor.after(ANSWER_S, lambda: self._loop.finish(0))

    def _end_if_unowned(self) -> None:
        """Take down a temporary swarm whose client died before it became the owner."""
        if not self._owners:
            self.begin(now=True)

    def _close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        for call in self._before_close:
            call()
        if self._is_down:
            self._mark_down()
        self._engine.close(sessions=self._is_down)
        try:
            self._store.close(snapshot=self._is_down)
        except StoreError as error:
            LOG.error("the store was closed without a copy: %s", error)
        if self._is_down:
            shutil.rmtree(self._layout.runtime, ignore_errors=True)
            if self._is_temporary:
                shutil.rmtree(self._layout.state, ignore_errors=True)
        self._release()

    def _mark_down(self) -> None:
        try:
            atomic_write(f"{self._layout.state}/down", b"")
        except OSError as error:
            # The disk may be full, or the state folder removed; the swarm still goes down.
            LOG.error("the swarm goes down, and its next submit will start it again: its mark cannot be written (%s)", error)

    def _log_exit(self) -> None:
        how = "swarm down" if self._is_down else f"exit {self._loop.exit_code}, workers keep running"
        LOG.info("controller ended (%s)", how)
