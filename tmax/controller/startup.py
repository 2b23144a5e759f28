"""The start of a controller: limits, lock, folders, settings, store, engine, signals."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys

from tmax.config import read as read_settings
from tmax.controller.assembly import Parts, assemble
from tmax.controller.identity import Identity
from tmax.controller.snapshot_builder import RECENT
from tmax.core.events import Tick
from tmax.core.model import Task
from tmax.core.scheduler import Scheduler
from tmax.core.settings import Settings
from tmax.engines.factory import engine_for
from tmax.engines.machine import usable_cores
from tmax.errors import StoreError, TmaxError
from tmax.layout import Layout, private_folder
from tmax.reactor import Reactor
from tmax.storage.lock import controller_lock
from tmax.storage.store import Store
from tmax.storage.task_store import LoadedState
from tmax_pipes.durable_files import atomic_write

LOG = logging.getLogger("tmax.controller")

FILES_LEAST = 64
"""Lowest limit on open files with which a controller starts: below it, it would fail later and without a clear message."""
FILE_BYTES_LEAST = 64 * 1024 * 1024
"""Lowest limit on the size of a file with which a controller starts: the store, its log and its ballast need this space."""

LOCK_PATIENCE_S = 3.0
"""How long a starting controller waits for its lock: commands that read the store of a swarm that is down hold it for a moment."""


def boot_id() -> str:
    """Return the kernel's id of this boot; empty where there is none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def check_limits() -> None:
    """Raise TmaxError when this process may open too few files to serve even one worker."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < FILES_LEAST:
        raise TmaxError(f"only {limit} open files are allowed here", hint=f"ulimit -n {FILES_LEAST} or more, then tmax init")
    # The user's limit on the size of files is meant for programs (tasks inherit it from their submitter), not for the store and the logs.
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    if most != resource.RLIM_INFINITY and most < FILE_BYTES_LEAST:
        raise TmaxError(
            f"a file may have {most} bytes at most here (ulimit -f)", hint="ulimit -f unlimited in another shell, then tmax init there"
        )
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def start(layout: Layout, started_at: float) -> Parts:
    """Take the lock, read the store, open the engine, adopt live workers, and listen.  Raises TmaxError.

    ``started_at``: monotonic seconds when this process began, for the phases that ``init`` prints.
    """
    check_limits()
    for folder in (layout.state, layout.logs, layout.blobs, layout.runtime, layout.workers):
        private_folder(folder)
    lock = controller_lock(layout.lock, LOCK_PATIENCE_S)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings = read_settings(layout.settings) if os.path.exists(layout.settings) else Settings()
    workers = settings.swarm.workers or usable_cores()
    reactor = Reactor()
    engine = engine_for(layout, settings, reactor, workers=workers)
    engine.prepare()  # the engine's processes import while the store is opened
    try:
        store = Store.open(layout, settings.store)
        loaded = store.load()
    except BaseException:
        engine.abandon()
        raise
    rebooted = loaded.meta.get("boot", "") not in ("", boot_id())
    identity = Identity(swarm=layout.swarm, pid=os.getpid(), epoch=int(loaded.meta.get("epoch", "0")) + 1, started_at=started_at)
    scheduler = _scheduler(loaded, settings, identity.epoch, workers=workers, rebooted=rebooted, now=reactor.now())
    parts = assemble(
        scheduler, engine=engine, store=store, reactor=reactor, layout=layout, settings=settings, identity=identity, release=lock.close
    )
    parts.readiness.phase("store")
    engine.open(parts.loop.emit, epoch=identity.epoch)
    parts.readiness.phase("engine")
    _show_recent(parts, store, reactor)
    parts.listen()
    _record_runtime_folder(layout)
    engine.adopt(loaded.lives, cause="the machine was restarted" if rebooted else "")
    parts.loop.emit(Tick())
    signal.signal(signal.SIGTERM, lambda *_: reactor.call_soon(parts.shutdown.stop))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    LOG.info("epoch %d: %d tasks, %d lives adopted", identity.epoch, len(loaded.tasks), len(loaded.lives))
    return parts


def run(parts: Parts) -> int:
    """Serve until the swarm is down or this process must end; return the exit code."""
    parts.housekeeping.start()
    parts.repair.open_soon()
    return parts.loop.run()


def _scheduler(loaded: LoadedState, settings: Settings, epoch: int, *, workers: int, rebooted: bool, now: float) -> Scheduler:
    """Return a scheduler with the loaded state.  After a reboot a queue that is not empty is held."""
    held = loaded.meta.get("held") == "1" or (rebooted and bool(loaded.tasks))
    return Scheduler(
        settings,
        workers=workers,
        pool=settings.swarm.pool,
        tasks=loaded.tasks,
        lives=loaded.lives,
        ended=loaded.counts,
        next_task=loaded.next_task,
        next_life=loaded.next_life,
        held=held,
        meta={"epoch": str(epoch), "boot": boot_id(), "held": "1" if held else ""},
        now=now,
    )


def _show_recent(parts: Parts, store: Store, reactor: Reactor) -> None:
    def loaded(ended: list[Task] | StoreError) -> None:
        if not isinstance(ended, StoreError):
            parts.snapshots.begin_with(ended)

    store.read(lambda reader: reader.ended(RECENT), lambda ended: reactor.call_soon(lambda: loaded(ended)))


def _record_runtime_folder(layout: Layout) -> None:
    """Record in the state folder where the runtime folder is: a login without XDG_RUNTIME_DIR would make another one."""
    record = os.fsencode(layout.runtime) + b"\n"
    try:
        with open(layout.place, "rb") as file:
            if file.read() == record:
                return  # no write, so that a swarm can be adopted and taken down on a full disk too
    except OSError:
        pass  # the first start of this swarm
    atomic_write(layout.place, record)
