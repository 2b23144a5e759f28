r"""The one loop: collect events, decide, commit, act.

    engine ---\                       /--> store (writer thread): commit
    socket ----+--> events --> turn --+
    timers ---/                       \--> then, and only then: actions --> engine, clients

At most one commit is in flight; what arrives meanwhile is the next turn.  The only place that reads the clock.
A failed commit (other than a full disk) ends this process: what was not committed was told to nobody, and the next
controller starts from the rows.
"""

from __future__ import annotations

import logging
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from tmax.config import read as read_settings
from tmax.control.server import Server
from tmax.controller.monitor import Monitor
from tmax.controller.obstacles import Obstacles
from tmax.controller.runtime_repair import RuntimeRepair
from tmax.controller.slices import Slicer, Steps
from tmax.controller.snapshot_builder import RECENT, SnapshotBuilder
from tmax.controller.verbs import Verbs
from tmax.controller.waiters import LOOKED_AT, Waiters
from tmax.core.events import (
    Accepted,
    CancelAnswered,
    Event,
    KillLife,
    Leaving,
    NameLife,
    SendMessages,
    StartLife,
    Stopping,
    SwarmEmpty,
    SwarmReady,
    TasksEnded,
    Tick,
    Turn,
)
from tmax.core.model import Task
from tmax.core.scheduler import Scheduler
from tmax.core.settings import Settings
from tmax.engines.engine import Engine
from tmax.engines.factory import engine_for
from tmax.engines.machine import usable_cores
from tmax.errors import StorageFull, StoreError, TmaxError
from tmax.files import atomic_write
from tmax.layout import Layout, private_folder
from tmax.reactor import Reactor, Timer
from tmax.storage.lock import ControllerLock, controller_lock
from tmax.storage.store import CommitResult, Reader, Store
from tmax_pipes import blobs
from tmax_pipes.jobs import shared_digests

T = TypeVar("T")

LOG = logging.getLogger("tmax.controller")

RETRY_FULL_S = 1.0
"""Between attempts to commit on a full disk; nothing is told to anybody meanwhile."""

ANSWER_S = 0.05
"""How long the last answers of a swarm that is down may take to leave."""

STOP_LIMIT_S = 2.0
"""How long the last turn may take once this process was asked to end; what it does not record the workers still have."""

FILES_LEAST = 64
"""Open files below which no controller is started: it would die of the next one instead of saying so."""
FILE_BYTES_LEAST = 64 * 1024 * 1024
"""Longest file below which none is started: the store, its log and its ballast need some room."""

OWNER_S = 30.0
"""How long a temporary swarm waits for its owner."""

LOCK_PATIENCE_S = 3.0
"""So long a starting controller waits for who has its lock: verbs that read the store of a swarm that is down do, one after the other."""

TRIM_S = 600.0
"""Between looks for ended tasks above the number kept."""


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
    # A limit on the size of files is for the programs of whoever set it (they have it from their task), not for the store and the logs.
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    if most != resource.RLIM_INFINITY and most < FILE_BYTES_LEAST:
        raise TmaxError(
            f"a file may have {most} bytes at most here (ulimit -f)", hint="ulimit -f unlimited in another shell, then tmax init there"
        )
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


