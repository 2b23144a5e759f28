"""What a worker left behind is found by a mark in its environment, or by its process group, and ended.

::

    reap(mark, groups, done) --> one look at /proc for all that is asked in this turn
        found: pidfd, checked again, SIGKILL --> wait until each has ended --> look again
        found none                           --> done()

The mark is ``TMAX_LIFE=SWARM:FOLDER:LIFE``.  It is inherited by every process a worker starts, also by those that left its
session and group.  FOLDER is a digest of the state folder, so that two swarms of one name (two users of one account,
a test beside a real swarm) never take each other's processes for their own.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tmax.layout import Layout
from tmax.reactor import Reactor
from tmax_pipes.proc_stat import ENDED_STATES, start_ticks, stat_fields

LOG = logging.getLogger("tmax.engines")

VARIABLE = "TMAX_LIFE"
KEPT = "TMAX_KEEP"
"""In the environment of what a Python task with ``keep_background`` starts, in the place of the mark."""
_LOOK_AGAIN_S = 0.002
_UNSURE_ROUNDS = 5
RECALL_LIMIT_S = 5.0
"""For a server to make its socket again: so long only where it is stopped, or the machine is."""


def mark_prefix(layout: Layout) -> str:
    """Return what the marks of all lives of this swarm begin with."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(layout.state))).hexdigest()[:12]
    return f"{layout.swarm}:{digest}:"


def mark_of(layout: Layout, life: int) -> str:
    """Return the value of TMAX_LIFE in the environment of this life and of all it starts."""
    return f"{mark_prefix(layout)}{life}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One process of ours, as /proc showed it."""

    pid: int
    ticks: int
    parent: int
    group: int
    session: int
    mark: str
    """Empty: it has none."""
    kept: bool = False
    """A task with ``keep_background`` started it: it belongs to no worker, also where it is still in its worker's session."""
    unsure: bool = False
    """It was between fork and exec, when its environment cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A process group (of a session of its own) and what is known of its leader; ``ticks`` 0: the leader was gone already."""

    group: int
    ticks: int
    since_ticks: int
    """No member can be older than the worker that started it."""

    def holds(self, one: Seen) -> bool:
        """Whether ``one`` belongs to this very group, not to a later one that was given its number."""
        if self.group <= 1 or self.group not in (one.group, one.session) or one.ticks < self.since_ticks:
            return False
        leader_ticks = start_ticks(self.group)
        return not leader_ticks or not self.ticks or leader_ticks == self.ticks


