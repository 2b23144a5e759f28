"""Finds the zygote and the tmux server of an earlier controller when their sockets were removed: by their command lines.

::

    start of a controller: recall_servers --> SIGUSR1 --> the server makes its socket again
    end of a swarm:        end_servers    --> SIGKILL

Both kinds are looked for whatever engine is in use: an earlier controller of this swarm may have used another one.
"""

from __future__ import annotations

import itertools
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Iterable, Iterator

from tmax.engines.process_table import has_ended, kill, open_pidfd, read_file, send_signal
from tmax.layout import Layout
from tmax_pipes.proc_stat import start_ticks

LOG = logging.getLogger("tmax.engines")

RECALL_LIMIT_S = 5.0
"""For a server to make its socket again: so long only where it is stopped, or the machine is."""
_LOOK_AGAIN_S = 0.002


def end_servers(layout: Layout) -> None:
    """End zygotes and tmux servers of this swarm that are left: their sockets were removed, or another engine used them."""
    for path, fd in _servers(layout):
        kill(fd)
        os.close(fd)
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass  # it was removed: the usual reason to look for its server


def recall_servers(layout: Layout, paths: Iterable[str]) -> None:
    """Have the zygote and the tmux server of an earlier controller make these sockets again, when they were removed.

    For the start of a controller: without it there would soon be two of each.  A tmux server that does not make its socket
    again (it is stopped) is ended, its workers live on; a zygote that does not forks no more, and ends with its last child.
    """
    missing = {path for path in paths if not _listens(path)}
    if not missing or not os.path.lexists(layout.database):
        return  # all is there, or this is the first start
    found = [(path, fd) for path, fd in _servers(layout) if path in missing]
    for path, fd in found:
        LOG.warning("%s was removed; the process that listened there is requested to make it again", path)
        # A zygote that still imports ends by it: it has no child yet.
        send_signal(fd, signal.SIGUSR1)
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
    from tmax_pipes.inotify import IN_CREATE, IN_MOVED_TO, Inotify  # imports ctypes, which takes time that other starts need not spend

    inotify = Inotify()
    inotify.watch(os.path.dirname(found[0][0]), IN_CREATE | IN_MOVED_TO)
    end = time.monotonic() + RECALL_LIMIT_S
    while (left_s := end - time.monotonic()) > 0:
        waiting = {path: fd for path, fd in found if not _listens(path) and not has_ended(fd)}
        if not waiting:
            break
        # Without inotify (a user's instances can be used up) we poll; no event reports that a socket begins to listen.
        wakes = inotify.fd >= 0 and not any(map(os.path.lexists, waiting))
        watched = [*waiting.values(), *([inotify.fd] if inotify.fd >= 0 else [])]
        select.select(watched, [], [], left_s if wakes else _LOOK_AGAIN_S)
        if inotify.fd >= 0:
            inotify.read()
    inotify.close()


def _listens(path: str) -> bool:
    """Return whether a process listens at this socket: one between its ``bind`` and its ``listen`` does not yet."""
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
        found: set[object] = {*words, *itertools.pairwise(words)}
        for path, marks in wanted:
            if marks <= found and (fd := open_pidfd(pid, start_ticks(pid))) >= 0:
                if _command_of(pid) == words:
                    yield path, fd
                else:
                    os.close(fd)  # it has ended meanwhile, and its number is another process's


def _command_of(pid: int) -> list[bytes]:
    """Return the command line of a process of our user; empty for any other."""
    try:
        return read_file(f"/proc/{pid}/cmdline").split(b"\0") if os.stat(f"/proc/{pid}").st_uid == os.geteuid() else []
    except OSError:
        return []  # it has ended
