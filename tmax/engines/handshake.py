"""Handshake and reconnect: places, connections, ``Who`` and ``Hello``.

::

    announced (control socket), or found in the folder --> connection: Who --> Hello --> LifeConnected(reconnected=True)
    a later Hello on the same connection (it was renamed)                            --> LifeConnected(reconnected=False)
    anything else                                                                    --> LifeMessage
    connection ended --> LifeSilent --> the next announcement; or looked for, ever more rarely

What is sent again after a new Hello is the scheduler's to decide: it knows what was recorded, we only what was sent.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from tmax.core.events import Event, LifeConnected, LifeMessage, LifeSilent
from tmax.engines.worker_connection import WorkerConnection
from tmax.engines.worker_process import WorkerProcess
from tmax.reactor import Reactor
from tmax_pipes import rendezvous
from tmax_pipes.link import without_overtaken
from tmax_pipes.messages import Beat, Hello, Message, Who
from tmax_pipes.pipe_errors import PipeError
from tmax_pipes.rendezvous import Rendezvous

LOG = logging.getLogger("tmax.engines")

SEARCH_S = 0.1
SEARCH_MAX_S = 5.0
_PATIENT = 4
"""Searches skipped for a worker that has just been started: it announces itself; the search is the fallback."""


class Handshake:
    """Keeps up one connection with each life; ``emit`` receives what happens on them."""

    def __init__(
        self,
        reactor: Reactor,
        runtime: str,
        *,
        who: Callable[[WorkerProcess], Who],
        emit: Callable[[Event], None],
        on_beat: Callable[[int], None],
    ) -> None:
        """``runtime``: the folder in which workers publish their places.  ``on_beat(life)``: it reports that it works."""
        self._reactor = reactor
        self._runtime = runtime
        self._who = who
        self._emit = emit
        self._on_beat = on_beat

    def await_first(self, life: WorkerProcess) -> None:
        """A worker was started: it will announce itself."""
        life.searches = _PATIENT
        self.search_later(life)

    def place_in(self, life: WorkerProcess, announced: str) -> Rendezvous | None:
        """Return the place that a worker's announcement names; None when it is no place of this life."""
        number, _, n = os.path.basename(announced).partition(".")
        if number != str(life.life) or not n.isdigit():
            LOG.warning("life %d announced %r, which is no place of it", life.life, announced)
            return None
        folder = rendezvous.folder_of(self._runtime, life.life, int(n))
        return Rendezvous(folder=str(folder), pid=life.pid, ticks=life.ticks, life=life.life, n=int(n))

    def connect(self, life: WorkerProcess, place: Rendezvous) -> bool:
        """Open this place, in place of an older one; return False when it cannot be opened: it is looked for again later."""
        if place.n <= life.connections or life.ending:
            return True
        if life.connection is not None:
            life.connection.close()
            self._lost(life)
        try:
            life.connection = WorkerConnection(
                self._reactor,
                place,
                self._who(life),
                on_messages=lambda messages: self.received(life, messages),
                on_ended=lambda why: self._ended(life, why),
            )
        except (PipeError, OSError) as error:
            LOG.warning("life %d: its FIFOs at %s cannot be opened: %s", life.life, place.folder, error)
            self.search_later(life)
            return False
        life.connections = place.n
        if life.search is not None:
            life.search.cancel()
        return True

    def search_later(self, life: WorkerProcess) -> None:
        """Look for this life's place after a pause, in case no announcement comes."""
        if life.ending:
            return
        if life.search is not None:
            life.search.cancel()
        delay_s = min(SEARCH_MAX_S, SEARCH_S * 2**life.searches)
        life.searches += 1
        life.search = self._reactor.after(delay_s, lambda: self._search(life))

    def _search(self, life: WorkerProcess) -> None:
        if life.ending or life.connection is not None:
            return
        for place in rendezvous.scan(self._runtime):
            if place.life == life.life and (place.pid, place.ticks) == (life.pid, life.ticks):
                self.connect(life, place)
        if life.connection is None:
            self.search_later(life)

    def received(self, life: WorkerProcess, messages: list[Message]) -> None:
        """Take in messages of a worker."""
        for message in without_overtaken(messages):
            if isinstance(message, Hello):
                self._greeted(life, message)
            elif life.connection is not None and life.connection.greeted:
                life.note(message)
                if isinstance(message, Beat):
                    self._on_beat(life.life)
                self._emit(LifeMessage(life=life.life, message=message))  # type: ignore[arg-type]  # the decoder lets nothing else through

    def _greeted(self, life: WorkerProcess, hello: Hello) -> None:
        connection = life.connection
        if connection is None:
            return
        if (hello.life, hello.pid, hello.ticks) != (life.life, life.pid, life.ticks):
            LOG.error("life %d (process %d) received Hello of life %d (process %d)", life.life, life.pid, hello.life, hello.pid)
            connection.close()
            self._ended(life, "the wrong worker answered")
            return
        is_new, connection.greeted, life.greeted, life.searches = not connection.greeted, True, True, 0
        if life.timer is not None:
            life.timer.cancel()
        self._emit(LifeConnected(life=life.life, hello=hello, reconnected=is_new, connection=connection.place.n))

    def _ended(self, life: WorkerProcess, why: str) -> None:
        LOG.info("life %d (%s): the connection ended: %s", life.life, life.worker, why)
        self._lost(life)
        self.search_later(life)

    def _lost(self, life: WorkerProcess) -> None:
        connection, life.connection = life.connection, None
        if connection is not None and connection.greeted:
            self._emit(LifeSilent(life=life.life))
