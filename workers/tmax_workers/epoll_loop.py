"""A small event loop over epoll: descriptors and the handlers to call when they are ready."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import TypeAlias

Handler: TypeAlias = Callable[[int], None]
"""Called with the epoll events of its descriptor."""

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
HANG_UP = select.EPOLLHUP | select.EPOLLERR

_LONGEST_S = 86_400.0
"""epoll rejects timeouts that overflow its milliseconds; an early wake-up costs nothing."""


class EpollLoop:
    """Used by the IO thread; made and closed there or before it starts."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}

    def add(self, fd: int, handler: Handler, events: int = READ) -> bool:
        """Call ``handler`` when ``fd`` is ready; returns False for a descriptor that is always ready (a regular file)."""
        try:
            self._epoll.register(fd, events)
        except PermissionError:
            return False
        self._handlers[fd] = handler
        return True

    def change(self, fd: int, events: int) -> None:
        """Wait for other events of ``fd``; an unknown one is ignored."""
        if fd in self._handlers:
            self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        """Unregister ``fd``, before it is closed; a second call is harmless."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def knows(self, fd: int) -> bool:
        """Whether ``fd`` is watched."""
        return fd in self._handlers

    def turn(self, timeout_s: float | None) -> None:
        """Wait until something is ready, at most ``timeout_s`` (None: for ever), and call its handlers."""
        ready = self._epoll.poll(-1 if timeout_s is None else min(max(0.0, timeout_s), _LONGEST_S))
        for fd, events, handler in [(fd, events, self._handlers.get(fd)) for fd, events in ready]:
            # An earlier handler of this turn may have closed this descriptor, and its number may be reused.
            if handler is not None and self._handlers.get(fd) is handler:
                handler(events)

    def fileno(self) -> int:
        """Return the descriptor of the loop itself, which a forked child closes."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Close the loop; a second call is harmless."""
        self._epoll.close()
