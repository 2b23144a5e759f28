"""What the controller needs of whatever carries its workers.

The scheduler places, the engine carries: priority, ageing, retries and delivery are the same on every engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from tmax.core.events import Event
from tmax.core.model import LifeRecord
from tmax_pipes.messages import ToWorker


class Engine(Protocol):
    """Starts, names, speaks to and ends workers; tells what happened by calling ``emit`` on the loop's thread.

    No method blocks for longer than a batched call to tmux takes, and none raises for a worker that is gone:
    a life that cannot be started, or that ends, is reported as ``LifeEnded``.
    """

    def open(self, emit: Callable[[Event], None]) -> None:
        """Make ready to start workers (tmux server, folders).  Raises ``TmuxError`` with a hint when that is impossible."""

    def reopen(self) -> list[str]:
        """Make again what was removed from the runtime folder, which exists; return the names of what was made."""

    def start(self, lives: Sequence[tuple[int, str]]) -> None:
        """Begin to start these (life, worker name) in one batch; ``LifeStarted`` then ``LifeGreeted`` follow for each."""

    def adopt(self, records: Sequence[LifeRecord], *, cause: str = "") -> None:
        """Find the workers of an earlier controller: each is followed by ``LifeGreeted``, or by ``LifeEnded`` when its process is gone.

        Where none of them lives any more, the whole swarm ended; ``cause``: why, if that is known (a reboot).
        Identity is pid + start ticks, never a name.  Also ends leftovers of lives that are not in ``records``, our own only.
        """

    def name(self, life: int, worker: str) -> None:
        """Rename the session of a pooled worker that was taken, and tell the worker (``Who``)."""

    def say(self, life: int, messages: Sequence[ToWorker], connection: int | None = None) -> None:
        """Queue messages for a worker; never blocks.

        To a life without a connection, or with another one than they were decided for (``connection``; None: any), they
        are dropped: ``Hello`` heals that.
        """

    def kill(self, life: int, why: str) -> None:
        """End the process and everything it started (by identity), confirm it, then emit ``LifeEnded``.  Twice is harmless."""

    def session_of(self, life: int) -> tuple[str, str]:
        """Return (session name, pane id) of a life; empty strings when it has none."""

    def close(self, *, sessions: bool) -> None:
        """Let go of everything; with ``sessions`` also end the tmux server and remove its files.  Twice is harmless."""
