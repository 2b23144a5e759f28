"""Starts each worker as a plain child process, in a session of its own, without a terminal; its output goes to a file.

::

    create --> Popen (stdin: /dev/null, stdout and stderr: the worker's output file) --> pid
    pidfd readable --> waitid --> exit status known
    this controller ends --> its children live on; to the next controller their exit status is unknown

Nothing of it needs tmux.  Identity and death are the engine's business: pid + start ticks, and a pidfd for each worker.
"""

from __future__ import annotations

import logging
import os
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from tmax.engines import process_table
from tmax.engines.host import HostedProcess, NewProcess, OnCreated, OnEnd
from tmax.engines.process.output_files import OutputFiles
from tmax.engines.process_end import ProcessEnd
from tmax.layout import Layout, private_folder
from tmax.reactor import Reactor

LOG = logging.getLogger("tmax.engines")

END_LIMIT_S = 1.0


@dataclass(slots=True)
class _Child:
    """A process that this controller has started."""

    pidfd: int
    """-1: it has ended, and was waited for."""
    end: ProcessEnd | None = None
    on_end: OnEnd | None = None
    is_retired: bool = False


class ProcessHost:
    """See ``host.Host`` for what each method promises."""

    terminals = None
    sockets: Sequence[str] = ()

    def __init__(self, layout: Layout, reactor: Reactor, *, env: Mapping[str, str]) -> None:
        """``env``: of the workers."""
        self._layout = layout
        self._reactor = reactor
        self._env = env
        self._queue: deque[tuple[NewProcess, OnCreated]] = deque()
        self._children: dict[int, _Child] = {}
        self._output = OutputFiles(layout.worker_logs)

    def open(self, on_paneless: Callable[[list[int]], None]) -> list[HostedProcess]:
        """As ``Host.open``: the store, the marks and the FIFOs name the processes that are there."""
        private_folder(self._layout.workers)
        self._output.open()
        return []

    def reopen(self) -> list[str]:
        """There is nothing in the runtime folder."""
        return []

    # -- starting ----------------------------------------------------------------------------------

    def create(self, wanted: Sequence[NewProcess], created: OnCreated) -> None:
        """As ``Host.create``: one process a turn of the loop, so that a batch does not block it."""
        if wanted and not self._queue:
            self._reactor.call_soon(self._start_next)
        self._queue.extend((new, created) for new in wanted)

    def _start_next(self) -> None:
        if not self._queue:
            return  # closed meanwhile
        new, created = self._queue.popleft()
        if self._queue:
            self._reactor.call_soon(self._start_next)
        try:
            pid = self._start(new)
        except OSError as error:
            created(new.life, 0, f"{new.argv[0]} cannot be started: {error.strerror}")
        else:
            created(new.life, pid, "")

    def _start(self, new: NewProcess) -> int:
        output = self._output.create(new.life)
        try:
            process = subprocess.Popen(
                new.argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                env={**self._env, **new.env},
                start_new_session=True,
            )
        finally:
            os.close(output)
        process.returncode = 0  # waited for below, through the pidfd; Popen must not warn that it still runs
        child = self._children[new.life] = _Child(os.pidfd_open(process.pid))
        self._reactor.on_readable(child.pidfd, partial(self._reap, new.life))
        return process.pid

    # -- ends --------------------------------------------------------------------------------------

    def _reap(self, life: int) -> None:
        """Wait for a child that has ended."""
        child = self._children.get(life)
        if child is None or child.pidfd < 0:
            return
        try:
            status = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            status = None  # other code of this process has waited for it
        else:
            if status is None:
                return  # it has not ended
        self._release(child)
        if status is not None:
            has_exited = status.si_code == os.CLD_EXITED
            child.end = ProcessEnd(exit_code=status.si_status) if has_exited else ProcessEnd(signal=status.si_status)
        if child.on_end is not None:
            on_end, child.on_end = child.on_end, None
            on_end(child.end)
        if child.is_retired:
            self._children.pop(life, None)

    def _release(self, child: _Child) -> None:
        self._reactor.forget(child.pidfd)
        os.close(child.pidfd)
        child.pidfd = -1

    def end_of(self, life: int, answer: OnEnd) -> None:
        """As ``Host.end_of``; None for a process of an earlier controller."""
        child = self._children.get(life)
        if child is None or child.pidfd < 0:
            answer(child.end if child is not None else None)
        else:
            child.on_end = answer  # its own watcher comes later in this turn; a stub ends a moment after its worker

    def retire(self, life: int) -> None:
        """As ``Host.retire``."""
        self._output.retire(life)
        child = self._children.get(life)
        if child is not None:
            child.is_retired = True
            if child.pidfd < 0:
                del self._children[life]

    # -- what is there -----------------------------------------------------------------------------

    def take(self, life: int, found: HostedProcess, name: str) -> None:
        """Nothing was found at ``open``."""

    def forget_others(self, known: set[int]) -> None:
        """As ``Host.forget_others``: output files."""
        self._output.retire_others(known)

    def rename(self, life: int, name: str) -> None:
        """A process has no name of its own."""

    def session_name(self, life: int) -> str:
        """There are no sessions."""
        return ""

    def output_file(self, life: int) -> str:
        """As ``Host.output_file``."""
        return self._output.path_of(life)

    def trim_output(self, life: int) -> None:
        """As ``Host.trim_output``."""
        self._output.trim(life)

    def last_output(self, life: int, answer: Callable[[str], None], *, lines: int) -> None:
        """As ``Host.last_output``."""
        answer(self._output.last_lines(life, lines))

    def close(self, *, everything: bool) -> None:
        """As ``Host.close``."""
        self._queue.clear()
        for life, child in list(self._children.items()):
            if child.pidfd >= 0 and everything:
                process_table.kill(child.pidfd)
                if not process_table.has_ended(child.pidfd, END_LIMIT_S):
                    LOG.error("life %d: its process does not end, although it was killed", life)
            child.on_end = None
            self._reap(life)
            if child.pidfd >= 0:
                self._release(child)
        self._children.clear()
        if everything:
            self._output.remove()