class Controller:
    """Owns the store, the engine, the socket and the loop of one swarm."""

    scheduler: Scheduler
    store: Store
    engine: Engine
    server: Server
    lock: ControllerLock

    def __init__(self, layout: Layout, born: float) -> None:
        """``born``: monotonic seconds when this process began, for the phases that ``init`` prints."""
        self.layout = layout
        self.born = born
        self.wall_born = time.time()
        self.settings = Settings()
        self.reactor = Reactor()
        self.slicer = Slicer(self.reactor)
        self.clients = Waiters(self)
        self.healer = RuntimeRepair(self)
        self.obstacles = Obstacles(self)
        self.epoch = 0
        self.down = False
        self._gone = False
        self._events: list[Event] = []
        self._committing = False
        self._settled: list[Callable[[], None]] = []
        self._wake: Timer | None = None
        self._exit: int | None = None
        self._actors: dict[type[Any], Callable[[Any], None]] = {
            Accepted: self.clients.on_accepted,
            CancelAnswered: self.clients.on_cancel_answered,
            TasksEnded: self._on_ended,
            StartLife: lambda _: None,  # carried out as one batch
            NameLife: lambda action: self.engine.name(action.life, action.worker),
            SendMessages: lambda action: self.engine.send(action.life, action.messages, action.connection),
            KillLife: lambda action: self.engine.kill(action.life, action.why),
            SwarmReady: lambda _: self._on_ready(),
            SwarmEmpty: lambda _: self._on_empty(),
        }

    # -- starting ----------------------------------------------------------------------------------

    def open(self) -> None:
        """Take the lock, read the store, open the engine, adopt what lives, and listen.  Raises TmaxError."""
        layout = self.layout
        check_limits()
        for folder in (layout.state, layout.logs, layout.blobs, layout.runtime, layout.workers):
            private_folder(folder)
        self.lock = controller_lock(layout.lock, LOCK_PATIENCE_S)
        self._open_log()
        if os.path.exists(layout.settings):
            self.settings = read_settings(layout.settings)
        self.workers = self.settings.swarm.workers or usable_cores()
        self.engine = engine_for(layout, self.settings, self.reactor, workers=self.workers)
        self.engine.prepare()  # what it imports, it imports while we open the store
        try:
            self.store = Store.open(layout, self.settings.store)
            loaded = self.store.load()
        except BaseException:
            self.engine.abandon()
            raise
        self.epoch = int(loaded.meta.get("epoch", "0")) + 1
        rebooted = loaded.meta.get("boot", "") not in ("", boot_id())
        held = loaded.meta.get("held") == "1" or (rebooted and bool(loaded.tasks))
        self.scheduler = Scheduler(
            self.settings,
            workers=self.workers,
            pool=self.settings.swarm.pool,
            tasks=loaded.tasks,
            lives=loaded.lives,
            ended=loaded.counts,
            next_task=loaded.next_task,
            next_life=loaded.next_life,
            held=held,
            now=self.reactor.now(),
        )
        self.scheduler.state.ledger.meta("epoch", str(self.epoch))
        self.scheduler.state.ledger.meta("boot", boot_id())
        self.scheduler.state.ledger.meta("held", "1" if held else "")
        self.clients.phase("store")
        self.engine.open(self.emit, epoch=self.epoch)
        self.clients.phase("engine")
        self.painter = SnapshotBuilder(self)
        self.store.read(lambda reader: reader.ended(RECENT), lambda ended: self.reactor.call_soon(lambda: self._seed(ended)))
        self.monitor = Monitor(self)
        self.server = Server(layout.control, self.reactor, Verbs(self))
        self._record_place()
        self.engine.adopt(loaded.lives, cause="the machine was restarted" if rebooted else "")
        self.emit(Tick())
        signal.signal(signal.SIGTERM, lambda *_: self.reactor.call_soon(self._stop))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        LOG.info("epoch %d: %d tasks, %d lives taken over", self.epoch, len(loaded.tasks), len(loaded.lives))

    def _seed(self, ended: list[Task] | StoreError) -> None:
        if not isinstance(ended, StoreError):
            self.painter.begin_with(ended)

    def _open_log(self) -> None:
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    def _record_place(self) -> None:
        record = os.fsencode(self.layout.runtime) + b"\n"
        try:
            with open(self.layout.place, "rb") as file:
                if file.read() == record:
                    return  # nothing to write: on a full disk too a swarm can be taken over, and taken down
        except OSError:
            pass  # a first start, or no record of ours
        atomic_write(self.layout.place, record)

    # -- the loop ----------------------------------------------------------------------------------

    def emit(self, event: Event) -> None:
        """Take in an event; it is part of the next turn."""
        self._events.append(event)

    def run(self) -> int:
        """Turn until the swarm is down or this process is asked to go; return the exit code."""
        self.reactor.after(TRIM_S, self._trim)
        self.reactor.call_soon(self.healer.open)
        if self.layout.swarm.startswith("tmp-"):
            self.reactor.after(OWNER_S, self._leave_if_nobodys)
        while self._exit is None:
            self.reactor.run_once(0.0 if self._events and not self._committing and not self._gone else None)
            if self._events and not self._committing and not self._gone:
                self._turn()
        return self._exit

    def _turn(self) -> None:
        events, self._events = self._events, []
        turn = self.scheduler.handle(events, self.reactor.now(), time.time())
        self._set_wake(turn.wake_at)
        if turn.changes:
            self._commit(turn)
        else:
            self._act(turn)

    def _commit(self, turn: Turn) -> None:
        self._committing = True
        result = self.store.commit_now(turn.changes)
        if result is None:
            self.store.commit(turn.changes, lambda result: self.reactor.call_soon(lambda: self._committed(turn, result)))
        else:
            self._committed(turn, result)

    def _committed(self, turn: Turn, result: CommitResult) -> None:
        if isinstance(result.error, StorageFull):
            LOG.error("%s: nothing is answered until there is room", result.error)
            self.reactor.after(RETRY_FULL_S, lambda: self._commit(turn))
            return
        if result.error is not None:
            LOG.critical("the store failed (%s); this controller ends, the workers go on", result.error)
            self._finish(int(result.error.exit_code))
            return
        self.scheduler.state.stats.committed(result.seconds)
        self._committing = False
        self._act(turn)
        settled, self._settled = self._settled, []
        for call in settled:
            call()

    def when_settled(self, call: Callable[[], None]) -> None:
        """Call when everything decided so far is on disk, so that nobody reads what may yet be lost."""
        if self._committing:
            self._settled.append(call)
        else:
            call()

    def reading(self, query: Callable[[Reader], T]) -> Steps[T]:
        """Step over a query to the store, behind all commits asked for before, and return its answer.  Raises StoreError."""
        answers: list[T | StoreError] = []

        def wait(go_on: Callable[[], None]) -> None:
            def done(answer: T | StoreError) -> None:
                answers.append(answer)
                self.reactor.call_soon(go_on)

            self.store.read(query, done)

        yield wait
        if isinstance(answers[0], StoreError):
            raise answers[0]
        return answers[0]

    def _act(self, turn: Turn) -> None:
        starts = [(action.life, action.worker) for action in turn.actions if isinstance(action, StartLife)]
        if starts:
            self.engine.start(starts)
        for action in turn.actions:
            self._actors[type(action)](action)
        self.obstacles.look()
        if self.scheduler.state.stopping:
            self._finish(0)
            return
        if self.scheduler.state.roster.gave_up:
            self.clients.give_up(self.scheduler.state.roster.last_cause)

    def _set_wake(self, wake_at: float | None) -> None:
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        if wake_at is not None:
            self._wake = self.reactor.at(wake_at, lambda: self.emit(Tick()))

    def _trim(self) -> None:
        self.store.trim(self.settings.tasks.keep_ended, lambda gone: self.reactor.call_soon(lambda: self._trimmed(gone)))
        self.reactor.after(TRIM_S, self._trim)

    def _trimmed(self, gone: list[int] | StoreError) -> None:
        if isinstance(gone, StoreError):
            LOG.error("ended tasks above the number kept could not be let go: %s", gone)
            return
        for task in gone:
            for kind in ("log", "stderr"):
                try:
                    os.unlink(f"{self.layout.logs}/{task}.{kind}")
                except FileNotFoundError:
                    pass  # it printed little or nothing
        self.slicer.run(self._look_for_bodies(), lambda error: LOG.error("bodies that no task names could not be looked for: %s", error))

    def _look_for_bodies(self) -> Steps[None]:
        """Find what no task names; what a task that comes meanwhile shares with others is young, and spared as well."""
        try:
            bodies = [name for name in os.listdir(self.layout.blobs) if not name.startswith(".")]
        except FileNotFoundError:
            return  # somebody removed the state folder; what runs is finished all the same
        shared: set[str] = set()
        for place, task in enumerate(list(self.scheduler.state.ledger.tasks.values()) if bodies else ()):
            shared.update(shared_digests(task.job))
            if place % LOOKED_AT == 0:
                yield None
        if bodies:
            self.store.read(lambda reader: reader.unreferenced(bodies), lambda free: self._sweep(bodies, free, shared))

    def _sweep(self, bodies: list[str], free: list[str] | StoreError, shared: set[str]) -> None:
        """Remove bodies that no task names (on the store's thread: it waits for nobody); young ones are spared, their task may be on its way."""
        if not isinstance(free, StoreError) and free:
            blobs.sweep(self.layout.blobs, set(bodies).difference(free) | shared)

    def _on_ended(self, action: TasksEnded) -> None:
        self.painter.remember(action)
        self.clients.on_ended(action)

    # -- beginning and end -------------------------------------------------------------------------

    def _on_ready(self) -> None:
        self.clients.phase("workers ready")
        self.clients.on_ready()
        LOG.info("ready after %.0f ms", 1000 * (self.reactor.now() - self.born))
        self.monitor.open()

    def leave(self, *, now: bool) -> None:
        """Begin to take the swarm down; twice is harmless, and ``now`` after a polite one hurries it."""
        leaving = self.scheduler.state.leaving
        if leaving is None or (now and not leaving.now):
            self.emit(Leaving(now=now))

    def _leave_if_nobodys(self) -> None:
        """A temporary swarm whose client died before it owned it must not stay."""
        if not self.clients.owners:
            self.leave(now=True)

    def _on_empty(self) -> None:
        """Everything has stopped: let go of all that a next controller will take, and only then say that it is done."""
        self.down = True
        self._let_go()
        self.clients.on_down()
        self.reactor.after(ANSWER_S, lambda: self._finish(0))

    def _stop(self) -> None:
        """TERM: record what the workers have said, and end.  The store may be stuck: then end without that."""
        self.reactor.after(STOP_LIMIT_S, lambda: self._finish(0))
        self.engine.receive_all()
        self.emit(Stopping())

    def _finish(self, code: int) -> None:
        """End this process; unless the swarm is down, its workers live on."""
        if self._exit is None:
            self._exit = code
            self._let_go()
            self.server.close()
            LOG.info("controller ended (%s)", "swarm down" if self.down else f"exit {code}, workers live on")

    def _mark_down(self) -> None:
        try:
            atomic_write(f"{self.layout.state}/down", b"")
        except OSError as error:
            # A full disk, perhaps, or a state folder that was removed.  Everything is to end all the same.
            LOG.error("the swarm goes down, and its next submit will start it again: its mark cannot be written (%s)", error)

    def _let_go(self) -> None:
        if self._gone:
            return
        self._gone = True
        self.healer.close()
        if self.down:
            self._mark_down()
        self.engine.close(sessions=self.down)
        try:
            self.store.close(snapshot=self.down)
        except StoreError as error:
            LOG.error("the store was closed without a copy: %s", error)
        if self.down:
            shutil.rmtree(self.layout.runtime, ignore_errors=True)
            if self.layout.swarm.startswith("tmp-"):
                shutil.rmtree(self.layout.state, ignore_errors=True)
        self.lock.close()
