"""Workers forked from one process that has imported everything: milliseconds and a few megabytes each.

::

    open: a zygote of an earlier controller answers, and fits --> taken over
          none                                                --> listen, start one; stubs may connect while it still imports
    command(life): the stub --> the zygote forks --> Forked --> on_worker(life, pid)         Ended --> end_of(life)
    it was killed                              --> another one on the same socket; its workers live on
    its socket was removed                     --> it is requested to make it again
    its code or the user's modules changed     --> it retires with its last child; another one for what comes
    it cannot (a module starts threads, it dies at once) --> exec from now on; stubs that wait become the worker
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from tmax.core.settings import Settings
from tmax.engines import process_table
from tmax.engines.host import OnEnd
from tmax.engines.life_mark import VARIABLE
from tmax.engines.machine import preload_of
from tmax.engines.process_end import ProcessEnd
from tmax.engines.spawner import ExecSpawner, HostEndOf, WorkerCommand, worker_argv, worker_env
from tmax.engines.zygote import zygote_link
from tmax.engines.zygote.zygote_link import ZygoteLink
from tmax.errors import FolderError
from tmax.layout import Layout, private_folder
from tmax.reactor import Reactor
from tmax_pipes.proc_stat import start_ticks
from tmax_workers import code_fingerprint
from tmax_workers import stub as stub_module
from tmax_workers.zygote_peer import listen
from tmax_workers.zygote_wire import (
    VERSION,
    Acknowledge,
    CancelFork,
    Ended,
    Forked,
    FromZygote,
    NotForked,
    RenewSocket,
    Retire,
    Stale,
    ZygoteReady,
)

LOG = logging.getLogger("tmax.engines")

GREET_LIMIT_S = 2.0
"""A zygote that was there before has so long to answer; otherwise it retires."""
REMOVED_TRIES = 5
"""Its socket may be removed as often while it is being made."""
RESTARTS = 3
RESTARTS_WITHIN_S = 60.0
"""One that dies more often than that is not started again."""


@dataclass(frozen=True, slots=True)
class _EndRequest:
    """How a life ended was requested, and this zygote is to report it; ``pid``: of its host's process, if that might be the worker."""

    link: ZygoteLink
    pid: int
    answer: OnEnd