def look() -> list[Seen]:
    """Return every process of our user that has not ended, without ourselves."""
    found = (_see(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [one for one in found if one is not None and one.pid != os.getpid()]


def _see(pid: int) -> Seen | None:
    try:
        if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
            return None
        state, *numbers = stat_fields(pid)
        if state in ENDED_STATES:
            return None
        environment = _read(f"/proc/{pid}/environ")
    except (OSError, ValueError):
        return None  # it has ended meanwhile, or hides its environment because it runs with other rights
    parent, group, session, ticks = int(numbers[0]), int(numbers[1]), int(numbers[2]), int(numbers[18])
    is_kernel = parent == 2 or pid == 2
    return Seen(
        pid=pid,
        ticks=ticks,
        parent=parent,
        group=group,
        session=session,
        mark=_mark_in(environment),
        kept=bool(_value_in(environment, KEPT)),
        unsure=not environment and not is_kernel and not _read_or_empty(f"/proc/{pid}/cmdline"),
    )


def _read(path: str) -> bytes:
    # os.open and one read: half the price of a file object, and a machine has thousands of processes.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 256 * 1024):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def _read_or_empty(path: str) -> bytes:
    try:
        return _read(path)
    except OSError:
        return b""


def _mark_in(environment: bytes) -> str:
    return _value_in(environment, VARIABLE)


def _value_in(environment: bytes, variable: str) -> str:
    name = variable.encode() + b"="
    at = 0 if environment.startswith(name) else environment.find(b"\0" + name) + 1
    if at == 0 and not environment.startswith(name):
        return ""
    value = environment[at + len(name) :]
    return os.fsdecode(value.partition(b"\0")[0])


def open_pidfd(pid: int, ticks: int) -> int:
    """Return a pidfd of exactly this process, -1 when it is gone (or its number belongs to another one now)."""
    if pid <= 0 or not ticks:
        return -1
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return -1
    if start_ticks(pid) != ticks:
        os.close(fd)
        return -1
    return fd


def kill(fd: int) -> None:
    """Send SIGKILL through a pidfd; a process that has ended is no error."""
    _send(fd, signal.SIGKILL)


def _send(fd: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        pass


def has_ended(fd: int, timeout_s: float = 0.0) -> bool:
    """Whether the process of this pidfd has ended, after waiting for at most ``timeout_s``."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(1000 * timeout_s))


@dataclass(slots=True, kw_only=True)
class _Request:
    """One ``reap``: what it looks for, what it waits for."""

    wants: Callable[[Seen], bool]
    done: Callable[[], None]
    waiting: set[int]
    unsure_rounds: int = 0


class Reaper:
    """Ends what is left of workers, and tells when nothing is left; nothing blocks."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._wishes: list[_Request] = []
        self._fds: set[int] = set()
        self._closed = False

    def reap(self, marks: Iterable[str], groups: Iterable[Group], done: Callable[[], None]) -> None:
        """End every process with one of these marks or in one of these groups; ``done()`` once none is left.

        A process that cannot end (it hangs in the kernel) keeps ``done`` from being called, rightly: it still runs.
        """
        self._wish(_Request(wants=_matcher(frozenset(marks), tuple(groups)), done=done, waiting=set()))

    def reap_others(self, prefix: str, known: frozenset[str], done: Callable[[], None]) -> None:
        """End every process whose mark begins with ``prefix`` and is not in ``known``."""
        self._wish(_Request(wants=lambda one: one.mark.startswith(prefix) and one.mark not in known, done=done, waiting=set()))

    def _wish(self, wish: _Request) -> None:
        self._wishes.append(wish)
        if len(self._wishes) == 1:
            self._reactor.call_soon(self._look)

    def _look(self) -> None:
        """One look at /proc for every wish of this turn."""
        wishes, self._wishes = self._wishes, []
        if self._closed or not wishes:
            return
        seen = look()
        for wish in wishes:
            self._carry_out(wish, seen)

    def _carry_out(self, wish: _Request, seen: list[Seen]) -> None:
        fds = [fd for one in seen if wish.wants(one) for fd in [open_pidfd(one.pid, one.ticks)] if fd >= 0]
        for fd in fds:
            kill(fd)
            wish.waiting.add(fd)
            self._fds.add(fd)
            self._reactor.on_readable(fd, lambda fd=fd: self._ended(wish, fd))  # type: ignore[misc]
        if fds:
            return
        if any(one.unsure for one in seen) and wish.unsure_rounds < _UNSURE_ROUNDS:
            wish.unsure_rounds += 1
            self._reactor.after(_LOOK_AGAIN_S, lambda: self._wish(wish))
        else:
            wish.done()

    def _ended(self, wish: _Request, fd: int) -> None:
        self._reactor.forget(fd)
        self._fds.discard(fd)
        os.close(fd)
        wish.waiting.discard(fd)
        if not wish.waiting:
            self._wish(wish)  # what it started just before its end is found by another look

    def close(self) -> None:
        """Wait for nothing any more; twice is harmless."""
        self._closed = True
        for fd in self._fds:
            self._reactor.forget(fd)
            os.close(fd)
        self._fds.clear()


def _matcher(marks: frozenset[str], groups: tuple[Group, ...]) -> Callable[[Seen], bool]:
    def wants(one: Seen) -> bool:
        return (one.mark != "" and one.mark in marks) or (not one.kept and any(group.holds(one) for group in groups))

    return wants


def _marked(prefix: str) -> Iterator[tuple[Seen, int]]:
    for one in look():
        if one.mark.startswith(prefix) and (fd := open_pidfd(one.pid, one.ticks)) >= 0:
            yield one, fd


def end_servers(layout: Layout) -> None:
    """End zygotes and tmux servers of this swarm that nobody can reach any more, because their sockets were removed under them."""
    for _, fd in _servers(layout):
        kill(fd)
        os.close(fd)


def recall_servers(layout: Layout, paths: Iterable[str]) -> None:
    """Have the zygote and the tmux server of an earlier controller make these sockets again, when they were removed under them.

    For the start of a controller: without it there would soon be two of each.  A tmux server that does not make its socket
    again (it is stopped) is ended, its workers live on; a zygote that does not forks no more, and ends with its last child.
    """
    missing = {path for path in paths if not _listens(path)}
    if not missing or not os.path.lexists(layout.database):
        return  # all is there, or this is the first start
    found = [(path, fd) for path, fd in _servers(layout) if path in missing]
    for path, fd in found:
        LOG.warning("%s was removed under the process that listens there, which is to make it again", path)
        # A zygote that still imports ends by it: it has no child yet.
        _send(fd, signal.SIGUSR1)
    _await(found)
    for path, fd in found:
        if path == layout.tmux and not _listens(path):
            LOG.warning("the tmux server does not make its socket again: it is ended")
            kill(fd)
            has_ended(fd, RECALL_LIMIT_S)
        os.close(fd)


def _await(found: list[tuple[str, int]]) -> None:
    """Wait until each of these processes listens again or has ended, at most for RECALL_LIMIT_S."""
    if not found:
        return
    from tmax_pipes.inotify import IN_CREATE, IN_MOVED_TO, Inotify  # imports ctypes, which no other start shall wait for

    inotify = Inotify()
    inotify.watch(os.path.dirname(found[0][0]), IN_CREATE | IN_MOVED_TO)
    end = time.monotonic() + RECALL_LIMIT_S
    while (left_s := end - time.monotonic()) > 0:
        waiting = {path: fd for path, fd in found if not _listens(path) and not has_ended(fd)}
        if not waiting:
            break
        # Without inotify (a user's instances can be used up) we look from time to time; nothing tells when a socket begins to listen.
        wakes = inotify.fd >= 0 and not any(map(os.path.lexists, waiting))
        watched = [*waiting.values(), *([inotify.fd] if inotify.fd >= 0 else [])]
        select.select(watched, [], [], left_s if wakes else _LOOK_AGAIN_S)
        if inotify.fd >= 0:
            inotify.read()
    inotify.close()


def _listens(path: str) -> bool:
    """Whether a process listens at this socket: one between its ``bind`` and its ``listen`` does not yet."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.connect(path)
        except BlockingIOError:
            return True  # its queue is full
        except OSError:
            return False
    return True


def _servers(layout: Layout) -> Iterator[tuple[str, int]]:
    """Yield (path of the socket, pidfd) of each zygote and tmux server of this swarm.

    They are known by their command lines, which name this swarm's own folders.
    """
    wanted: list[tuple[str, set[object]]] = [
        (layout.zygote, {b"tmax_workers.zygote", (b"--state", os.fsencode(layout.state))}),
        (layout.tmux, {(b"-S", os.fsencode(layout.tmux)), (b"-f", os.fsencode(layout.tmux_conf))}),
    ]
    for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
        words = _command_of(pid)
        said: set[object] = {*words, *itertools.pairwise(words)}
        for path, marks in wanted:
            if marks <= said and (fd := open_pidfd(pid, start_ticks(pid))) >= 0:
                if _command_of(pid) == words:
                    yield path, fd
                else:
                    os.close(fd)  # it has ended meanwhile, and its number is another process's


def _command_of(pid: int) -> list[bytes]:
    """Return the command line of a process of our user; empty for any other."""
    try:
        return _read(f"/proc/{pid}/cmdline").split(b"\0") if os.stat(f"/proc/{pid}").st_uid == os.geteuid() else []
    except OSError:
        return []  # it has ended


def end_all(prefix: str, timeout_s: float = 5.0) -> int:
    """End every process whose mark begins with ``prefix`` and wait for it; return how many would not end in time.

    The blocking form, for the end of a swarm only.
    """
    end = time.monotonic() + timeout_s
    while True:
        fds = [fd for _, fd in _marked(prefix)]
        for fd in fds:
            kill(fd)
        left = sum(not has_ended(fd, max(0.0, end - time.monotonic())) for fd in fds)
        for fd in fds:
            os.close(fd)
        if not fds or left or time.monotonic() > end:
            return left
