"""The three FIFOs of one connection.

::

    worker                                            controller
    mkdir RT/7.1 (0700), mkfifo x 3 (0600)
    open tasks, control for reading
    publish life-7.json (rename)          ------>     scan: finds RT/7.1
                                                      open results for reading
                                                      open control, tasks for writing   (ENXIO: the worker has ended)
    read Who on control                   <------     write Who
    open results for writing (ENXIO: the controller has ended)
    write Hello                           ------>     read Hello

One controller life and one worker life use a connection, then it is removed: a FIFO keeps unread bytes for its *next*
reader, so a second pair of ends would begin in the middle of a frame.

Never O_RDWR: the writer itself would count as a reader, and bytes for a dead peer would vanish without an error.
O_WRONLY gives ENXIO at open and EPIPE at write.

An empty read means end-of-file only once a byte was read or ``poll`` has reported HUP (a writer was there and closed):
before the first writer opens the FIFO, a read returns nothing as well.
After end-of-file epoll reports HUP for ever, so the owner must unregister the descriptors when ConnectionEnded is raised.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from pathlib import Path

from tmax_pipes.pipe_errors import ConnectionEnded, PipeError
from tmax_pipes.private import make_private
from tmax_pipes.proc_stat import start_ticks
from tmax_pipes.rendezvous import FIFO_NAMES, Rendezvous, folder_of, publish, remove, scan
from tmax_pipes.transport import Lane

__all__ = ["ControllerFifos", "Rendezvous", "WorkerFifos", "scan"]

READ_BYTES = 256 * 1024
"""Size of the read buffer.  A pipe holds 64 KiB unless enlarged, so one read empties it."""

_ALWAYS = os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW


class _Fifos:
    """The transport over open descriptors, shared by both ends."""

    def __init__(self, folder: Path, reading: dict[Lane, int], writing: dict[Lane, int]) -> None:
        self.folder = str(folder)
        self._reading = reading
        self._writing = writing
        self._unsent: dict[Lane, bytearray] = {}
        self._begun: set[Lane] = set()
        self._view = memoryview(bytearray(READ_BYTES))
        self._buffers = [self._view]
        self._closed = False

    def read(self) -> list[tuple[Lane, bytes]]:
        """As ``Transport.read``."""
        self._check_open()
        found: list[tuple[Lane, bytes]] = []
        ended = ""
        for lane, fd in self._reading.items():
            data = self._read_lane(lane, fd)
            if data:
                found.append((lane, data))
            elif data is None:
                ended = lane
        if ended and not found:
            raise ConnectionEnded(f"end of {self.folder}/{ended}")
        found.reverse()  # control is read first, tasks are returned first: transport.py has the reason
        return found

    def _read_lane(self, lane: Lane, fd: int) -> bytes | None:
        """Return what has arrived, empty for nothing, None for the end."""
        try:
            size = os.readv(fd, self._buffers)
        except BlockingIOError:
            return b""
        if size:
            self._begun.add(lane)
            return bytes(self._view[:size])
        return None if lane in self._begun or _writer_has_left(fd) else b""

    def write(self, lane: Lane, data: bytes) -> None:
        """As ``Transport.write``.  PipeError for a lane that is not open for writing here."""
        self._check_open()
        fd = self._writing.get(lane)
        if fd is None:
            raise PipeError(f"{lane} of {self.folder} is not open for writing at this end")
        unsent = self._unsent.get(lane)
        if unsent:
            unsent += data
            return
        sent = self._send(lane, fd, data)
        if sent < len(data):
            self._unsent[lane] = bytearray(memoryview(data)[sent:])

    def flush(self) -> None:
        """As ``Transport.flush``."""
        if not self._unsent:
            return
        self._check_open()
        for lane, unsent in list(self._unsent.items()):
            del unsent[: self._send(lane, self._writing[lane], unsent)]
            if not unsent:
                del self._unsent[lane]

    def _send(self, lane: Lane, fd: int, data: bytes | bytearray) -> int:
        """Return how many bytes fitted."""
        try:
            return os.write(fd, data)
        except BlockingIOError:
            return 0
        except BrokenPipeError:
            raise ConnectionEnded(f"{self.folder}/{lane} has no reader any more") from None

    @property
    def wants_write(self) -> bool:
        """Whether something is queued."""
        return bool(self._unsent)

    @property
    def backlog_bytes(self) -> int:
        """Number of queued bytes."""
        return sum(map(len, self._unsent.values()))

    def read_fds(self) -> tuple[int, ...]:
        """The descriptors to watch for reading."""
        return tuple(self._reading.values())

    def write_fds(self) -> tuple[int, ...]:
        """The descriptors of lanes with something queued."""
        return tuple(self._writing[lane] for lane in self._unsent)

    def fds(self) -> tuple[int, ...]:
        """Every open descriptor."""
        return (*self._reading.values(), *self._writing.values())

    def close(self) -> None:
        """Close the descriptors; the folder stays until ``remove``.  A second call is harmless."""
        self._closed = True
        for fd in self.fds():
            os.close(fd)
        self._reading, self._writing, self._unsent = {}, {}, {}

    def remove(self) -> None:
        """Unlink the FIFOs, their folder, and the record that names it; a second call is harmless.  Open ends keep working."""
        remove(self.folder)

    def _check_open(self) -> None:
        if self._closed:
            raise ConnectionEnded(f"{self.folder} was closed at this end")


class WorkerFifos(_Fifos):
    """The worker's end: makes the FIFOs, reads ``tasks`` and ``control``, writes ``results``."""

    place: Rendezvous

    @classmethod
    def create(cls, runtime: str | Path, life: int, n: int = 1) -> WorkerFifos:
        """Make and publish connection ``n`` of ``life`` (this process) in ``runtime``, a private folder that exists.

        Raises FileExistsError when that connection was made before, and OSError when the folder cannot be used.
        """
        folder = folder_of(runtime, life, n)
        make_private(folder)
        reading: dict[Lane, int] = {}
        try:
            for name in FIFO_NAMES:
                os.mkfifo(folder / name, 0o600)
                os.chmod(folder / name, 0o600)
            reading["control"] = _open(folder / "control", os.O_RDONLY)
            reading["tasks"] = _open(folder / "tasks", os.O_RDONLY)
            fifos = cls(folder, reading, {})
            pid = os.getpid()
            fifos.place = Rendezvous(folder=str(folder), pid=pid, ticks=start_ticks(pid), life=life, n=n)
            publish(runtime, fifos.place)
        except BaseException:  # Ctrl-C included: remove what was made so far
            _close_all(reading)
            remove(folder)
            raise
        return fifos

    @property
    def are_there(self) -> bool:
        """Whether all three names exist.  Without them no controller can open this connection; open ends keep working."""
        return all(os.path.lexists(f"{self.folder}/{name}") for name in FIFO_NAMES)

    def open_results(self) -> None:
        """Open ``results``, when ``Who`` was read; a second call is harmless.  Raises ConnectionEnded when the controller has ended."""
        self._check_open()
        if not self._writing:
            self._writing["results"] = _open(Path(self.folder) / "results", os.O_WRONLY)


