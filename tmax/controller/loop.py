r"""The controller's loop: collect events, decide, commit, act.

    engine ---\                       /--> store: commit
    socket ----+--> events --> turn --+
    timers ---/                       \--> after the commit: actions --> engine, replies

At most one commit is in flight; events that arrive meanwhile belong to the next turn.
Engine, store, reactor and clock are arguments: the simulation (``tests/sim``) drives this loop with its own.
A failed commit (other than on a full disk) ends the loop: uncommitted decisions have not left the process, and the next
controller starts from the rows of the store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from tmax.core.events import Action, Event, KillLife, NameLife, SendMessages, StartLife, Tick, Turn
from tmax.core.scheduler import Scheduler
from tmax.engines.engine import Engine
from tmax.errors import StorageFull
from tmax.storage.task_store import CommitResult, TaskStore

LOG = logging.getLogger("tmax.controller")

RETRY_FULL_S = 1.0
"""Seconds between attempts to commit on a full disk; requests wait meanwhile."""


class LoopTimer(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call."""


class LoopReactor(Protocol):
    """The part of a reactor that the loop uses."""

    def now(self) -> float:
        """Monotonic seconds."""

    def at(self, when_s: float, callback: Callable[[], None]) -> LoopTimer:
        """Call once at ``when_s``."""

    def after(self, delay_s: float, callback: Callable[[], None]) -> LoopTimer:
        """Call once, ``delay_s`` from now."""

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call on the loop's thread; from any thread."""

    def run_once(self, limit_s: float | None = None) -> None:
        """Wait for an event, at most ``limit_s`` seconds (None: no limit), and call what is due."""


class Loop:
    """Turns events into commits, and commits into actions."""

    def __init__(
        self, scheduler: Scheduler, *, engine: Engine, store: TaskStore, reactor: LoopReactor, wall_clock: Callable[[], float]
    ) -> None:
        """``wall_clock``: UTC epoch seconds, which are only recorded."""
        self._scheduler = scheduler
        self._engine = engine
        self._store = store
        self._reactor = reactor
        self._wall_clock = wall_clock
        self._events: list[Event] = []
        self._is_committing = False
        self._is_suspended = False
        self._when_committed: list[Callable[[], None]] = []
        self._after_turn: list[Callable[[], None]] = []
        self._on_exit: list[Callable[[], None]] = []
        self._wake: LoopTimer | None = None
        self.exit_code: int | None = None
        """None: the loop continues."""
        self._handlers: dict[type[Any], Callable[[Any], object]] = {
            StartLife: lambda _: None,  # carried out as one batch
            NameLife: lambda action: engine.name(action.life, action.worker),
            SendMessages: lambda action: engine.send(action.life, action.messages, action.connection),
            KillLife: lambda action: engine.kill(action.life, action.why),
        }

    # -- wiring, before the first turn -------------------------------------------------------------

    def handle(self, kind: type[Action], handler: Callable[[Any], object]) -> None:
        """Register ``handler`` for actions of this kind."""
        self._handlers[kind] = handler

    def after_turn(self, call: Callable[[], None]) -> None:
        """Call after the actions of each turn."""
        self._after_turn.append(call)

    def on_exit(self, call: Callable[[], None]) -> None:
        """Call once when the loop ends; calls run in the order of their registration."""
        self._on_exit.append(call)

    # -- events and exit ---------------------------------------------------------------------------

    def emit(self, event: Event) -> None:
        """Add an event to the next turn."""
        self._events.append(event)

    def when_committed(self, call: Callable[[], None]) -> None:
        """Call when every decision so far is on disk: a client must not read a state that a crash may still undo."""
        if self._is_committing:
            self._when_committed.append(call)
        else:
            call()

    def suspend(self) -> None:
        """Start no more turns; timers and sockets are still served until ``finish``."""
        self._is_suspended = True

    def finish(self, code: int) -> None:
        """End the loop with this exit code; later calls have no effect."""
        if self.exit_code is None:
            self.exit_code = code
            self.suspend()
            for call in self._on_exit:
                call()

    # -- turns -------------------------------------------------------------------------------------

    def run(self) -> int:
        """Run until ``finish``; return the exit code."""
        while self.exit_code is None:
            self.run_once()
        return self.exit_code

    def run_once(self) -> None:
        """Wait for events unless some are due, then handle them in one turn."""
        self._reactor.run_once(0.0 if self._may_turn() else None)
        if self._may_turn():
            self._turn()

    def _may_turn(self) -> bool:
        return bool(self._events) and not self._is_committing and not self._is_suspended

    def _turn(self) -> None:
        events, self._events = self._events, []
        turn = self._scheduler.handle(events, self._reactor.now(), self._wall_clock())
        self._set_wake(turn.wake_at)
        if turn.changes:
            self._commit(turn)
        else:
            self._act(turn)

    def _commit(self, turn: Turn) -> None:
        self._is_committing = True
        result = self._store.commit_now(turn.changes)
        if result is None:
            self._store.commit(turn.changes, lambda result: self._reactor.call_soon(lambda: self._committed(turn, result)))
        else:
            self._committed(turn, result)

    def _committed(self, turn: Turn, result: CommitResult) -> None:
        if isinstance(result.error, StorageFull):
            LOG.error("%s: requests wait until there is space", result.error)
            self._reactor.after(RETRY_FULL_S, lambda: self._commit(turn))
            return
        if result.error is not None:
            LOG.critical("the store failed (%s); this controller ends, its workers keep running", result.error)
            self.finish(int(result.error.exit_code))
            return
        self._scheduler.committed(result.seconds)
        self._is_committing = False
        self._act(turn)
        waiting, self._when_committed = self._when_committed, []
        for call in waiting:
            call()

    def _act(self, turn: Turn) -> None:
        starts = [(action.life, action.worker) for action in turn.actions if isinstance(action, StartLife)]
        if starts:
            self._engine.start(starts)
        for action in turn.actions:
            self._handlers[type(action)](action)
        for call in self._after_turn:
            call()
        if self._scheduler.query.is_stopping:
            self.finish(0)

    def _set_wake(self, wake_at: float | None) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if wake_at is not None:
            self._wake = self._reactor.at(wake_at, lambda: self.emit(Tick()))
