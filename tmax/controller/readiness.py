"""The verb ``ready``: clients that wait for the workers, and the phases of the start that are reported to them."""

from __future__ import annotations

from collections.abc import Callable

from tmax.control.server import ClientConnection, Request
from tmax.core.events import Event, HoldSet
from tmax.core.query import SwarmQuery
from tmax.errors import WaitTimedOut, WorkerLost
from tmax.reactor import Reactor


class Readiness:
    """Reports phases as they end; answers when all workers are ready, or when no more are started."""

    def __init__(self, query: SwarmQuery, reactor: Reactor, emit: Callable[[Event], None], *, started_at: float, log: str) -> None:
        """``started_at``: monotonic seconds when the process began; ``log``: path of the controller's log, for a hint."""
        self._query = query
        self._reactor = reactor
        self._emit = emit
        self._started_at = started_at
        self._log = log
        self._phases: list[tuple[str, float]] = []
        self._waiting: list[Request] = []

    def phase(self, name: str) -> None:
        """Record and report the end of a phase of the start."""
        ms = self.since_start_ms()
        self._phases.append((name, ms))
        for request in self._waiting:
            request.stream(phase=name, ms=ms)

    def since_start_ms(self) -> float:
        """Return the milliseconds since this process began."""
        return 1000 * (self._reactor.now() - self._started_at)

    def wait(self, request: Request, timeout_s: float) -> None:
        """Report the phases so far and to come; answer when all workers are ready."""
        for name, ms in self._phases:
            request.stream(phase=name, ms=ms)
        if self._query.is_ready:
            request.answer(workers=self._query.workers_wanted)
            return
        if self._query.has_given_up:
            self._emit(HoldSet(held=self._query.is_held))  # resets the restart back-off: this client waits for another attempt
        self._waiting.append(request)
        self._reactor.after(timeout_s, lambda: self._time_out(request))

    def _time_out(self, request: Request) -> None:
        if request in self._waiting:
            self._waiting.remove(request)
            request.fail(WaitTimedOut("the workers are not ready yet", hint="tmax status; tmax logs w1"))

    def on_ready(self) -> None:
        """Answer the waiting clients: all workers are ready."""
        self.phase("workers ready")
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            request.answer(workers=self._query.workers_wanted)

    def after_turn(self) -> None:
        """Fail the waiting requests when no more workers are started."""
        if self._waiting and self._query.has_given_up:
            waiting, self._waiting = self._waiting, []
            for request in waiting:
                request.fail(
                    WorkerLost(f"workers end before they are ready: {self._query.last_death}", hint=f"see {self._log}; try: tmax doctor")
                )

    def on_closed(self, client: ClientConnection) -> None:
        """Forget the requests of a connection that ended."""
        self._waiting = [request for request in self._waiting if request.client is not client]
