"""The dashboard's data source: pictures that the controller sends, and logs on request.

::

    thread "feed":  connect --> watch --> snapshot --> picture --+--> wake()    (the app then calls take())
                       ^                                         |
                       +------ wait 0.5 s ... 5 s <--- gone -----+
    any thread:     log(target): its own short connection; the log file is read directly

The thread sleeps in ``recv`` while the controller sends nothing, so no timer runs without a viewer.  Pictures are not
queued: an app that was busy or suspended gets the newest one only.
"""

from __future__ import annotations

import base64
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from tmax.control.client import Client, Layout, connect
from tmax.core.snapshot import SCHEMA_VERSION, Snapshot
from tmax_dashboard.rows import Picture
from tmax_dashboard.text import log_lines

LOG_BYTES = 200 * 1024
"""How much of the end of a log is read and shown."""

_CONNECT_S = 2.0
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 5.0


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a task's output, or of what a worker's pane shows."""

    title: str
    lines: tuple[str, ...]
    stamp: str
    """Changes whenever the lines change."""


class Feed(Protocol):
    """The source of pictures and logs: the app's only interface to the controller."""

    def start(self, wake: Callable[[], None]) -> None:
        """Begin; ``wake`` is called from another thread whenever ``take`` has something new."""

    def take(self) -> Picture:
        """Return the newest picture."""

    def log(self, worker: str, task: int | None, known: str) -> Log | None:
        """Return the log of a task, or what the worker's pane shows; None while its stamp is ``known``.  Blocks; raises nothing."""

    def stop(self) -> None:
        """Stop; a second call is harmless."""


class _ControlSocketLayout(Layout):
    """A layout of which only the control socket is known."""

    __slots__ = ("_control",)

    def __init__(self, swarm: str, control: str) -> None:
        super().__init__(swarm, "", os.path.dirname(control))
        self._control = control

    @property
    def control(self) -> str:
        return self._control


class ControlFeed:
    """The feed of a real swarm, over its control socket.  ``always``: receive pictures also while no client views the monitor session."""

    def __init__(self, swarm: str, control: str, *, always: bool = False) -> None:
        self._layout = _ControlSocketLayout(swarm, control)
        self._always = always
        self._lock = threading.Lock()
        self._picture = Picture()
        self._client: Client | None = None
        self._stopping = threading.Event()
        self._wake: Callable[[], None] = lambda: None

    def start(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        threading.Thread(target=self._run, name="feed", daemon=True).start()

    def take(self) -> Picture:
        with self._lock:
            return self._picture

    def stop(self) -> None:
        self._stopping.set()
        with self._lock:
            if self._client is not None:
                _shut(self._client)

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        wait_s = _FIRST_WAIT_S
        while not self._stopping.is_set():
            try:
                for answer in self._watch():
                    wait_s = _FIRST_WAIT_S
                    self._publish(_picture_of(answer, self.take().snapshot))
                why = ""
            except Exception as error:  # on any error, show it and retry
                why = _described(error)
            if not self._stopping.is_set():
                self._publish(Picture(contact="gone", snapshot=self.take().snapshot, why=why))
            self._stopping.wait(wait_s)
            wait_s = min(_LONGEST_WAIT_S, wait_s * 2)

    def _watch(self) -> Iterator[dict[str, object]]:
        with connect(self._layout, _CONNECT_S) as client:
            with self._lock:
                self._client = client
            try:
                if not self._stopping.is_set():
                    yield from client.stream("watch", always=self._always)
            finally:
                with self._lock:
                    self._client = None

    def _publish(self, picture: Picture) -> None:
        with self._lock:
            changed = picture != self._picture
            self._picture = picture
        if changed and not self._stopping.is_set():
            self._wake()

    # -- logs --------------------------------------------------------------------------------------

    def log(self, worker: str, task: int | None, known: str) -> Log | None:
        try:
            found = self._log(worker, task)
        except Exception as error:  # as above: show why the log is missing
            why = _described(error)
            found = Log(title=f"no log of {worker}", lines=log_lines(why.encode(errors="replace")), stamp=why)
        return None if found.stamp == known else found

    def _log(self, worker: str, task: int | None) -> Log:
        answer = self._request_log(worker if task is None else task)
        if "text" in answer:
            return _pane_log(worker, str(answer["text"]))
        title = f"task {answer['task']}, {answer['state']}, {answer['worker'] or worker}"
        file = answer.get("file")
        if isinstance(file, str):
            return _file_log(title, file)
        data = base64.b64decode(str(answer.get("tail") or ""))
        if not data and answer.get("live"):
            # A task's first output is in its worker's pane before it is in a file.
            return _pane_log(worker, str(self._request_log(worker).get("text", "")), title)
        lines = log_lines(data) or ("no output",)
        return Log(title=title, lines=lines, stamp=f"{title}:{len(data)}")

    def _request_log(self, target: str | int) -> dict[str, object]:
        with connect(self._layout, _CONNECT_S) as client:
            client.answer_s = _CONNECT_S
            return client.request("logs", target=target)


def _described(error: Exception) -> str:
    hint = getattr(error, "hint", "")
    return f"{str(error) or type(error).__name__}{': ' if hint else ''}{hint}"


def _picture_of(answer: dict[str, object], last: Snapshot | None) -> Picture:
    """Decode a picture; when that fails, keep the last snapshot and give the reason."""
    try:
        return Picture(contact="live", snapshot=msgspec.convert(answer.get("snapshot"), Snapshot))
    except msgspec.ValidationError as error:
        raw = answer.get("snapshot")
        theirs = raw.get("schema_version") if isinstance(raw, dict) else None
        versions = "" if theirs in {None, SCHEMA_VERSION} else f" (schema {theirs}, this dashboard knows {SCHEMA_VERSION})"
        return Picture(contact="live", snapshot=last, why=f"the controller's picture cannot be read{versions}: {error}")


def _pane_log(worker: str, text: str, title: str = "") -> Log:
    lines = log_lines(text.rstrip().encode(errors="replace")) or ("nothing on its pane yet",)
    return Log(title=f"{title + ': ' if title else ''}what the pane of {worker} shows", lines=lines, stamp=text)


def _file_log(title: str, path: str) -> Log:
    # O_NONBLOCK: opening a FIFO of this name must not block the app.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path} is not a plain file")
        start = max(0, found.st_size - LOG_BYTES)
        data = os.pread(fd, LOG_BYTES, start)
    finally:
        os.close(fd)
    return Log(
        title=title, lines=log_lines(data, cut=start > 0) or ("no output yet",), stamp=f"{title}:{found.st_size}:{found.st_mtime_ns}"
    )


def _shut(client: Client) -> None:
    """Wake the thread that sleeps in ``recv`` on this connection; closing the descriptor would not."""
    try:
        with socket.socket(fileno=os.dup(client.fileno())) as twin:
            twin.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it has ended already
