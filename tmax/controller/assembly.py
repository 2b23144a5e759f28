"""Connects the parts of a controller: each part receives only the objects that it uses."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tmax.control.protocol import BulkCancel, BulkRequest, BulkSubmit, BulkWatch
from tmax.control.server import Server
from tmax.controller.admission import Admission
from tmax.controller.deadlock_notices import DeadlockNotices
from tmax.controller.dispatch import BulkHandler, Dispatcher, VerbHandler
from tmax.controller.housekeeping import Housekeeping
from tmax.controller.identity import Identity
from tmax.controller.loop import Loop
from tmax.controller.monitor import Monitor
from tmax.controller.pending_answers import PendingAnswers
from tmax.controller.readiness import Readiness
from tmax.controller.runtime_repair import RuntimeRepair
from tmax.controller.shutdown import Shutdown
from tmax.controller.slices import Slicer
from tmax.controller.snapshot_builder import SnapshotBuilder
from tmax.controller.store_queries import StoreQueries
from tmax.controller.verbs import cancel_verbs, submit_verbs, swarm_verbs, task_verbs, watch_verbs, worker_verbs
from tmax.controller.verbs.cancel_verbs import Cancelling
from tmax.controller.verbs.watch_verbs import Watching
from tmax.controller.waiters import Waiters
from tmax.controller.watchers import Watchers
from tmax.core.events import Accepted, CancelAnswered, SwarmEmpty, SwarmReady, TasksEnded
from tmax.core.query import SwarmQuery
from tmax.core.scheduler import Scheduler
from tmax.core.settings import Settings
from tmax.engines.engine import Engine
from tmax.layout import Layout
from tmax.reactor import Reactor
from tmax.storage.task_store import TaskStore

LOG = logging.getLogger("tmax.controller")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a connected controller that ``startup.py`` uses."""

    loop: Loop
    readiness: Readiness
    snapshots: SnapshotBuilder
    shutdown: Shutdown
    housekeeping: Housekeeping
    repair: RuntimeRepair
    listen: Callable[[], None]
    """Opens the control socket; clients are served from then on."""


def assemble(
    scheduler: Scheduler,
    *,
    engine: Engine,
    store: TaskStore,
    reactor: Reactor,
    layout: Layout,
    settings: Settings,
    identity: Identity,
    release: Callable[[], None],
) -> Parts:
    """Connect all parts.  ``release``: releases the controller's lock."""
    query = scheduler.query
    loop = Loop(scheduler, engine=engine, store=store, reactor=reactor, wall_clock=time.time)
    slicer = Slicer(reactor)
    queries = StoreQueries(store, reactor)
    answers = PendingAnswers()
    waiters = Waiters(slicer, reactor)
    watchers = Watchers(slicer)
    readiness = Readiness(query, reactor, loop.emit, started_at=identity.started_at, log=layout.log)
    snapshots = SnapshotBuilder(
        query,
        engine=engine,
        store=store,
        identity=identity,
        layout=layout,
        settings=settings,
        clock=reactor.now,
        wall_clock=time.time,
    )
    shutdown = Shutdown(loop, query, engine=engine, store=store, reactor=reactor, layout=layout, release=release)
    monitor = Monitor(snapshots, reactor, loop.when_committed, terminals=engine.terminals, layout=layout, settings=settings.dashboard)
    deadlock_notices = DeadlockNotices(query, reactor, partial(_report_deadlock, watchers, shutdown))
    repair = RuntimeRepair(reactor, layout)
    repair.add(engine.reopen)
    shutdown.before_close(repair.close)
    cancelling = Cancelling(query, queries=queries, answers=answers, emit=loop.emit, when_committed=loop.when_committed)
    admission = Admission(query, store=store, queries=queries, answers=answers, emit=loop.emit, layout=layout)
    _connect_actions(loop, answers, snapshots, waiters, watchers, readiness, monitor, shutdown)
    loop.after_turn(deadlock_notices.after_turn)
    loop.after_turn(readiness.after_turn)
    watching = Watching(query, waiters, watchers, queries, slicer, when_committed=loop.when_committed, clock=reactor.now)
    acting: dict[str, VerbHandler] = {
        **_swarm_verbs(loop, query, settings, identity, snapshots, repair, readiness, watchers, shutdown, deadlock_notices, monitor),
        "submit": partial(submit_verbs.submit, admission=admission, defaults=settings.tasks),
        "cancel": partial(cancel_verbs.cancel, cancelling=cancelling, slicer=slicer),
        "announce": partial(worker_verbs.announce, engine=engine),
    }
    dispatcher = Dispatcher(
        reading={**_reading_verbs(query, queries, slicer, snapshots, engine, layout), "wait": watching.wait},
        acting=acting,
        bulk=_bulk_verbs(loop, query, admission, watchers, watching, cancelling, slicer, settings),
        closed=[waiters.on_closed, watchers.on_closed, readiness.on_closed, shutdown.on_closed, monitor.on_closed],
        when_committed=loop.when_committed,
    )
    return Parts(
        loop=loop,
        readiness=readiness,
        snapshots=snapshots,
        shutdown=shutdown,
        housekeeping=Housekeeping(query, store=store, slicer=slicer, reactor=reactor, layout=layout, keep_ended=settings.tasks.keep_ended),
        repair=repair,
        listen=partial(_listen, layout, reactor, dispatcher, loop, repair),
    )


