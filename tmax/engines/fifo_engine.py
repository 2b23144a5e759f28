"""Workers that are processes of this machine: messages through FIFOs, ends through pidfds; a host places the processes.

::

    start --> host.create (one batch) --> pid --> pidfd --> LifeStarted
    worker publishes FIFOs, announces --> connection: Who --> Hello --> LifeConnected --> LifeMessage ...
    connection ends --> LifeSilent --> the worker's next announcement, or its place found in the folder
    pidfd readable --> teardown.py --> LifeEnded

Only the kernel reports that a worker is dead.  A connection that ended, a pane that was closed, a tmux server that was
killed: none of them costs a worker its life.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence

from tmax.core.events import Event, LifeEnded, LifeMessage, LifePaneless, LifeStarted
from tmax.core.model import LifeRecord
from tmax.core.settings import Settings
from tmax.engines import adoption, process_table, reaper, server_recovery
from tmax.engines.engine import WorkerFigures
from tmax.engines.handshake import Handshake
from tmax.engines.host import Host, HostedProcess, NewProcess
from tmax.engines.life_mark import life_of, mark_of, mark_prefix
from tmax.engines.process_table import is_worker, open_pidfd
from tmax.engines.reaper import Reaper
from tmax.engines.spawner import Spawner
from tmax.engines.teardown import Teardown
from tmax.engines.terminals import Terminals
from tmax.engines.worker_process import WorkerProcess
from tmax.layout import Layout
from tmax.reactor import Reactor
from tmax_pipes import rendezvous
from tmax_pipes.messages import Failed, Failure, Report, Run, ToWorker, Who
from tmax_pipes.proc_stat import start_ticks
from tmax_pipes.rendezvous import Rendezvous
from tmax_workers import spill

LOG = logging.getLogger("tmax.engines")


class FifoEngine:
    """The engine of one machine; see ``engine.Engine`` for what each method promises."""

    def __init__(self, layout: Layout, settings: Settings, reactor: Reactor, *, host: Host, spawner: Spawner, threads: int) -> None:
        """``threads``: BLAS and torch threads of each worker."""
        self._layout = layout
        self._settings = settings
        self._reactor = reactor
        self._host = host
        self._spawner = spawner
        self._threads = threads
        self._epoch = 0
        self._emit: Callable[[Event], None] = _drop
        self._lives: dict[int, WorkerProcess] = {}
        self._found: list[HostedProcess] = []
        self._reaper = Reaper(reactor)
        self._handshake = Handshake(reactor, layout.workers, who=self._who, emit=self._forward, on_beat=host.trim_output)
        self._teardown = Teardown(
            reactor,
            layout,
            host=host,
            spawner=spawner,
            reaper=self._reaper,
            on_messages=self._handshake.received,
            emit=self._forward,
            emit_ended=self._ended,
        )
        self._prepared = False
        self._closed = False

    @property
    def terminals(self) -> Terminals | None:
        """As ``Engine.terminals``."""
        return self._host.terminals

    def prepare(self) -> None:
        """As ``Engine.prepare``."""
        if not self._prepared:
            self._prepared = True
            server_recovery.recall_servers(self._layout, [self._layout.zygote, *self._host.sockets])
            self._spawner.open(self._on_worker)

    def abandon(self) -> None:
        """As ``Engine.abandon``."""
        self._spawner.abandon()

    def open(self, emit: Callable[[Event], None], *, epoch: int) -> None:
        """As ``Engine.open``."""
        self._emit = emit
        self._epoch = epoch
        self._found = self._host.open(self._on_paneless)
        self.prepare()

    def reopen(self) -> list[str]:
        """As ``Engine.reopen``.  Workers make their own FIFOs again; those that are open go on working without a name."""
        remade = self._host.reopen()
        if self._spawner.reopen():
            remade.append("zygote.sock")
        return remade

    def start(self, lives: Sequence[tuple[int, str]]) -> None:
        """As ``Engine.start``."""
        wanted = []
        for number, worker in lives:
            life = self._lives[number] = WorkerProcess(number, worker, creating=True)
            self._limit_start(life)
            command = self._spawner.command(number)
            wanted.append(NewProcess(life=number, name=worker, argv=command.argv, env=command.env, is_worker=command.is_worker))
        self._host.create(wanted, self._on_created)

    def adopt(self, records: Sequence[LifeRecord], *, cause: str = "") -> None:
        """As ``Engine.adopt``."""
        alive = [record for record in records if record.alive]
        marks = {record.life: mark_of(self._layout, record.life) for record in alive}
        places = rendezvous.scan(self._layout.workers)
        seen = process_table.scan() if any(not record.pid for record in alive) else []
        matches = adoption.match(alive, self._found, places, seen, marks)
        lives = {
            found.record.life
            for found in matches
            if found.pid and start_ticks(found.pid) == found.ticks and is_worker(found.pid, marks[found.record.life])
        }
        whole = "" if lives else cause or "ended with the whole swarm"
        for found in matches:
            self._take_over(found, is_alive=found.record.life in lives, whole=whole)
        self._end_strangers({record.life for record in alive}, places)
        self._found = []

    def receive_all(self) -> None:
        """As ``Engine.receive_all``."""
        for life in list(self._lives.values()):
            if life.connection is not None and not life.ending:
                self._handshake.received(life, life.connection.drain())

    def name(self, life: int, worker: str) -> None:
        """As ``Engine.name``."""
        known = self._lives.get(life)
        if known is None:
            return
        known.worker = worker
        self._host.rename(life, worker)
        if known.connection is not None and known.connection.greeted:
            known.connection.send([self._who(known)])

    def send(self, life: int, messages: Sequence[ToWorker], connection: int | None = None) -> None:
        """As ``Engine.send``.  A Run too large for any frame comes back as ``Failed``: sending it again would not help."""
        known = self._lives.get(life)
        if known is None or known.connection is None or not known.connection.greeted:
            return
        if connection is not None and connection != known.connection.place.n:
            return
        for message in known.connection.send(messages):
            if isinstance(message, Run):
                why = Failure("refused", "the task does not fit a message to a worker", hint="hand over large values as a file")
                self._emit(LifeMessage(life=life, message=Failed(message.task, message.attempt, Report(), why)))

    def kill(self, life: int, why: str) -> None:
        """As ``Engine.kill``."""
        known = self._lives.get(life)
        if known is None or known.ending:
            return
        known.doomed = known.doomed or why
        if known.pidfd >= 0:
            process_table.kill(known.pidfd)
        elif not known.creating:
            self._teardown.begin(known)

    def announced(self, life: int, place: str, pid: int) -> bool:
        """As ``Engine.announced``."""
        known = self._lives.get(life)
        if self._closed:
            return True
        if known is None or (known.ending and known.pid != pid):
            # Of no life, or of one whose end began before its process was known: it was forked a moment too late.
            self._end_stranger(life, pid)
            return True
        self._on_worker(life, pid)
        found = self._handshake.place_in(known, place) if known.pid == pid else None
        return found is None or self._handshake.connect(known, found)

    def figures(self, lives: Iterable[int]) -> Mapping[int, WorkerFigures]:
        """As ``Engine.figures``: from /proc, at this moment."""
        known = [self._lives[life] for life in lives if life in self._lives]
        found = {life.life: process_table.figures_of(life.pid, life.ticks) for life in known if life.pid}
        return {life: figures for life, figures in found.items() if figures is not None}

    def output_file(self, life: int) -> str:
        """As ``Engine.output_file``."""
        return self._host.output_file(life)

    def close(self, *, sessions: bool) -> None:
        """As ``Engine.close``; what was released can still be ended by a second call."""
        self._closed = True
        for life in self._lives.values():
            self._release(life, end=sessions)
        self._reaper.close()
        if sessions and (left := reaper.end_all(mark_prefix(self._layout))):
            LOG.error("%d processes do not end, although they were killed", left)
        self._spawner.close(everything=sessions)
        self._host.close(everything=sessions)
        if sessions:
            server_recovery.end_servers(self._layout)
            self._remove_files()

    # -- processes ---------------------------------------------------------------------------------

    def _on_created(self, number: int, host_pid: int, complaint: str) -> None:
        life = self._lives.get(number)
        if life is None or self._closed:
            return
        life.creating = False
        if complaint:
            LOG.warning("life %d: %s", number, complaint)
            self._teardown.begin(life, complaint)
            return
        pid = self._spawner.worker_pid(number, host_pid)
        if pid:
            self._on_worker(number, pid)
        elif life.doomed:
            self._teardown.begin(life)

    def _on_worker(self, number: int, pid: int) -> None:
        """This process is the worker of that life."""
        life = self._lives.get(number)
        if life is None or life.pid or life.ending:
            return
        life.pid, life.ticks = pid, start_ticks(pid)
        if life.ticks:
            self._report_started(life)
        self._watch(life)
        if not life.ending:
            self._handshake.await_first(life)

    def _report_started(self, life: WorkerProcess) -> None:
        if not life.reported:
            life.reported = True
            self._emit(LifeStarted(life=life.life, pid=life.pid, ticks=life.ticks, session=self._host.session_name(life.life)))

    def _watch(self, life: WorkerProcess) -> None:
        life.pidfd = open_pidfd(life.pid, life.ticks)
        if life.pidfd < 0:
            self._teardown.begin(life)
            return
        self._reactor.on_readable(life.pidfd, lambda: self._teardown.begin(life))
        if life.doomed:
            process_table.kill(life.pidfd)

    def _limit_start(self, life: WorkerProcess) -> None:
        limit_s = self._settings.swarm.start_timeout_s
        life.timer = self._reactor.after(limit_s, lambda: self.kill(life.life, f"did not start in {limit_s:g} s"))

    def _forward(self, event: Event) -> None:
        self._emit(event)

    def _ended(self, event: LifeEnded) -> None:
        self._lives.pop(event.life, None)
        self._emit(event)

    def _on_paneless(self, lives: list[int]) -> None:
        for number in lives:
            life = self._lives.get(number)
            if life is not None and life.reported and not life.ending:
                self._report_paneless(life)

    def _report_paneless(self, life: WorkerProcess) -> None:
        life.paneless = True
        self._emit(LifePaneless(life=life.life))

    # -- adopting ----------------------------------------------------------------------------------

    def _take_over(self, found: adoption.Match, *, is_alive: bool, whole: str) -> None:
        record = found.record
        is_known = bool(record.pid)
        life = WorkerProcess(record.life, record.worker, pid=found.pid, ticks=found.ticks, reported=is_known, greeted=is_known, whole=whole)
        self._lives[record.life] = life
        if found.hosted is not None:
            self._host.take(life.life, found.hosted, record.worker)
        if not is_alive:
            self._teardown.begin(life, "" if record.pid or found.hosted else "was not started: its controller ended first")
            return
        if not life.reported:
            self._report_started(life)
            self._limit_start(life)
        self._watch(life)
        if life.ending:
            return
        if found.hosted is None and self._host.terminals is not None:
            self._report_paneless(life)
        if found.place is not None:
            self._handshake.connect(life, found.place)
        else:
            self._handshake.search_later(life)

    def _end_strangers(self, known: set[int], places: Sequence[Rendezvous]) -> None:
        """End what bears our mark and is of no life in the store: an earlier store's, or older than its own death."""
        self._host.forget_others(known)
        spill.forget_others(self._layout.state, known)
        strange = [place for place in places if place.life not in known]
        for place in strange:
            self._end_stranger(place.life, place.pid)
        self._reaper.reap_others(
            mark_prefix(self._layout),
            lambda mark: life_of(mark) in known or life_of(mark) in self._lives,
            lambda: self._forget_strangers(known),
        )

    def _forget_strangers(self, known: set[int]) -> None:
        """Remove the files of lives that are over: only now, as a stranger that lived might have published its FIFOs until its end."""
        for life in rendezvous.traces(self._layout.workers) - known - self._lives.keys():
            rendezvous.forget(self._layout.workers, life)

    def _end_stranger(self, life: int, pid: int) -> None:
        ticks = start_ticks(pid)
        mark = mark_of(self._layout, life)
        fd = open_pidfd(pid, ticks) if is_worker(pid, mark) else -1
        if fd >= 0:
            LOG.warning("process %d is a worker of life %d, which is over: it is ended", pid, life)
            process_table.kill(fd)
            os.close(fd)
        own = reaper.Group(group=pid, ticks=ticks, since_ticks=ticks)
        self._reaper.reap([mark], [own] if fd >= 0 else [], lambda: rendezvous.forget(self._layout.workers, life))

    def _who(self, life: WorkerProcess) -> Who:
        beat_s = self._settings.worker.beat_s
        return Who(epoch=self._epoch, swarm=self._layout.swarm, worker=life.worker, threads=self._threads, beat_s=beat_s)

    # -- releasing ---------------------------------------------------------------------------------

    def _release(self, life: WorkerProcess, *, end: bool) -> None:
        life.cancel_timers()
        if life.connection is not None:
            life.connection.close()
            life.connection = None
        if life.pidfd >= 0:
            self._reactor.forget(life.pidfd)
            if end:
                process_table.kill(life.pidfd)
                process_table.has_ended(life.pidfd, timeout_s=1.0)
            os.close(life.pidfd)
            life.pidfd = -1

    def _remove_files(self) -> None:
        for life in rendezvous.traces(self._layout.workers) | self._lives.keys():  # also of strangers that were just killed
            rendezvous.forget(self._layout.workers, life)
        try:
            os.rmdir(self._layout.workers)
        except FileNotFoundError:
            pass  # closed before
        except OSError as error:
            LOG.warning("%s stays: %s", self._layout.workers, error)


def _drop(_event: Event) -> None:
    """Before ``open``."""
