"""The controller's event loop: descriptors, timers and calls from other threads.

    fds ready ----\
    timers due ----+--> run_once() --> callbacks on the loop's thread
    call_soon() --/

Selectors rather than asyncio: raw readiness callbacks measured equal to asyncio's add_reader, and importing
asyncio costs about five times a bare interpreter start, which every ``init`` would pay.
"""

from __future__ import annotations

import heapq
import itertools
import os
import selectors
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

Callback = Callable[[], None]

_LONGEST_S = 86_400.0


@dataclass(slots=True)
class _Watch:
    on_read: Callback | None = None
    on_write: Callback | None = None

    def mask(self) -> int:
        return (selectors.EVENT_READ if self.on_read else 0) | (selectors.EVENT_WRITE if self.on_write else 0)


class Timer:
    """A scheduled call; ``cancel()`` may be called at any time, repeatedly."""

    __slots__ = ("callback", "cancelled", "when_s")

    def __init__(self, when_s: float, callback: Callback) -> None:
        self.when_s = when_s
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Make sure the callback is not called any more."""
        self.cancelled = True


class Reactor:
    """Descriptors, timers and wake-ups of one thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._watches: dict[int, _Watch] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._soon: deque[Callback] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake_fd, selectors.EVENT_READ, None)

    @staticmethod
    def now() -> float:
        """Return monotonic seconds: the clock of leases, graces and timers."""
        return time.monotonic()

    def on_readable(self, fd: int, callback: Callback | None) -> None:
        """Call ``callback`` whenever ``fd`` can be read (level-triggered); None stops it."""
        self._watches.setdefault(fd, _Watch()).on_read = callback
        self._apply(fd)

    def on_writable(self, fd: int, callback: Callback | None) -> None:
        """Call ``callback`` whenever ``fd`` can be written; None stops it."""
        self._watches.setdefault(fd, _Watch()).on_write = callback
        self._apply(fd)

    def forget(self, fd: int) -> None:
        """Stop watching ``fd``; call it before the descriptor is closed.  Unknown descriptors are ignored."""
        if self._watches.pop(fd, None) is not None:
            try:
                self._selector.unregister(fd)
            except (KeyError, ValueError):
                pass  # it was not registered at this moment

    def _apply(self, fd: int) -> None:
        watch = self._watches[fd]
        mask = watch.mask()
        known = fd in self._selector.get_map()
        if mask and known:
            self._selector.modify(fd, mask, watch)
        elif mask:
            self._selector.register(fd, mask, watch)
        else:
            self.forget(fd)

    def at(self, when_s: float, callback: Callback) -> Timer:
        """Call ``callback`` once at ``when_s`` on this reactor's clock."""
        timer = Timer(when_s, callback)
        heapq.heappush(self._timers, (when_s, next(self._order), timer))
        return timer

    def after(self, delay_s: float, callback: Callback) -> Timer:
        """Call ``callback`` once, ``delay_s`` from now."""
        return self.at(self.now() + delay_s, callback)

    def call_soon(self, callback: Callback) -> None:
        """Run ``callback`` on the loop's thread; may be called from any thread."""
        self._soon.append(callback)
        os.eventfd_write(self._wake_fd, 1)

    def _timeout(self, limit_s: float | None) -> float | None:
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        if self._soon:
            return 0.0
        if not self._timers:
            return limit_s
        # An early wake-up is harmless; epoll rejects timeouts that overflow its milliseconds, and a task's time limit may be any number.
        due_s = min(max(0.0, self._timers[0][0] - self.now()), _LONGEST_S)
        return due_s if limit_s is None else min(due_s, limit_s)

    def run_once(self, limit_s: float | None = None) -> None:
        """Wait for something (at most ``limit_s``), then run every callback that is due."""
        for key, mask in self._selector.select(self._timeout(limit_s)):
            if key.fd == self._wake_fd:
                os.eventfd_read(self._wake_fd)
                continue
            self._dispatch(key.fd, key.data, mask)
        self._run_timers()
        for _ in range(len(self._soon)):
            self._soon.popleft()()

    def _dispatch(self, fd: int, watch: _Watch, mask: int) -> None:
        # An earlier callback of this turn, also the reader just called, may have closed the descriptor, and its number may
        # belong to another watch: a pidfd opened this turn would count as an ended process.
        if self._watches.get(fd) is watch and mask & selectors.EVENT_READ and watch.on_read:
            watch.on_read()
        if self._watches.get(fd) is watch and mask & selectors.EVENT_WRITE and watch.on_write:
            watch.on_write()

    def _run_timers(self) -> None:
        now = self.now()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if not timer.cancelled:
                timer.callback()

    def close(self) -> None:
        """Close the loop's own descriptors."""
        self._selector.close()
        os.close(self._wake_fd)
