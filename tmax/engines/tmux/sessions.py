"""The sessions of the workers on the swarm's own tmux server, and their viewers.

::

    create: new-session per life, all in one write --> pane and session id, then @life is set on the session
    a worker died: its exit status is read (remain-on-exit keeps the pane), renamed w2-dead-17, the last three kept
    server lost, or a session killed by hand: on_paneless(lives)
    its socket was removed: SIGUSR1, by which the server makes it again
    a client attached or detached: %client-session-changed, %client-detached --> list-clients --> on_viewers()

Everything is aimed at by the ids tmux gave (``$3``, ``%5``): a name as target also fits as prefix and as pattern.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tmax.engines.host import DEAD_KEPT, HostedProcess, NewProcess, OnCreated, OnEnd
from tmax.engines.process_end import ProcessEnd, signal_number
from tmax.engines.process_table import has_ended, kill, open_pidfd
from tmax.engines.tmux import tmux_version
from tmax.engines.tmux.control_mode import SESSION, ControlMode, command
from tmax.errors import TmuxError
from tmax.reactor import Reactor
from tmax_pipes.proc_stat import start_ticks

LOG = logging.getLogger("tmax.engines")

MONITOR = "tmax"
"""The session with the dashboard and the log."""

END_LIMIT_S = 2.0
NUDGES_S = (0.02, 0.2, 1.0)
"""After a death: the pane's process may end a little later than the worker it stood for."""
_DEAD = "-dead-"
_TRIES = 9
"""Looks for a dead pane, 2 ms after the first and then each twice as late: half a second in all."""

_PANES = "#{session_id} #{pane_id} #{pane_pid} #{pane_dead} L#{@life} #{session_name}"


@dataclass(slots=True)
class PaneInfo:
    """The pane of a life."""

    session_id: str
    pane_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPane(HostedProcess):
    """A pane that was there when the server was opened; ``name``: of its session."""

    session_id: str
    pane_id: str


