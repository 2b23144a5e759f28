"""What the controller needs of whatever carries its workers.

The scheduler places tasks, the engine carries workers: priority, ageing, retries and delivery are the same on every engine.
This protocol is everything that the controller calls.  What only engines with terminals have is ``terminals.Terminals``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tmax.core.events import Event
from tmax.core.model import LifeRecord
from tmax.engines.terminals import Terminals
from tmax_pipes.messages import ToWorker


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFigures:
    """What one worker process uses of its machine."""

    cpu_s: float
    """Processor seconds since its start, its ended children included."""
    rss_bytes: int
    """Resident memory now, without its children's."""


class Engine(Protocol):
    """Starts, names, messages and ends workers; reports what happened by calling ``emit`` on the loop's thread.

    No method but ``open`` and ``close`` blocks for longer than one batched call to tmux takes, and none raises for a worker
    that has ended: a life that cannot be started, or that ends, is reported as ``LifeEnded``.
    """

    @property
    def terminals(self) -> Terminals | None:
        """The terminals of the workers; None: workers of this engine have none."""

    def prepare(self) -> None:
        """Begin what takes long (the imports of a zygote) before ``open``; twice is harmless.  The runtime folder exists already."""

    def open(self, emit: Callable[[Event], None], *, epoch: int) -> None:
        """Get ready to start workers (tmux server, folders); ``epoch``: number of this controller start.

        Raises TmaxError with a hint when that is impossible.
        """

    def abandon(self) -> None:
        """End what ``prepare`` began, and nothing of an earlier controller's: the store could not be opened."""

    def adopt(self, records: Sequence[LifeRecord], *, cause: str = "") -> None:
        """Find the workers of an earlier controller: each is followed by ``LifeConnected``, or by ``LifeEnded`` when its process has ended.

        Where none of them lives any more, the whole swarm ended; ``cause``: why, if that is known (a reboot).
        Identity is pid + start ticks, never a name.  Also ends leftovers of lives that are not in ``records``, our own only.
        """

    def reopen(self) -> list[str]:
        """Make again what was removed from the runtime folder, which exists; return the names of what was made."""

    def start(self, lives: Sequence[tuple[int, str]]) -> None:
        """Begin to start these (life, worker name) in one batch; ``LifeStarted`` then ``LifeConnected`` follow for each."""

    def name(self, life: int, worker: str) -> None:
        """Give a pooled worker that was taken its name, and send it to the worker (``Who``)."""

    def send(self, life: int, messages: Sequence[ToWorker], connection: int | None = None) -> None:
        """Queue messages for a worker; never blocks.

        To a life without a connection, or with another one than they were decided for (``connection``; None: any), they
        are dropped: the worker's next ``Hello`` makes good for it.
        """

    def kill(self, life: int, why: str) -> None:
        """End the process and everything it started (by identity), confirm it, then emit ``LifeEnded``.  Twice is harmless."""

    def announced(self, life: int, place: str, pid: int) -> bool:
        """Take in what a worker announced on the control socket: where its FIFOs are.  ``pid``: of the peer, from the kernel.

        Return False when they are not to be found there: they were removed, and the worker has to make others.
        """

    def receive_all(self) -> None:
        """Receive what the workers have written so far: this process ends, and what it has not read is lost with it."""

    def figures(self, lives: Iterable[int]) -> Mapping[int, WorkerFigures]:
        """Return what these workers use of their machines; a life whose figures are not known is left out."""

    def output_file(self, life: int) -> str:
        """Return the path of the file with what this worker's process printed; empty: the engine keeps none."""

    def close(self, *, sessions: bool) -> None:
        """Release everything; with ``sessions`` also end the workers and all that carries them, and remove the files.  Twice is harmless."""
