"""How a worker process comes to be: the seam between hosts and whatever makes processes.

::

    FifoEngine: command(life) --> the host runs it --> worker_pid(life, pid of that process) --> watched from then on
                (0: that process stands in for the worker; on_worker(life, pid) reports it, or the worker announces itself)
    FifoEngine: end_of(life)  --> known to the worker's parent: the host, or the process that forked it

Nothing else knows which spawner is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from tmax.core.settings import Settings
from tmax.engines.host import OnEnd
from tmax.engines.life_mark import VARIABLE, mark_of
from tmax.engines.machine import preload_of
from tmax.layout import Layout
from tmax_workers.threads import env_for

HostEndOf: TypeAlias = Callable[[int, OnEnd], None]
"""``Host.end_of``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCommand:
    """What a host runs for a worker, and what is added to its environment."""

    argv: Sequence[str]
    env: Mapping[str, str]
    is_worker: bool = True
    """False: it stands in for a worker that is forked elsewhere."""


class Spawner(Protocol):
    """Makes worker processes.  Called on the loop's thread; nothing but ``open`` may block."""

    def open(self, on_worker: Callable[[int, int], None]) -> None:
        """Get ready; called once, before any other method; the host may not be open yet.  Raises TmaxError when impossible.

        ``on_worker(life, pid)`` is to be called as soon as a worker exists that is not its host's process.
        """

    def command(self, life: int) -> WorkerCommand:
        """Return what the host runs for this life.  The mark of the life must be in the environment of the worker it brings."""

    def worker_pid(self, life: int, host_pid: int) -> int:
        """Return the worker's pid when the host's process is the worker itself; 0: it will announce itself."""

    def end_of(self, life: int, pid: int, answer: OnEnd) -> None:
        """Call ``answer``, once and soon, with how this worker (which has ended) ended; with None when that is not known."""

    def reopen(self) -> bool:
        """Make again what was removed from the runtime folder, which exists; return whether anything was."""

    def abandon(self) -> None:
        """Release everything, and end what this very process has started."""

    def close(self, *, everything: bool) -> None:
        """Release everything; with ``everything`` also end what helps to make workers.  Twice is harmless."""


def worker_argv(layout: Layout, settings: Settings, life: int, threads: int) -> list[str]:
    """Return the command line of a worker; nothing in it is secret, and nothing comes from a user but folders and modules."""
    python = settings.swarm.python or sys.executable
    argv = [python, "-P", "-m", "tmax_workers", "--life", str(life), "--rt", layout.workers, "--state", layout.state]
    argv += ["--control", layout.control, "--threads", str(threads), "--orphan-ttl-s", f"{settings.worker.orphan_ttl_s:g}"]
    preload = preload_of(settings)
    return [*argv, "--preload", ",".join(preload)] if preload else argv


def worker_env(layout: Layout, life: int, threads: int) -> dict[str, str]:
    """Return what is added to a worker's environment: thread limits (read once, at import), its swarm, and its mark."""
    return {**env_for(threads), "TMAX_SWARM": layout.swarm, VARIABLE: mark_of(layout, life)}


class ExecSpawner:
    """The host's process is the worker: a new interpreter each time."""

    def __init__(self, layout: Layout, settings: Settings, *, threads: int, host_end_of: HostEndOf) -> None:
        self._layout = layout
        self._settings = settings
        self._threads = threads
        self._host_end_of = host_end_of

    def open(self, on_worker: Callable[[int, int], None]) -> None:
        """Nothing to get ready, and nothing to report: every worker is its host's process."""

    def command(self, life: int) -> WorkerCommand:
        """As ``Spawner.command``."""
        argv = worker_argv(self._layout, self._settings, life, self._threads)
        return WorkerCommand(argv=argv, env=worker_env(self._layout, life, self._threads))

    def worker_pid(self, life: int, host_pid: int) -> int:
        """The host's process itself."""
        return host_pid

    def end_of(self, life: int, pid: int, answer: OnEnd) -> None:
        """As the host knows it."""
        self._host_end_of(life, answer)

    def reopen(self) -> bool:
        """There is nothing in the runtime folder."""
        return False

    def abandon(self) -> None:
        """Nothing was started."""

    def close(self, *, everything: bool) -> None:
        """Nothing to release."""