class Sessions:
    """Sessions, panes and viewers, over one control-mode client."""

    def __init__(
        self,
        reactor: Reactor,
        *,
        socket: str,
        config: str,
        env: Mapping[str, str],
        on_paneless: Callable[[list[int]], None],
    ) -> None:
        self._reactor = reactor
        self._socket = socket
        self._on_paneless = on_paneless
        self.on_viewers: Callable[[], None] = _nothing
        """Called whenever ``viewers`` has changed."""
        self.control = ControlMode(reactor, socket=socket, config=config, env=env, on_notice=self._on_notice, on_open=self._on_reopened)
        self._panes: dict[int, PaneInfo] = {}
        self._dead: list[tuple[int, str]] = []
        """(life, session id), oldest first."""
        self._server_pid = 0
        self._requested: set[str] = set()
        self._monitor: Mapping[str, Sequence[str]] = {}
        self.viewers = 0
        """tmux clients, other than ours, whose session is the monitor."""

    def open(self) -> list[FoundPane]:
        """Start or find the server; return the panes that are there.  Raises TmuxError: missing, too old, hung."""
        self.control.open()
        tmux_version.require(self.control.version)
        self._server_pid = self.control.server_pid
        panes, clients = self.control.call([command("list-panes", "-a", "-F", _PANES), _LIST_CLIENTS])
        self._count_viewers(True, clients)
        return [found for found in map(_found, panes) if found is not None and found.name not in (SESSION, MONITOR)]

    def reopen(self) -> bool:
        """Have the server make its socket again if that was removed; return whether that was requested.  Its folder exists."""
        if os.path.lexists(self._socket) or not self._server_pid:
            return False
        server = _server_pidfd(self._server_pid)
        if server < 0:
            return False  # the server has ended: our client notices, and starts another one
        signal.pidfd_send_signal(server, signal.SIGUSR1)
        os.close(server)
        return True

    # -- sessions of lives -------------------------------------------------------------------------

    def create(self, wanted: Sequence[NewProcess], done: OnCreated) -> None:
        """Make these sessions in one write; ``done(life, pid of the pane's process or 0, complaint)`` for each."""
        answers = iter(wanted)
        self.control.batch([_new_session(new) for new in wanted], lambda ok, lines: self._created(next(answers), ok, lines, done))

    def _created(self, new: NewProcess, ok: bool, lines: list[str], done: OnCreated) -> None:
        if not ok and " ".join(lines).startswith("duplicate session"):
            # A session of an earlier time, or a person's own: it keeps what runs in it, and gives up the name.
            self._free_name(new.name, new.life)
            self.control.send(_new_session(new), lambda ok, lines: self._made(new, ok, lines, done))
        else:
            self._made(new, ok, lines, done)

    def _made(self, new: NewProcess, ok: bool, lines: list[str], done: OnCreated) -> None:
        words = lines[0].split() if ok and lines else []
        if len(words) != 3 or not words[2].isdigit():
            done(new.life, 0, f"tmux made no session: {' '.join(lines) or 'no answer'}")
            return
        self.take(new.life, session_id=words[0], pane_id=words[1], name=new.name)
        done(new.life, int(words[2]), "")

    def _free_name(self, name: str, life: int) -> None:
        self.control.send(command("rename-session", "-t", f"={name}:", f"{name}-before-{life}"))

    def take(self, life: int, *, session_id: str, pane_id: str, name: str) -> None:
        """This session belongs to this life; written on the session too, so that another controller knows."""
        self._panes[life] = PaneInfo(session_id, pane_id, name)
        self.control.send(command("set-option", "-t", session_id, "@life", str(life)))

    def take_dead(self, life: int, *, session_id: str) -> None:
        """Count a dead session of an earlier controller among those that are kept."""
        self._dead.append((life, session_id))

    def discard(self, session_id: str) -> None:
        """End a session of no life."""
        self.control.send(command("kill-session", "-t", session_id))

    def pane_of(self, life: int) -> PaneInfo | None:
        """Return the pane of a life; None when it has none."""
        return self._panes.get(life)

    def rename(self, life: int, name: str) -> None:
        """Give the session of this life another name."""
        pane = self._panes.get(life)
        if pane is None:
            return
        pane.name = name
        line = command("rename-session", "-t", pane.session_id, name)
        self.control.send(line, lambda ok, lines: self._renamed(ok, lines, line, name, life))

    def _renamed(self, ok: bool, lines: list[str], line: str, name: str, life: int) -> None:
        if not ok and " ".join(lines).startswith("duplicate session"):
            self._free_name(name, life)
            self.control.send(line)
        elif not ok:
            LOG.warning("tmux did not rename the session of %s: %s", name, " ".join(lines))

    def capture(self, life: int, answer: Callable[[str], None], *, lines: int = 0) -> None:
        """Answer with the text of a life's pane, with ``lines`` of its history above; empty when it has no pane."""
        pane = self._panes.get(life)
        if pane is None:
            self._reactor.call_soon(lambda: answer(""))
            return
        line = command("capture-pane", "-p", "-t", pane.pane_id, "-S", str(-lines))
        self.control.send(line, lambda ok, text: answer("\n".join(text).rstrip("\n") if ok else ""))

    def end_of(self, life: int, answer: OnEnd) -> None:
        """Answer with how the pane's process ended; None when tmux does not know (no pane, or it has not noticed in half a second)."""
        pane = self._panes.get(life)
        if pane is None:
            answer(None)
        else:
            self._request_end(pane.pane_id, answer, _TRIES)

    def _request_end(self, pane_id: str, answer: OnEnd, tries: int) -> None:
        def answered(ok: bool, lines: list[str]) -> None:
            dead, status, number = (lines[0] if ok and lines else "//").split("/")
            end = ProcessEnd(exit_code=int(status) if status.isdigit() else None, signal=signal_number(number))
            is_known = end.exit_code is not None or end.signal is not None
            if (dead == "1" and is_known) or not dead or tries <= 1:
                answer(end if is_known else None)
            else:
                self._reactor.after(0.002 * 2 ** (_TRIES - tries), lambda: self._request_end(pane_id, answer, tries - 1))

        if tries < _TRIES - 2:
            # Not at once: left alone, tmux more often reads the pane's last output before it reaps (3.3a drops it otherwise).
            self._nudge()
        # Both are waited for: pane_dead comes with the end of its output, the status with SIGCHLD; either may be first.
        line = command("display-message", "-p", "-t", pane_id, "#{pane_dead}/#{pane_dead_status}/#{pane_dead_signal}")
        self.control.send(line, answered)

    def _nudge(self) -> None:
        """Have tmux reap its children.  tmux 3.3a was seen to miss every third SIGCHLD; the zombie then stays and its status is not reported."""
        if self._server_pid:
            try:
                os.kill(self._server_pid, signal.SIGCHLD)
            except ProcessLookupError:
                pass  # the server has ended, which our client notices

    def retire(self, life: int) -> None:
        """Rename the session of a dead life so that its name is free; only the last DEAD_KEPT dead ones are kept."""
        pane = self._panes.pop(life, None)
        if pane is None:
            return
        lines = [command("rename-session", "-t", pane.session_id, f"{pane.name}{_DEAD}{life}")]
        self._dead.append((life, pane.session_id))
        while len(self._dead) > DEAD_KEPT:
            lines.append(command("kill-session", "-t", self._dead.pop(0)[1]))
        self.control.batch(lines)
        for delay_s in NUDGES_S:  # so that the dead pane shows how it ended
            self._reactor.after(delay_s, self._nudge)

    # -- notifications ---------------------------------------------------------------------------

    def _on_notice(self, line: str) -> None:
        word, *rest = line.split(" ")
        if word in ("%client-session-changed", "%client-detached"):
            self._request_once("clients", _LIST_CLIENTS, self._count_viewers)
        elif word in ("%unlinked-window-close", "%window-close"):
            self._request_once("panes", _LIST_PANES, self._compare)
        elif word == "%session-renamed" and len(rest) == 2:
            self._person_renamed(*rest)

    def _person_renamed(self, session_id: str, name: str) -> None:
        for pane in self._panes.values():
            if pane.session_id == session_id:
                pane.name = name

    def _request_once(self, what: str, line: str, done: Callable[[bool, list[str]], None]) -> None:
        """Request this once for all notifications of a turn; an answer that is on its way may be too old, so it is requested again after it."""
        if what in self._requested:
            return
        self._requested.add(what)

        def request() -> None:
            self._requested.discard(what)
            self.control.send(line, done)

        self._reactor.call_soon(request)

    def _count_viewers(self, ok: bool, lines: list[str]) -> None:
        if ok and (count := lines.count(f"0 {MONITOR}")) != self.viewers:
            self.viewers = count
            self.on_viewers()

    def _compare(self, ok: bool, lines: list[str]) -> None:
        if not ok:
            return
        gone = [life for life, pane in self._panes.items() if pane.pane_id not in lines]
        for life in gone:
            del self._panes[life]
        if gone:
            self._on_paneless(gone)

    def _on_reopened(self, server_pid: int) -> None:
        """Our client ended and there is a new one: on the same server, or on a new one that knows nothing."""
        if server_pid != self._server_pid:
            LOG.warning("the tmux server was lost; the workers go on without panes until they are replaced")
            self._server_pid = server_pid
            self._dead.clear()
            gone = list(self._panes)
            self._panes.clear()  # not compared with what is there: a new server gives the same ids again
            self._on_paneless(gone)
            if self._monitor:
                self.monitor(self._monitor)
        self.control.send(_LIST_CLIENTS, self._count_viewers)

    # -- the monitor -------------------------------------------------------------------------------

    def monitor(self, windows: Mapping[str, Sequence[str]]) -> None:
        """Make sure that the monitor session has these windows; one whose command has ended is started again."""
        self._monitor = windows
        line = command("list-panes", "-a", "-F", "#{session_name} #{window_name} #{pane_id} #{pane_dead}")
        self.control.send(line, lambda _ok, lines: self.control.batch(_monitor_lines(windows, lines), _complain))

    def close(self, *, end_server: bool) -> None:
        """Release tmux; with ``end_server`` end it and all its sessions, also when it hangs.  Twice is harmless."""
        self._panes.clear()
        if end_server:
            self._end_server()
        self._server_pid = 0
        self.control.close()

    def _end_server(self) -> None:
        server = _server_pidfd(self.control.server_pid)
        try:
            self.control.call(["kill-server"])
        except TmuxError as error:
            LOG.warning("the tmux server does not end on request and is killed: %s", error.message)
            if server >= 0:
                kill(server)
        if server >= 0:
            if not has_ended(server, END_LIMIT_S):
                kill(server)
                has_ended(server, END_LIMIT_S)
            os.close(server)
        end_unknown_server(self._socket)


