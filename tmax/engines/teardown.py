"""The end of a life, in the one order that loses no result and leaves no process behind.

::

    the kernel reports its end (pidfd)
      1. what it had still written is read: a result sent just before the death counts, one left in a file too
      2. what it left running is found, killed, and seen to be gone            (reaper.py)
      3. its parent reports how it ended                                      (spawner.py: the host, or the forking process)
      4. the last lines it printed, when it never got ready or failed
      5. its name is freed, its FIFOs are removed, what its task had printed becomes that task's log
      6. LifeEnded: from now on its tasks may run elsewhere

Steps 3 and 4 together have ``ANSWER_LIMIT_S``: a tmux that hangs delays the report of a death by that, and no more.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from functools import partial

from tmax.core.events import Event, LifeEnded, LifeMessage
from tmax.engines.host import Host
from tmax.engines.life_mark import mark_of
from tmax.engines.process_end import ProcessEnd, describe
from tmax.engines.reaper import Group, Reaper
from tmax.engines.spawner import Spawner
from tmax.engines.worker_process import WorkerProcess
from tmax.layout import Layout
from tmax.reactor import Reactor, Timer
from tmax_pipes import rendezvous
from tmax_pipes.messages import Done, Failed, Message

LOG = logging.getLogger("tmax.engines")

ANSWER_LIMIT_S = 1.0
LAST_LINES = 20
_LINE_CHARS = 160


class Teardown:
    """Carries lives through their end; ``emit_ended`` is called exactly once for each."""

    def __init__(
        self,
        reactor: Reactor,
        layout: Layout,
        *,
        host: Host,
        spawner: Spawner,
        reaper: Reaper,
        on_messages: Callable[[WorkerProcess, list[Message]], None],
        emit: Callable[[Event], None],
        emit_ended: Callable[[LifeEnded], None],
    ) -> None:
        self._reactor = reactor
        self._layout = layout
        self._host = host
        self._spawner = spawner
        self._reaper = reaper
        self._on_messages = on_messages
        self._emit = emit
        self._emit_ended = emit_ended

    def begin(self, life: WorkerProcess, cause: str = "") -> None:
        """This life has no process any more, or must have none: begin its end.  Twice is harmless.

        ``cause``: known already, because there never was a process.
        """
        if life.ending:
            return
        life.ending = True
        life.cancel_timers()
        if life.pidfd >= 0:
            self._reactor.forget(life.pidfd)
            os.close(life.pidfd)
            life.pidfd = -1
        if life.connection is not None:
            self._on_messages(life, life.connection.drain())
            life.connection.close()
            life.connection = None
        # The worker leads its own session: what it forked without exec bears no mark of its own, but stays in there.
        own = Group(group=life.pid, ticks=life.ticks, since_ticks=life.ticks)
        self._reaper.reap([mark_of(self._layout, life.life)], [own, *life.groups.values()], lambda: self._request_end(life, cause))

    def _request_end(self, life: WorkerProcess, cause: str) -> None:
        finish = _Once(partial(self._finish, life, cause))
        finish.limit = self._reactor.after(ANSWER_LIMIT_S, lambda: finish(None, ""))
        self._spawner.end_of(life.life, life.pid, lambda end: self._request_output(life, end, finish))

    def _request_output(self, life: WorkerProcess, end: ProcessEnd | None, finish: _Once) -> None:
        finish.end = end
        failed = not life.greeted or (not life.doomed and (end is None or end.exit_code != 0))
        if failed and not finish.called:
            self._host.last_output(life.life, lambda text: finish(end, text), lines=LAST_LINES)
        else:
            finish(end, "")

    def _finish(self, life: WorkerProcess, cause: str, end: ProcessEnd | None, printed: str) -> None:
        lines = last_lines(printed)
        if lines:
            LOG.warning("life %d (%s), the last lines it printed:\n%s", life.life, life.worker, "\n".join(lines))
        self._host.retire(life.life)
        rendezvous.forget(self._layout.workers, life.life)
        self._keep_output(life)
        words = cause or (life.whole if end is None and life.whole else cause_of(life, end))
        if lines and not life.greeted:
            words = f"{words}: {lines[-1].strip()}"
        LOG.info("life %d (%s) has ended: %s", life.life, life.worker, words)
        for message in self._spilled(life):
            self._emit(LifeMessage(life=life.life, message=message))
        self._emit_ended(
            LifeEnded(
                life=life.life,
                cause=words,
                signal=end.signal if end else None,
                exit_code=end.exit_code if end else None,
                peak_rss_bytes=max(life.peak_rss_bytes, end.peak_rss_bytes if end else 0),
                whole=bool(life.whole),
            )
        )

    def _spilled(self, life: WorkerProcess) -> list[Done | Failed]:
        """Return results that no controller has stored.  The file stays until the next controller starts: these may yet be lost with us."""
        from tmax_workers.spill import read

        try:
            return read(self._layout.state, life.life)
        except OSError as error:
            LOG.warning("life %d: the results it left cannot be read: %s", life.life, error)
            return []

    def _keep_output(self, life: WorkerProcess) -> None:
        """Keep what its task had printed."""
        from tmax_workers.capture import rescue  # imports ctypes, which would slow each start

        try:
            rescue(self._layout.logs, life.life, life.running)
        except OSError as error:
            LOG.warning("life %d: its last output could not be kept: %s", life.life, error)


class _Once:
    """Calls ``finish`` the first time it is called; later calls (an answer after the limit) change nothing."""

    def __init__(self, finish: Callable[[ProcessEnd | None, str], None]) -> None:
        self._finish = finish
        self.called = False
        self.limit: Timer | None = None
        self.end: ProcessEnd | None = None

    def __call__(self, end: ProcessEnd | None, printed: str) -> None:
        if self.called:
            return
        self.called = True
        if self.limit is not None:
            self.limit.cancel()
        self._finish(end or self.end, printed)


def cause_of(life: WorkerProcess, end: ProcessEnd | None) -> str:
    """Return the cause for people: ours when the end is the one we gave it, else what the kernel reported."""
    if life.doomed and (end is None or (end.exit_code is None and end.signal in {None, signal.SIGKILL})):
        return life.doomed
    if end is None and life.paneless:
        return "left, because its session was closed"
    return describe(end)


def last_lines(printed: str) -> list[str]:
    """Return the last lines with something on them, without tmux's own; control characters are dropped."""
    lines = ["".join(letter for letter in line if letter.isprintable())[:_LINE_CHARS].rstrip() for line in printed.split("\n")]
    return [line for line in lines if line and not line.startswith("Pane is dead")][-LAST_LINES:]
