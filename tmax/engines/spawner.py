"""How a worker process comes to be in its pane: the seam between tmux sessions and whatever makes processes.

::

    engine: pane(life) --> tmux runs that --> worker_of(pane's pid) --> watched from then on
            (0: the pane's process only stands in for it; on_worker(life, pid) tells, or the worker when it announces itself)
    engine: end_of(life) --> asked of whoever was the parent: tmux, or the process that forked it

The rest of the house cannot tell which one is used.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tmax.core.settings import Settings
from tmax.engines.machine import preload_of
from tmax.engines.process_end import ProcessEnd
from tmax.engines.reaper import VARIABLE, mark_of
from tmax.layout import Layout
from tmax_workers.threads import env_for


@dataclass(frozen=True, slots=True, kw_only=True)
class PaneCommand:
    """What the pane of a worker runs, and what is added to its environment."""

    argv: Sequence[str]
    env: Mapping[str, str]


class Spawner(Protocol):
    """Makes worker processes.  Called on the loop's thread; nothing but ``open`` may block."""

    def open(self, on_worker: Callable[[int, int], None]) -> None:
        """Make ready; called once, before any other method; tmux may not be there yet.  Raises TmaxError when impossible.

        ``on_worker(life, pid)`` is to be called as soon as a worker exists that is not its pane's process.
        """

    def pane(self, life: int) -> PaneCommand:
        """Return what the pane of this life runs.  The mark of the life must be in the environment of the worker it brings."""

    def worker_of(self, life: int, pane_pid: int) -> int:
        """Return the worker's pid when the pane's process is the worker itself; 0: it will announce itself."""

    def end_of(self, life: int, pid: int, tell: Callable[[ProcessEnd | None], None]) -> None:
        """Tell, once and soon, how this worker (which has ended) ended; None when nobody knows."""

    def reopen(self) -> bool:
        """Make again what was removed from the runtime folder, which exists; return whether anything was."""

    def abandon(self) -> None:
        """Let go, and end what this very process has started."""

    def close(self, *, everything: bool) -> None:
        """Let go; with ``everything`` also end what helps to make workers.  Twice is harmless."""


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


def without_tmux(argv: Sequence[str]) -> list[str]:
    """Return ``argv`` started without the variables by which tmux names its server: no task of a worker may reach ours by them."""
    return ["env", "-u", "TMUX", "-u", "TMUX_PANE", *argv]


class ExecSpawner:
    """The pane's process is the worker: a new interpreter each time.  Its parent is the tmux server, which knows how it ended."""

    def __init__(
        self, layout: Layout, settings: Settings, *, threads: int, ask_pane: Callable[[int, Callable[[ProcessEnd | None], None]], None]
    ) -> None:
        self._layout = layout
        self._settings = settings
        self._threads = threads
        self._ask_pane = ask_pane

    def open(self, on_worker: Callable[[int, int], None]) -> None:
        """Nothing to make ready, and nothing to tell: every worker is its pane's process."""

    def pane(self, life: int) -> PaneCommand:
        """As ``Spawner.pane``."""
        argv = worker_argv(self._layout, self._settings, life, self._threads)
        return PaneCommand(argv=without_tmux(argv), env=worker_env(self._layout, life, self._threads))

    def worker_of(self, life: int, pane_pid: int) -> int:
        """The pane's process itself."""
        return pane_pid

    def end_of(self, life: int, pid: int, tell: Callable[[ProcessEnd | None], None]) -> None:
        """As tmux kept it in the dead pane."""
        self._ask_pane(life, tell)

    def reopen(self) -> bool:
        """There is nothing in the runtime folder."""
        return False

    def abandon(self) -> None:
        """Nothing was started."""

    def close(self, *, everything: bool) -> None:
        """Nothing to let go of."""
