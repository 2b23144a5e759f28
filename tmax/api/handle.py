"""How the Python API gets to its swarm: starts the controller when it is missing, and owns the swarm when it is temporary.

::

    permanent:  answers? or start it ------------------------------> socket
    temporary:  settings --> start it --> "own" (kept open) --> ready --> socket     its end, however it comes, ends the swarm
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import threading
import weakref
from collections.abc import Iterator
from typing import Self

from tmax.api.task_errors import SwarmGone
from tmax.config import dump
from tmax.control.client import Client, connect, open_socket
from tmax.core.settings import Settings
from tmax.errors import NoSwarm, TmaxError
from tmax.launch import down_mark, ensure_controller
from tmax.layout import Layout, private_folder

_END_S = 60.0
"""Longest wait for a swarm of ours to have gone."""


class SwarmHandle:
    """The way to one swarm.  ``settings`` given: it is temporary, made here, and ends with ``end`` or with this process."""

    def __init__(self, layout: Layout, settings: Settings | None = None) -> None:
        self.layout = layout
        self.temporary = settings is not None
        self._own: Client | None = None
        self._owned: Iterator[object] | None = None
        self._closed = False
        self._lock = threading.RLock()
        _HANDLES.add(self)
        if settings is None:
            if not os.path.lexists(layout.settings):
                raise NoSwarm(layout.swarm, "was never started")  # a name that was mistyped must not become a swarm
            ensure_controller(layout)
        else:
            self._make(settings)

    def _make(self, settings: Settings) -> None:
        private_folder(self.layout.state)
        dump(settings, self.layout.settings)
        try:
            ensure_controller(self.layout)
            self._become_owner()
            limit_s = settings.swarm.start_timeout_s
            with connect(self.layout) as client:
                client.request("ready", timeout_s=limit_s)
        except BaseException:  # any, Ctrl-C too: a half-made swarm of ours must not stay behind; raised again
            self.end(now=True)
            raise

    def reach(self) -> socket.socket:
        """Return a new connection for bulk frames.

        Raises SwarmGone when the swarm is not to come back, otherwise as ``ensure_controller`` does.
        """
        self._reopen()
        return open_socket(self.layout)

    def _reopen(self) -> None:
        with self._lock:
            self._refuse_if_gone()
            try:
                ensure_controller(self.layout)
            except NoSwarm:
                self._refuse_if_gone()
                raise
            if self.temporary:
                self._become_owner()

    def _refuse_if_gone(self) -> None:
        if self._closed:
            raise SwarmGone(f"swarm {self.layout.swarm!r} was left")
        if os.path.lexists(down_mark(self.layout)) or (self.temporary and not os.path.isdir(self.layout.state)):
            raise SwarmGone(f"swarm {self.layout.swarm!r} was taken down")

    def _become_owner(self) -> None:
        """Own this controller; the connection to an earlier one is dead and closed."""
        if self._own is not None and self._own.controller_pid == self._listening_pid():
            return
        if self._own is not None:
            self._own.close()
        self._own = connect(self.layout)
        self._owned = self._own.stream("own")
        next(self._owned)

    def _listening_pid(self) -> int:
        with connect(self.layout) as client:
            return client.controller_pid

    def open_client(self) -> Client:
        """Return a client for JSON requests; raises as ``reach`` does."""
        try:
            return connect(self.layout)
        except NoSwarm:
            self._reopen()
            return connect(self.layout)

    def end(self, *, now: bool) -> None:
        """Leave; a temporary swarm is taken down (``now``: without waiting for what runs) and its folders go.  Twice is harmless."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self.temporary:
                self._take_down(now=now)

    def _take_down(self, *, now: bool) -> None:
        for _ in range(2):
            try:
                with connect(self.layout) as client, _Process(client.controller_pid) as controller:
                    for _line in client.stream("down", now=now):
                        pass
                    if self._own is not None:
                        self._own.close()
                    controller.wait_ended(_END_S)
                break
            except NoSwarm:
                # Killed, perhaps: its workers live on until a controller takes them down.
                if not self._started_again():
                    break
            except (TmaxError, OSError):
                break  # the end of our connection ends the swarm
        if self._own is not None:
            self._own.close()
        for folder in (self.layout.state, self.layout.runtime):
            if not os.path.lexists(self.layout.control):
                shutil.rmtree(folder, ignore_errors=True)

    def _started_again(self) -> bool:
        if os.path.lexists(down_mark(self.layout)) or not os.path.exists(self.layout.database):
            return False  # it went by itself, or never began
        try:
            return ensure_controller(self.layout)
        except (TmaxError, OSError):
            return False

    def forget_in_child(self) -> None:
        """In a forked child: drop the copy of the owner's connection, or the swarm would outlive its owner."""
        self._closed = True
        if self._own is not None:
            self._own.close()


_HANDLES: weakref.WeakSet[SwarmHandle] = weakref.WeakSet()


def _forked() -> None:
    for handle in list(_HANDLES):
        handle.forget_in_child()


os.register_at_fork(after_in_child=_forked)


class _Process:
    """A process to be waited for that need not be our child."""

    def __init__(self, pid: int) -> None:
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._fd = -1

    def wait_ended(self, timeout_s: float) -> None:
        """Return when it has ended, or after ``timeout_s``."""
        if self._fd >= 0:
            select.select([self._fd], [], [], timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