class ZygoteSpawner:
    """See ``spawner.Spawner`` for what each method promises."""

    def __init__(
        self, reactor: Reactor, layout: Layout, settings: Settings, *, threads: int, env: Mapping[str, str], host_end_of: HostEndOf
    ) -> None:
        """``env``: of the zygote; the environment of the workers comes from their stubs."""
        self._reactor = reactor
        self._layout = layout
        self._settings = settings
        self._threads = threads
        self._env = env
        self._exec = ExecSpawner(layout, settings, threads=threads, host_end_of=host_end_of)
        self._host_end_of = host_end_of
        self._python = shutil.which(settings.swarm.python) or settings.swarm.python or sys.executable
        self._on_worker: Callable[[int, int], None] = _ignore
        self._listener: socket.socket | None = None
        self._link: ZygoteLink | None = None
        """To the zygote that forks now."""
        self._retired: list[ZygoteLink] = []
        self._processes: dict[int, int] = {}
        """Zygotes we started ourselves: pid -> pidfd."""
        self._started_at: list[float] = []
        self.trouble = ""
        """Why workers are started by exec; empty: they are forked."""
        self._host_pids: dict[int, int] = {}
        self._stubs: dict[int, int] = {}
        """Life -> pidfd of its host's process, until it is known which process is the worker."""
        self._by_exec: set[int] = set()
        self._forked: dict[int, ZygoteLink] = {}
        self._ends: dict[int, tuple[ZygoteLink, Ended]] = {}
        self._waiting: dict[int, _EndRequest] = {}
        """What to answer about the end of a life, once this zygote has reported it."""

    # -- Spawner -----------------------------------------------------------------------------------

    def open(self, on_worker: Callable[[int, int], None]) -> None:
        """As ``Spawner.open``; never raises: what cannot be forked is started by exec."""
        self._on_worker = on_worker
        if not self._take_over():
            self._start()

    def command(self, life: int) -> WorkerCommand:
        """As ``Spawner.command``."""
        if self.trouble:
            self._by_exec.add(life)
            return self._exec.command(life)
        env = worker_env(self._layout, life, self._threads)
        # The mark is the worker's alone: with it the stub would be killed as a leftover, before it could end as the worker ended.
        mark = f"{VARIABLE}={env.pop(VARIABLE)}"
        stub = [self._python, "-I", "-S", str(stub_module.__file__), self._layout.zygote, mark, "--"]
        command = worker_argv(self._layout, self._settings, life, self._threads)
        return WorkerCommand(argv=[*stub, self._python, *command[1:]], env=env, is_worker=False)

    def worker_pid(self, life: int, host_pid: int) -> int:
        """As ``Spawner.worker_pid``."""
        if life in self._by_exec:
            return host_pid
        self._host_pids[life] = host_pid
        if life not in self._forked:
            self._watch_stub(life, host_pid)
        return 0

    def end_of(self, life: int, pid: int, answer: OnEnd) -> None:
        """As ``Spawner.end_of``; the zygote was the parent, or the host."""
        link = self._forked.get(life)
        if life in self._ends:
            self._answer_end(life, answer)
        elif link is not None:
            # It has ended, or it was forked so late that the engine knew of no process when it ended this life.
            self._cancel(life, link)
            self._await_end(life, link, 0, answer)
        elif life in self._by_exec or self._link is None:
            self._query_host(life, pid, answer)
        else:
            # Not forked as far as we know: but what its zygote did a moment ago we do not know yet.
            self._cancel(life, self._link)
            self._await_end(life, self._link, pid, answer)

    def abandon(self) -> None:
        """As ``Spawner.abandon``: a zygote that was there before stays, its children need it."""
        self.close(everything=bool(self._processes))

    def close(self, *, everything: bool) -> None:
        """As ``Spawner.close``."""
        links = [*self._retired, *([self._link] if self._link is not None else [])]
        self._link, self._retired = None, []
        for link in links:
            if everything:
                link.end(timeout_s=2.0)
            link.close()
        self._stop_listening(remove=everything)
        for life in list(self._stubs):
            self._forget_stub(life)
        for pid, fd in list(self._processes.items()):
            if everything:  # also one that never got as far as to answer
                process_table.kill(fd)
                process_table.has_ended(fd, 1.0)
            self._reap(pid)

    def reopen(self) -> bool:
        """As ``Spawner.reopen``."""
        if self._link is None or os.path.lexists(self._layout.zygote):
            return False
        self._stop_listening(remove=False)
        self._link.send(RenewSocket())
        return True

    # -- zygotes -----------------------------------------------------------------------------------

    def _take_over(self) -> bool:
        """Find the zygote of an earlier controller; one that does not fit, or does not answer, is requested to retire."""
        try:
            link = self._new_link()
        except OSError:
            return False
        ready = link.wait_ready(GREET_LIMIT_S)
        if ready is not None and link.is_open and self._fits(ready):
            self._link = link
            return True
        if link.is_open:
            LOG.info("the earlier zygote retires: %s", "it does not answer" if ready is None else "it does not fit any more")
            self._retire(link)
        return False

    def _fits(self, ready: ZygoteReady) -> bool:
        return not ready.broken and (ready.version, ready.code, ready.python, ready.wanted) == (
            VERSION,
            code_fingerprint.fingerprint(),
            self._python,
            preload_of(self._settings),
        )

    def _new_link(self) -> ZygoteLink:
        return ZygoteLink(self._reactor, self._layout.zygote, on_message=self._received, on_lost=self._lost)

    def _start(self) -> None:
        """Start a zygote on the socket we have, or on a new one."""
        try:
            link = self._link_to_new()
        except (OSError, FolderError) as error:
            self._give_up(f"it cannot be started: {error}")
            return
        try:
            assert self._listener is not None
            pid = zygote_link.start(
                self._layout,
                self._listener,
                python=self._python,
                preload=preload_of(self._settings),
                orphan_ttl_s=self._settings.worker.orphan_ttl_s,
                env=self._env,
            )
            self._started_at.append(self._reactor.now())
            self._processes[pid] = os.pidfd_open(pid)
            self._reactor.on_readable(self._processes[pid], partial(self._zygote_ended, pid))
        except OSError as error:
            link.close()
            self._give_up(f"it cannot be started: {error.strerror}")
        else:
            self._link = link
            link.pid = pid

    def _link_to_new(self) -> ZygoteLink:
        """Listen, and connect before the zygote serves it: the connection waits.  OSError when that is impossible."""
        for _ in range(REMOVED_TRIES):
            try:
                self._listener = self._listener or listen(self._layout.zygote)
                return self._new_link()
            except FileNotFoundError:
                # Removed under us: the socket, or its whole folder.
                self._stop_listening(remove=False)
                private_folder(self._layout.runtime)
        raise FileNotFoundError(errno.ENOENT, "its socket is removed again and again")

    def _zygote_ended(self, pid: int) -> None:
        """One of ours has ended.  A connection in the backlog of a socket that we hold too would never report it."""
        self._reap(pid)
        link = self._link
        if link is not None and link.pid == pid:
            link.close()
            self._lost(link)

    def _reap(self, pid: int) -> None:
        fd = self._processes.pop(pid, -1)
        if fd < 0:
            return
        self._reactor.forget(fd)
        os.close(fd)
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            pass  # reaped by other code of this process

    def _retire(self, link: ZygoteLink | None) -> None:
        """This zygote forks no more; it stays for its children's ends."""
        if link is self._link:
            self._link = None
        if link is not None and link.is_open:
            link.send(Retire())
            self._retired.append(link)

    def _lost(self, link: ZygoteLink) -> None:
        """This zygote has ended; its workers live on, and how they end stays unknown."""
        for life in [life for life, request in self._waiting.items() if request.link is link]:
            self._was_not_forked(life)
        if link in self._retired:
            self._retired.remove(link)
        if link is not self._link:
            return
        self._link = None
        now = self._reactor.now()
        self._started_at = [at for at in self._started_at if now - at < RESTARTS_WITHIN_S]
        if link.ready is None:
            self._give_up(f"it ended before it was ready; see {self._layout.log}")
        elif len(self._started_at) > RESTARTS:
            self._give_up(f"it ended {len(self._started_at)} times within {RESTARTS_WITHIN_S:g} s")
        else:
            LOG.warning("the zygote (process %d) has ended; its workers live on, another one is started", link.pid)
            self._start()

    def _give_up(self, why: str) -> None:
        LOG.warning("workers are started one by one (exec), not forked from the zygote: %s", why)
        self.trouble = why
        self._retire(self._link)
        self._stop_listening(remove=True)  # stubs that wait for an answer notice, and become the worker

    def _stop_listening(self, *, remove: bool) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if remove:
            try:
                os.unlink(self._layout.zygote)
            except FileNotFoundError:
                pass  # it was never there, or removed with its folder

    # -- messages of a zygote ----------------------------------------------------------------------

    def _received(self, link: ZygoteLink, message: FromZygote) -> None:
        if isinstance(message, ZygoteReady):
            self._is_ready(link, message)
        elif isinstance(message, Forked):
            self._forked[message.life] = link
            self._forget_stub(message.life)
            self._on_worker(message.life, message.pid)
        elif isinstance(message, NotForked):
            self._not_forked(message)
        elif isinstance(message, Ended):
            self._has_ended(link, message)
        elif link is self._link:
            self._is_stale(message)

    def _is_ready(self, link: ZygoteLink, ready: ZygoteReady) -> None:
        for child in ready.children:
            self._forked[child.life] = link
        for ended in ready.ended:
            self._has_ended(link, ended)
        if ready.broken and link is self._link and not self.trouble:
            self._give_up(ready.broken)
        for missing in ready.missing:
            LOG.warning("the zygote could not import %s", missing)

    def _is_stale(self, message: Stale) -> None:
        LOG.info("%s changed since the zygote imported it: another zygote is started", ", ".join(message.files))
        self._retire(self._link)
        self._start()  # on the same socket, if we hold it: stubs that connect meanwhile wait

    def _has_ended(self, link: ZygoteLink, ended: Ended) -> None:
        self._ends[ended.life] = (link, ended)
        if ended.life in self._waiting:
            self._answer_end(ended.life, self._waiting.pop(ended.life).answer)

    def _not_forked(self, message: NotForked) -> None:
        """Unless it was cancelled, the stub becomes the worker by exec."""
        if message.why == "cancelled":
            if message.life in self._waiting:
                self._was_not_forked(message.life)
            return
        self._by_exec.add(message.life)
        host_pid = self._host_pids.get(message.life)
        self._forget_stub(message.life)
        if host_pid:
            self._on_worker(message.life, host_pid)

    # -- lives -------------------------------------------------------------------------------------

    def _watch_stub(self, life: int, host_pid: int) -> None:
        """A stub that ends before there is a worker ends the life: otherwise only the start's time limit would."""
        fd = process_table.open_pidfd(host_pid, start_ticks(host_pid))
        if fd < 0:
            self._reactor.call_soon(lambda: self._stub_ended(life, host_pid))
            return
        self._stubs[life] = fd
        self._reactor.on_readable(fd, lambda: self._stub_ended(life, host_pid))

    def _stub_ended(self, life: int, host_pid: int) -> None:
        self._forget_stub(life)
        self._host_pids.pop(life, None)
        if life not in self._forked:
            # The stub was all there was of this life, or it became the worker and has announced itself.
            self._on_worker(life, host_pid)

    def _forget_stub(self, life: int) -> None:
        fd = self._stubs.pop(life, -1)
        if fd >= 0:
            self._reactor.forget(fd)
            os.close(fd)

    def _answer_end(self, life: int, answer: OnEnd) -> None:
        link, ended = self._ends[life]
        link.send(Acknowledge(life))
        self._forget(life)
        answer(ProcessEnd(signal=ended.signal, exit_code=ended.status, peak_rss_bytes=ended.peak_rss_bytes))

    def _cancel(self, life: int, link: ZygoteLink) -> None:
        """This life is over: it must not have a process, nor get one."""
        if life in self._stubs:
            process_table.kill(self._stubs[life])  # it may not even have connected yet; or it is about to become the worker
        link.send(CancelFork(life))

    def _await_end(self, life: int, link: ZygoteLink, pid: int, answer: OnEnd) -> None:
        if link.is_open:
            self._waiting[life] = _EndRequest(link, pid, answer)
        else:
            self._query_host(life, pid, answer)

    def _was_not_forked(self, life: int) -> None:
        """It was not forked, or the zygote that knew its end has ended."""
        request = self._waiting.pop(life)
        self._query_host(life, request.pid, request.answer)

    def _query_host(self, life: int, pid: int, answer: OnEnd) -> None:
        """``pid`` 0: there was no process that the host could know of."""
        by_exec = life in self._by_exec
        self._forget(life)
        if pid and not by_exec:
            # The stub stood in for the worker, and has an exit status of its own when it does not know how that ended.
            self._host_end_of(life, lambda end: answer(None if end is not None and end.exit_code == stub_module.LOST else end))
        elif pid:
            self._host_end_of(life, answer)
        else:
            answer(None)

    def _forget(self, life: int) -> None:
        self._forget_stub(life)
        self._forked.pop(life, None)
        self._ends.pop(life, None)
        self._host_pids.pop(life, None)
        self._by_exec.discard(life)


def _ignore(_life: int, _pid: int) -> None:
    """Before ``open``."""
