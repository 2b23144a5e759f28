"""Ends what a worker left behind: processes with its mark in their environment, or in its process groups.

::

    reap(mark, groups, done) --> one scan of /proc for all requests of this turn
        found: pidfd, checked again, SIGKILL --> wait until each has ended --> scan again
        found none                           --> done()
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from tmax.engines.process_table import Seen, has_ended, kill, open_pidfd, scan
from tmax.reactor import Reactor
from tmax_pipes.proc_stat import start_ticks

_SCAN_AGAIN_S = 0.002
_UNSURE_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A process group (of a session of its own) and what is known of its leader; ``ticks`` 0: the leader had ended already."""

    group: int
    ticks: int
    since_ticks: int
    """No member can be older than the worker that started it."""

    def holds(self, one: Seen) -> bool:
        """Return whether ``one`` belongs to this very group, not to a later one that was given its number."""
        if self.group <= 1 or self.group not in (one.group, one.session) or one.ticks < self.since_ticks:
            return False
        leader_ticks = start_ticks(self.group)
        return not leader_ticks or not self.ticks or leader_ticks == self.ticks


@dataclass(slots=True, kw_only=True)
class _Request:
    """One ``reap``: what it looks for, what it waits for."""

    matches: Callable[[Seen], bool]
    done: Callable[[], None]
    waiting: set[int]
    unsure_rounds: int = 0


class Reaper:
    """Ends what is left of workers, and calls back when nothing is left; nothing blocks."""

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._requests: list[_Request] = []
        self._fds: set[int] = set()
        self._closed = False

    def reap(self, marks: Iterable[str], groups: Iterable[Group], done: Callable[[], None]) -> None:
        """End every process with one of these marks or in one of these groups; ``done()`` once none is left.

        A process that cannot end (it hangs in the kernel) keeps ``done`` from being called, rightly: it still runs.
        """
        self._add(_Request(matches=_matcher(frozenset(marks), tuple(groups)), done=done, waiting=set()))

    def reap_others(self, prefix: str, is_known: Callable[[str], bool], done: Callable[[], None]) -> None:
        """End every process whose mark begins with ``prefix`` and is not known; ``done()`` once none is left.

        ``is_known`` is called in each scan: a worker that was started since the first one must be known by then.
        """
        self._add(_Request(matches=lambda one: one.mark.startswith(prefix) and not is_known(one.mark), done=done, waiting=set()))

    def _add(self, request: _Request) -> None:
        self._requests.append(request)
        if len(self._requests) == 1:
            self._reactor.call_soon(self._scan)

    def _scan(self) -> None:
        """Scan /proc once for all requests of this turn."""
        requests, self._requests = self._requests, []
        if self._closed or not requests:
            return
        seen = scan()
        for request in requests:
            self._process(request, seen)

    def _process(self, request: _Request, seen: list[Seen]) -> None:
        fds = [fd for one in seen if request.matches(one) for fd in [open_pidfd(one.pid, one.ticks)] if fd >= 0]
        for fd in fds:
            kill(fd)
            request.waiting.add(fd)
            self._fds.add(fd)
            self._reactor.on_readable(fd, partial(self._ended, request, fd))
        if fds:
            return
        if any(one.unsure for one in seen) and request.unsure_rounds < _UNSURE_ROUNDS:
            request.unsure_rounds += 1
            self._reactor.after(_SCAN_AGAIN_S, lambda: self._add(request))
        else:
            request.done()

    def _ended(self, request: _Request, fd: int) -> None:
        self._reactor.forget(fd)
        self._fds.discard(fd)
        os.close(fd)
        request.waiting.discard(fd)
        if not request.waiting:
            self._add(request)  # what it started just before its end is found by another scan

    def close(self) -> None:
        """Drop all requests; twice is harmless."""
        self._closed = True
        for fd in self._fds:
            self._reactor.forget(fd)
            os.close(fd)
        self._fds.clear()


def _matcher(marks: frozenset[str], groups: tuple[Group, ...]) -> Callable[[Seen], bool]:
    def matches(one: Seen) -> bool:
        return (one.mark != "" and one.mark in marks) or (not one.kept and any(group.holds(one) for group in groups))

    return matches


def end_all(prefix: str, timeout_s: float = 5.0) -> int:
    """End every process whose mark begins with ``prefix`` and wait for it; return how many would not end in time.

    The blocking form, for the end of a swarm only.
    """
    end = time.monotonic() + timeout_s
    while True:
        fds = [fd for one in scan() if one.mark.startswith(prefix) for fd in [open_pidfd(one.pid, one.ticks)] if fd >= 0]
        for fd in fds:
            kill(fd)
        left = sum(not has_ended(fd, max(0.0, end - time.monotonic())) for fd in fds)
        for fd in fds:
            os.close(fd)
        if not fds or left or time.monotonic() > end:
            return left
