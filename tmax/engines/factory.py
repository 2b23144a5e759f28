"""Makes the engine that the settings choose: a host for the processes, and a spawner that makes them.

========================  =====================================================
``swarm.engine``          ``tmux`` (default) or ``process``
``swarm.spawner``         ``exec``, ``zygote``, ``auto`` (the zygote on Linux)
========================  =====================================================
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from tmax.core.settings import Settings
from tmax.engines.engine import Engine
from tmax.engines.fifo_engine import FifoEngine
from tmax.engines.host import Host
from tmax.engines.life_mark import without_marks
from tmax.engines.machine import threads_of
from tmax.engines.process.process_host import ProcessHost
from tmax.engines.spawner import ExecSpawner, HostEndOf, Spawner
from tmax.engines.tmux.tmux_host import TmuxHost
from tmax.engines.zygote.zygote_spawner import ZygoteSpawner
from tmax.layout import Layout
from tmax.reactor import Reactor


def engine_for(layout: Layout, settings: Settings, reactor: Reactor, *, workers: int) -> Engine:
    """Return the engine of a swarm with so many workers, not opened."""
    env = without_marks(os.environ)
    threads = threads_of(settings, workers)
    host = host_for(layout, settings, reactor, env=env)
    spawner = spawner_for(layout, settings, reactor, threads=threads, env=env, host_end_of=host.end_of)
    return FifoEngine(layout, settings, reactor, host=host, spawner=spawner, threads=threads)


def host_for(layout: Layout, settings: Settings, reactor: Reactor, *, env: Mapping[str, str]) -> Host:
    """Return what places the worker processes.  ``env``: theirs, but for what a spawner adds."""
    if settings.swarm.engine == "process":
        return ProcessHost(layout, reactor, env=env)
    return TmuxHost(layout, settings.tmux, reactor, env=env)


def spawner_for(
    layout: Layout, settings: Settings, reactor: Reactor, *, threads: int, env: Mapping[str, str], host_end_of: HostEndOf
) -> Spawner:
    """Return what makes the worker processes; ``auto`` is the zygote on Linux, else exec."""
    wanted = settings.swarm.spawner
    if wanted == "zygote" or (wanted == "auto" and sys.platform == "linux"):
        return ZygoteSpawner(reactor, layout, settings, threads=threads, env=env, host_end_of=host_end_of)
    return ExecSpawner(layout, settings, threads=threads, host_end_of=host_end_of)