class ControllerFifos(_Fifos):
    """The controller's end: writes ``control`` and ``tasks``, reads ``results``."""

    @classmethod
    def open(cls, folder: str | Path) -> ControllerFifos:
        """Open the FIFOs a worker has published.

        Raises ConnectionEnded when the worker has ended or its folder is gone (scan again: there may be a newer record), and
        PipeError when the path is not a private FIFO of this user.
        """
        folder = Path(folder)
        opened: dict[Lane, int] = {}
        try:
            # Open the reading end first: the worker opens results as soon as it reads Who, and needs a reader.
            opened["results"] = _open(folder / "results", os.O_RDONLY)
            opened["control"] = _open(folder / "control", os.O_WRONLY)
            opened["tasks"] = _open(folder / "tasks", os.O_WRONLY)
        except BaseException:  # close every end, or the worker would take this process for a controller
            _close_all(opened)
            raise
        return cls(folder, {"results": opened.pop("results")}, opened)

    def open_results(self) -> None:
        """Nothing to do at this end."""


def _open(path: Path, access: int) -> int:
    try:
        fd = os.open(path, access | _ALWAYS)
    except FileNotFoundError:
        raise ConnectionEnded(f"{path} is gone") from None
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise ConnectionEnded(f"{path} has no reader") from None
        if error.errno in {errno.ELOOP, errno.EISDIR}:
            raise PipeError(f"{path} is not a FIFO: {error.strerror}") from error
        raise
    found = os.fstat(fd)
    if not stat.S_ISFIFO(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        os.close(fd)
        raise PipeError(f"{path} is not a private FIFO of this user (mode {found.st_mode:06o}, uid {found.st_uid})")
    return fd


def _close_all(fds: dict[Lane, int]) -> None:
    for fd in fds.values():
        os.close(fd)


def _writer_has_left(fd: int) -> bool:
    """Whether every writer has closed.  Linux reports no HUP on a FIFO that no writer has opened yet."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & select.POLLHUP for _, events in poll.poll(0))
