"""Workers in tmux sessions of this machine, spoken to through FIFOs, watched through pidfds.

::

    start --> sessions.create (one write) --> pane's pid --> pidfd --> LifeStarted
    worker publishes FIFOs, announces --> Connection: Who --> Hello --> LifeGreeted --> LifeSaid ...
    connection ends --> LifeSilent --> the worker's next announcement, or its place found in the folder
    pidfd readable --> endings.py --> LifeEnded

Only the kernel says that a worker is dead.  A connection that ended, a pane that is gone, a tmux server that was killed:
none of them costs a worker its life.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tmax.core.events import Event, LifeEnded, LifeMessage, LifePaneless, LifeStarted
from tmax.core.model import LifeRecord
from tmax.core.settings import Settings
from tmax.engines import adoption, reaper, tmux_conf
from tmax.engines.control_mode import quote, scrubbed
from tmax.engines.engine import WorkerFigures
from tmax.engines.handshake import Handshake
from tmax.engines.local_figures import LocalFigures
from tmax.engines.machine import threads_of
from tmax.engines.reaper import Reaper, mark_of, mark_prefix, open_pidfd
from tmax.engines.sessions import Found, NewSession, Sessions
from tmax.engines.spawner import Spawner
from tmax.engines.teardown import Teardown
from tmax.engines.terminals import Terminals
from tmax.engines.worker_process import WorkerProcess
from tmax.engines.zygote_spawner import spawner_for
from tmax.errors import TmuxError
from tmax.layout import Layout, private_folder
from tmax.reactor import Reactor
from tmax_pipes import rendezvous
from tmax_pipes.messages import Failed, Failure, Report, Run, ToWorker, Who
from tmax_pipes.proc_stat import start_ticks
from tmax_pipes.rendezvous import Rendezvous
from tmax_workers import spill

LOG = logging.getLogger("tmax.engines")

_REMOVED_TRIES = 5
"""The runtime folder may be removed as often while it is being opened."""


class LocalEngine:
    """The engine of one machine; see ``base.Engine`` for what each method promises."""

    def __init__(
        self,
        layout: Layout,
        settings: Settings,
        reactor: Reactor,
        *,
        epoch: int = 0,
        workers: int,
        env: Mapping[str, str] | None = None,
        spawner: Spawner | None = None,
    ) -> None:
        """``workers``: how many share the cores.  ``env``: of the tmux server and so of the workers; None: our own."""
        env = scrubbed(os.environ if env is None else env)
        self._layout = layout
        self._settings = settings
        self._reactor = reactor
        self._epoch = epoch
        self._threads = threads_of(settings, workers)
        self._emit: Callable[[Event], None] = _nobody_listens
        self._lives: dict[int, WorkerProcess] = {}
        self._found: list[Found] = []
        self._viewers_changed: Callable[[], None] = _nothing
        self._sessions = Sessions(
            reactor,
            socket=layout.tmux,
            config=layout.tmux_conf,
            env=env,
            on_paneless=self._on_paneless,
            on_viewers=self._on_viewers,
        )
        self._spawner = spawner or spawner_for(reactor, layout, settings, threads=self._threads, env=env, ask_pane=self._sessions.end_of)
        self._reaper = Reaper(reactor)
        self._contact = Handshake(reactor, layout.workers, who=self._who, emit=self._tell)
        self._endings = Teardown(
            reactor,
            layout,
            sessions=self._sessions,
            spawner=self._spawner,
            reaper=self._reaper,
            on_heard=self._contact.heard,
            emit=self._tell,
            emit_ended=self._ended,
        )
        self._figures = LocalFigures()
        self._prepared = False
        self._closed = False

    @property
    def terminals(self) -> Terminals:
        """Of the workers' sessions."""
        return self

    def figures(self, lives: Iterable[int]) -> Mapping[int, WorkerFigures]:
        """As ``Engine.figures``."""
        return self._figures.of({life: self._lives[life].pid for life in lives if life in self._lives})

    def output_file(self, life: int) -> str:
        """As ``Engine.output_file``: the pane shows it."""
        return ""

    # -- Engine ------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Begin what takes long (the zygote's imports) before ``open``; twice is harmless.  The runtime folder exists already."""
        if not self._prepared:
            self._prepared = True
            reaper.recall_servers(self._layout, [self._layout.zygote, self._layout.tmux])
            self._spawner.open(self._on_worker)

    def abandon(self) -> None:
        """End what ``prepare`` began, and nothing of an earlier controller's: there is no store to open for."""
        self._spawner.abandon()

    def open(self, emit: Callable[[Event], None], *, epoch: int | None = None) -> None:
        """As ``Engine.open``: the runtime folder of the layout exists already.  ``epoch``: when it was not known before."""
        self._emit = emit
        self._epoch = self._epoch if epoch is None else epoch
        for path in (self._layout.runtime, self._layout.state):
            quote(path)  # it is on every worker's command line
        self._found = self._open_sessions()
        self.prepare()

    def _open_sessions(self) -> list[Found]:
        for tries_left in range(_REMOVED_TRIES, -1, -1):
            private_folder(self._layout.workers)
            folder = os.lstat(self._layout.workers)
            try:
                tmux_conf.write(self._layout, self._settings.tmux)
                return self._sessions.open()
            except (FileNotFoundError, TmuxError):
                # Its folder may have been removed under it; anything else is the same at the next try.
                if not tries_left or (os.path.lexists(self._layout.tmux_conf) and _is_still(self._layout.workers, folder)):
                    raise
            private_folder(self._layout.workers)
            reaper.recall_servers(self._layout, [self._layout.tmux])  # one may have come that nobody can reach now
        raise AssertionError  # the last try returns or raises

    def reopen(self) -> list[str]:
        """As ``Engine.reopen``.  Workers make their own FIFOs again; those that are open go on working without a name."""
        remade = []
        if not os.path.lexists(self._layout.tmux_conf):
            tmux_conf.write(self._layout, self._settings.tmux)
            remade.append("tmux.conf")
        if self._sessions.reopen():
            remade.append("tmux.sock")
        if self._spawner.reopen():
            remade.append("zygote.sock")
        return remade

    def start(self, lives: Sequence[tuple[int, str]]) -> None:
        """As ``Engine.start``."""
        wanted = []
        for number, worker in lives:
            life = self._lives[number] = WorkerProcess(number, worker, creating=True)
            self._limit_start(life)
            pane = self._spawner.pane(number)
            wanted.append(NewSession(life=number, name=worker, argv=pane.argv, env=pane.env))
        self._sessions.create(wanted, self._on_created)

    def adopt(self, records: Sequence[LifeRecord], *, cause: str = "") -> None:
        """As ``Engine.adopt``."""
        alive = [record for record in records if record.alive]
        marks = {record.life: mark_of(self._layout, record.life) for record in alive}
        there = rendezvous.scan(self._layout.workers)
        seen = reaper.look() if any(not record.pid for record in alive) else []
        matches = adoption.match(alive, self._found, there, seen, marks)
        lives = {
            found.record.life
            for found in matches
            if found.pid and start_ticks(found.pid) == found.ticks and _is_worker(found.pid, marks[found.record.life])
        }
        whole = "" if lives else cause or "ended with the whole swarm"
        for found in matches:
            self._take_over(found, is_alive=found.record.life in lives, whole=whole)
        self._end_strangers(alive, there)
        self._found = []

    def receive_all(self) -> None:
        """Take in what the workers have written so far: this process ends, and what it has not read is lost with it."""
        for life in list(self._lives.values()):
            if life.connection is not None and not life.ending:
                self._contact.heard(life, life.connection.drain())

    def name(self, life: int, worker: str) -> None:
        """As ``Engine.name``."""
        known = self._lives.get(life)
        if known is None:
            return
        known.worker = worker
        self._sessions.rename(life, worker)
        if known.connection is not None and known.connection.greeted:
            known.connection.say([self._who(known)])

    def send(self, life: int, messages: Sequence[ToWorker], connection: int | None = None) -> None:
        """As ``Engine.say``.  A Run too large for any frame comes back as ``Failed``: saying it again would not help."""
        known = self._lives.get(life)
        if known is None or known.connection is None or not known.connection.greeted:
            return
        if connection is not None and connection != known.connection.place.n:
            return
        for message in known.connection.say(messages):
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
            reaper.kill(known.pidfd)
        elif not known.creating:
            self._endings.begin(known)

    def session_of(self, life: int) -> tuple[str, str]:
        """As ``Engine.session_of``."""
        pane = self._sessions.pane_of(life)
        return (pane.name, pane.pane_id) if pane is not None else ("", "")

    def close(self, *, sessions: bool) -> None:
        """As ``Engine.close``; what was let go of can still be ended by a second call."""
        self._closed = True
        for life in self._lives.values():
            self._let_go(life, end=sessions)
        self._reaper.close()
        if sessions and (left := reaper.end_all(mark_prefix(self._layout))):
            LOG.error("%d processes do not end, although they were killed", left)
        self._spawner.close(everything=sessions)
        self._sessions.close(end_server=sessions)
        if sessions:
            reaper.end_servers(self._layout)
            self._remove_files()

    # -- beyond Engine: tmux -----------------------------------------------------------------------

    def monitor(self, windows: Mapping[str, Sequence[str]]) -> None:
        """Make sure that the monitor session has these windows (name -> command); made again after tmux was killed."""
        self._sessions.monitor(windows)

    def viewers(self) -> int:
        """Return how many people's clients show the monitor session."""
        return self._sessions.viewers

    def on_viewers(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` whenever ``viewers()`` has changed."""
        self._viewers_changed = callback

    def _on_viewers(self) -> None:
        self._viewers_changed()

    def capture(self, life: int, tell: Callable[[str], None]) -> None:
        """Tell what the pane of a life shows, with its history; empty when it has none."""
        self._sessions.capture(life, tell, lines=self._settings.tmux.history_limit)

    def paneless(self) -> set[int]:
        """Return the lives that run and cannot be watched, because their sessions are gone."""
        return {life.life for life in self._lives.values() if life.told and not life.ending and self._sessions.pane_of(life.life) is None}

    @property
    def tmux_version(self) -> str:
        """The version of the running server, as tmux writes it."""
        return self._sessions.control.version

    # -- processes ---------------------------------------------------------------------------------

    def _on_created(self, number: int, pane_pid: int, complaint: str) -> None:
        life = self._lives.get(number)
        if life is None or self._closed:
            return
        life.creating = False
        if complaint:
            LOG.warning("life %d: tmux made no session: %s", number, complaint)
            self._endings.begin(life, f"tmux made no session: {complaint}")
            return
        pid = self._spawner.worker_of(number, pane_pid)
        if pid:
            self._on_worker(number, pid)
        elif life.doomed:
            self._endings.begin(life)

    def _on_worker(self, number: int, pid: int) -> None:
        """This process is the worker of that life."""
        life = self._lives.get(number)
        if life is None or life.pid or life.ending:
            return
        life.pid, life.ticks = pid, start_ticks(pid)
        if life.ticks:
            self._tell_started(life)
        self._watch(life)
        if not life.ending:
            self._contact.await_first(life)

    def _tell_started(self, life: WorkerProcess) -> None:
        if not life.told:
            life.told = True
            self._emit(LifeStarted(life=life.life, pid=life.pid, ticks=life.ticks, session=self.session_of(life.life)[0] or life.worker))

    def _watch(self, life: WorkerProcess) -> None:
        life.pidfd = open_pidfd(life.pid, life.ticks)
        if life.pidfd < 0:
            self._endings.begin(life)
            return
        self._reactor.on_readable(life.pidfd, lambda: self._endings.begin(life))
        if life.doomed:
            reaper.kill(life.pidfd)

    def _limit_start(self, life: WorkerProcess) -> None:
        limit_s = self._settings.swarm.start_timeout_s
        life.timer = self._reactor.after(limit_s, lambda: self.kill(life.life, f"did not start in {limit_s:g} s"))

    def _tell(self, event: Event) -> None:
        self._emit(event)

    def _ended(self, event: LifeEnded) -> None:
        self._lives.pop(event.life, None)
        self._emit(event)

    def _on_paneless(self, lives: list[int]) -> None:
        for number in lives:
            life = self._lives.get(number)
            if life is not None and life.told and not life.ending:
                self._tell_paneless(life)

    def _tell_paneless(self, life: WorkerProcess) -> None:
        life.paneless = True
        self._emit(LifePaneless(life=life.life))

    # -- adopting ----------------------------------------------------------------------------------

    def _take_over(self, found: adoption.Match, *, is_alive: bool, whole: str) -> None:
        record = found.record
        is_known = bool(record.pid)
        life = WorkerProcess(record.life, record.worker, pid=found.pid, ticks=found.ticks, told=is_known, greeted=is_known, whole=whole)
        self._lives[record.life] = life
        if found.pane is not None:
            self._sessions.take(life.life, session_id=found.pane.session_id, pane_id=found.pane.pane_id, name=found.pane.name)
            if found.pane.name != record.worker:
                self._sessions.rename(life.life, record.worker)
        if not is_alive:
            self._endings.begin(life, "" if record.pid or found.pane else "was not started: its controller ended first")
            return
        if not life.told:
            self._tell_started(life)
            self._limit_start(life)
        self._watch(life)
        if life.ending:
            return
        if found.pane is None:
            self._tell_paneless(life)
        if found.place is not None:
            self._contact.connect(life, found.place)
        else:
            self._contact.search_later(life)

    def _end_strangers(self, alive: Sequence[LifeRecord], there: Sequence[Rendezvous]) -> None:
        """End what bears our mark and is of no life in the store: an earlier store's, or older than its own death."""
        dead, running = adoption.strangers(self._found, alive)
        for pane in dead:
            self._sessions.take_dead(pane.life, session_id=pane.session_id)
        for pane in running:
            self._sessions.discard(pane.session_id)
        known = {record.life for record in alive}
        spill.forget_others(self._layout.state, known)
        strange = [place for place in there if place.life not in known]
        for place in strange:
            self._end_stranger(place.life, place.pid)
        for life in rendezvous.traces(self._layout.workers) - known - {place.life for place in strange}:
            rendezvous.forget(self._layout.workers, life)  # killed while it made a new connection: nobody reads these FIFOs
        marks = frozenset(mark_of(self._layout, life) for life in known)
        self._reaper.reap_others(mark_prefix(self._layout), marks, _nothing)

    def _end_stranger(self, life: int, pid: int) -> None:
        ticks = start_ticks(pid)
        mark = mark_of(self._layout, life)
        fd = open_pidfd(pid, ticks) if _is_worker(pid, mark) else -1
        if fd >= 0:
            LOG.warning("process %d is a worker of life %d, which is over: it is ended", pid, life)
            reaper.kill(fd)
            os.close(fd)
        own = reaper.Group(group=pid, ticks=ticks, since_ticks=ticks)
        self._reaper.reap([mark], [own] if fd >= 0 else [], lambda: rendezvous.forget(self._layout.workers, life))

    def announced(self, life: int, place: str, pid: int) -> bool:
        """A worker says, through the control socket, where its FIFOs are; ``pid`` is the peer's, from the kernel.

        Return False when they are not to be found there: they were removed, and the worker has to make others.
        """
        known = self._lives.get(life)
        if self._closed:
            return True
        if known is None or (known.ending and known.pid != pid):
            # Of no life, or of one whose end began before anybody knew of this process: it was forked a moment too late.
            self._end_stranger(life, pid)
            return True
        self._on_worker(life, pid)
        found = self._contact.place_in(known, place) if known.pid == pid else None
        return found is None or self._contact.connect(known, found)

    def _who(self, life: WorkerProcess) -> Who:
        beat_s = self._settings.worker.beat_s
        return Who(epoch=self._epoch, swarm=self._layout.swarm, worker=life.worker, threads=self._threads, beat_s=beat_s)

    # -- letting go --------------------------------------------------------------------------------

    def _let_go(self, life: WorkerProcess, *, end: bool) -> None:
        life.cancel_timers()
        if life.connection is not None:
            life.connection.close()
            life.connection = None
        if life.pidfd >= 0:
            self._reactor.forget(life.pidfd)
            if end:
                reaper.kill(life.pidfd)
                reaper.has_ended(life.pidfd, timeout_s=1.0)
            os.close(life.pidfd)
            life.pidfd = -1

    def _remove_files(self) -> None:
        for life in {place.life for place in rendezvous.scan(self._layout.workers)} | self._lives.keys():
            rendezvous.forget(self._layout.workers, life)
        for path in (self._layout.tmux, self._layout.tmux_conf):
            Path(path).unlink(missing_ok=True)
        try:
            os.rmdir(self._layout.workers)
        except FileNotFoundError:
            pass  # closed before
        except OSError as error:
            LOG.warning("%s stays: %s", self._layout.workers, error)


def _is_still(path: str, folder: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.lstat(path), folder)
    except FileNotFoundError:
        return False


def _is_worker(pid: int, mark: str) -> bool:
    """Whether this process looks like a worker: a number in a store may, after a reboot, be anybody's."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        return (
            f"{reaper.VARIABLE}={mark}".encode() in environment.split(b"\0") or b"tmax_workers" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
    except OSError:
        return False


def _nothing() -> None:
    """For callbacks nobody has set."""


def _nobody_listens(_event: Event) -> None:
    """Before ``open``."""