def _reading_verbs(
    query: SwarmQuery, queries: StoreQueries, slicer: Slicer, snapshots: SnapshotBuilder, engine: Engine, layout: Layout
) -> dict[str, VerbHandler]:
    return {
        "status": partial(swarm_verbs.status, snapshots=snapshots),
        "workers": partial(swarm_verbs.workers, snapshots=snapshots, wall_clock=time.time),
        "ps": partial(task_verbs.ps, query=query, queries=queries, slicer=slicer, wall_clock=time.time),
        "show": partial(task_verbs.show, query=query, queries=queries, layout=layout),
        "logs": partial(task_verbs.logs, query=query, queries=queries, engine=engine, layout=layout),
        "locate": partial(worker_verbs.locate, query=query, engine=engine, layout=layout),
        "select": partial(task_verbs.select, query=query, queries=queries, slicer=slicer),
    }


def _swarm_verbs(
    loop: Loop,
    query: SwarmQuery,
    settings: Settings,
    identity: Identity,
    snapshots: SnapshotBuilder,
    repair: RuntimeRepair,
    readiness: Readiness,
    watchers: Watchers,
    shutdown: Shutdown,
    deadlock_notices: DeadlockNotices,
    monitor: Monitor,
) -> dict[str, VerbHandler]:
    return {
        "hello": partial(
            swarm_verbs.hello, engine=settings.swarm.engine, identity=identity, query=query, snapshots=snapshots, repair=repair
        ),
        "ready": partial(swarm_verbs.ready, readiness=readiness),
        "watch": partial(swarm_verbs.watch, monitor=monitor),
        "own": partial(swarm_verbs.own, shutdown=shutdown),
        "hold": partial(swarm_verbs.hold, watchers=watchers, emit=loop.emit),
        "resume": partial(swarm_verbs.resume, emit=loop.emit),
        "down": partial(swarm_verbs.down, query=query, shutdown=shutdown, deadlock_notices=deadlock_notices),
    }


def _bulk_verbs(
    loop: Loop,
    query: SwarmQuery,
    admission: Admission,
    watchers: Watchers,
    watching: Watching,
    cancelling: Cancelling,
    slicer: Slicer,
    settings: Settings,
) -> dict[type[BulkRequest], BulkHandler]:
    submit = partial(
        submit_verbs.bulk_submit,
        admission=admission,
        query=query,
        watchers=watchers,
        watching=watching,
        defaults=settings.tasks,
    )
    return {
        BulkSubmit: submit,
        BulkWatch: partial(watch_verbs.bulk_watch, watching=watching, when_committed=loop.when_committed),
        BulkCancel: partial(cancel_verbs.bulk_cancel, cancelling=cancelling, slicer=slicer),
    }


def _connect_actions(
    loop: Loop,
    answers: PendingAnswers,
    snapshots: SnapshotBuilder,
    waiters: Waiters,
    watchers: Watchers,
    readiness: Readiness,
    monitor: Monitor,
    shutdown: Shutdown,
) -> None:
    def on_ended(action: TasksEnded) -> None:
        snapshots.on_ended(action)
        waiters.on_ended(action.tasks)
        watchers.on_ended(action.tasks)

    def on_ready(_: SwarmReady) -> None:
        readiness.on_ready()
        LOG.info("ready after %.0f ms", readiness.since_start_ms())
        monitor.open()

    loop.handle(Accepted, answers.on_accepted)
    loop.handle(CancelAnswered, answers.on_cancel_answered)
    loop.handle(TasksEnded, on_ended)
    loop.handle(SwarmReady, on_ready)
    loop.handle(SwarmEmpty, lambda _: shutdown.on_empty())


def _report_deadlock(watchers: Watchers, shutdown: Shutdown, text: str, held: Sequence[int]) -> None:
    """Notify the programs that wait for these tasks, and the clients that take the swarm down."""
    watchers.notify(text, held)
    shutdown.report(text)


def _listen(layout: Layout, reactor: Reactor, dispatcher: Dispatcher, loop: Loop, repair: RuntimeRepair) -> None:
    server = Server(layout.control, reactor, dispatcher)
    # Added last, so that the control socket is made again after all other files: a client that finds it finds the rest too.
    repair.add(lambda: ["control.sock"] if server.reopen() else [])
    loop.on_exit(server.close)