def end_unknown_server(socket: str) -> None:
    """End whatever server still listens there: one that was started while we were not connected."""
    if os.path.exists(socket):
        try:
            subprocess.run(["tmux", "-S", socket, "kill-server"], capture_output=True, timeout=END_LIMIT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            LOG.error("a tmux server at %s could not be ended: %s", socket, error)


def _server_pidfd(pid: int) -> int:
    try:
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8")
        return open_pidfd(pid, start_ticks(pid)) if name.startswith("tmux") else -1
    except OSError:
        return -1


_LIST_CLIENTS = command("list-clients", "-F", "#{client_control_mode} #{client_session}")
_LIST_PANES = command("list-panes", "-a", "-F", "#{pane_id}")


def _new_session(new: NewProcess) -> str:
    words = ["new-session", "-d", "-s", new.name, "-x", "200", "-y", "50", "-P", "-F", "#{session_id} #{pane_id} #{pane_pid}"]
    for key, value in new.env.items():
        words += ["-e", f"{key}={value}"]
    return command(*words, "--", *new.argv)


def _found(line: str) -> FoundPane | None:
    words = line.split(" ", 5)
    if len(words) != 6 or not words[2].isdigit():
        return None
    session_id, pane_id, pid, dead, life, name = words
    number = int(life[1:]) if life[1:].isdigit() else 0
    return FoundPane(session_id=session_id, pane_id=pane_id, pid=int(pid), dead=dead == "1", life=number, name=name)


def _monitor_lines(windows: Mapping[str, Sequence[str]], panes: list[str]) -> list[str]:
    """Return the commands that bring the monitor session from what it is (``panes``) to ``windows``."""
    there = {words[1]: words for words in (line.split(" ") for line in panes) if len(words) == 4 and words[0] == MONITOR}
    lines = []
    has_session = bool(there)
    for name, argv in windows.items():
        if name in there:
            if there[name][3] == "1":
                lines.append(command("respawn-pane", "-t", there[name][2], "--", *argv))
        elif has_session:
            lines.append(command("new-window", "-d", "-t", f"={MONITOR}:", "-n", name, "--", *argv))
        else:
            lines.append(command("new-session", "-d", "-s", MONITOR, "-n", name, "-x", "200", "-y", "50", "--", *argv))
            has_session = True
    return lines


def _nothing() -> None:
    """For callbacks that are not set."""


def _complain(ok: bool, lines: list[str]) -> None:
    if not ok:
        LOG.warning("tmux refused a part of the monitor session: %s", " ".join(lines))
