"""Verbs about the swarm: ``hello ready status workers hold resume own watch down``."""

from __future__ import annotations

import sys
from collections.abc import Callable

from tmax.control.server import Request
from tmax.controller import fields
from tmax.controller.deadlock_notices import DeadlockNotices
from tmax.controller.identity import Identity
from tmax.controller.monitor import Monitor
from tmax.controller.readiness import Readiness
from tmax.controller.runtime_repair import RuntimeRepair
from tmax.controller.shutdown import Shutdown
from tmax.controller.snapshot_builder import SnapshotBuilder
from tmax.controller.views import to_plain
from tmax.controller.watchers import Watchers
from tmax.core import tables
from tmax.core.events import Event, HoldSet
from tmax.core.query import SwarmQuery
from tmax.core.snapshot import SCHEMA_VERSION
from tmax.version import __version__

READY_S = 120.0
"""How long ``ready`` waits for the workers when the request names no time."""


def hello(
    request: Request, *, engine: str, identity: Identity, query: SwarmQuery, snapshots: SnapshotBuilder, repair: RuntimeRepair
) -> None:
    """Answer with the identity of the controller.  ``engine``: as the setting ``swarm.engine`` has it."""
    request.answer(
        swarm=identity.swarm,
        pid=identity.pid,
        epoch=identity.epoch,
        version=__version__,
        workers=query.workers_wanted,
        ready=query.is_ready,
        notice=snapshots.notice(),
        python=sys.executable,
        healed=repair.repairs,
        engine=engine,
    )


def ready(request: Request, *, readiness: Readiness) -> None:
    """Answer when the workers are ready."""
    timeout_s = fields.seconds(request.fields.get("timeout_s"))
    readiness.wait(request, READY_S if timeout_s is None else timeout_s)


def status(request: Request, *, snapshots: SnapshotBuilder) -> None:
    """Answer with a snapshot, or with ``text`` for a terminal."""
    snapshot = snapshots.build()
    if request.fields.get("text"):
        request.answer(text=tables.status_text(snapshot, *fields.terminal(request.fields)))
    else:
        request.answer(snapshot=to_plain(snapshot))


def workers(request: Request, *, snapshots: SnapshotBuilder, wall_clock: Callable[[], float]) -> None:
    """Answer with the workers, or with ``text`` as a table."""
    views = snapshots.workers()
    if request.fields.get("text"):
        request.answer(text=tables.workers_text(views, wall_clock(), *fields.terminal(request.fields)))
    else:
        request.answer(schema_version=SCHEMA_VERSION, workers=to_plain(views))


def hold(request: Request, *, watchers: Watchers, emit: Callable[[Event], None]) -> None:
    """Hold the queue."""
    watchers.on_held()
    emit(HoldSet(held=True))
    request.answer(held=True)


def resume(request: Request, *, emit: Callable[[Event], None]) -> None:
    """Resume the queue."""
    emit(HoldSet(held=False))
    request.answer(held=False)


def own(request: Request, *, shutdown: Shutdown) -> None:
    """Take the swarm down when this connection ends."""
    shutdown.add_owner(request.client)
    request.stream(owned=True)


def watch(request: Request, *, monitor: Monitor) -> None:
    """Push snapshots to this connection."""
    monitor.add(request, always=bool(request.fields.get("always")))


def down(request: Request, *, query: SwarmQuery, shutdown: Shutdown, deadlock_notices: DeadlockNotices) -> None:
    """Take the swarm down; answer when it is down."""
    shutdown.answer_when_down(request)
    counts = query.counts
    request.stream(phase="stopping", running=counts["sent"] + counts["running"], queued=counts["ready"] + counts["waiting"])
    deadlock_notices.report_again()
    shutdown.begin(now=bool(request.fields.get("now")))
    deadlock_notices.after_turn()
