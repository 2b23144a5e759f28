"""Where the FIFOs of a worker are, and which process they belong to.

::

    RUNTIME/                     the folder given by the owner, 0700
        7.1/                     life 7, its first connection: tasks control results
        life-7.json              written beside and renamed: names the folder of the latest connection

A reader therefore sees no place, the old one or the new one, never half of one.  Numbers of connections only rise,
so a folder's name never means two connections.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import msgspec

from tmax_pipes.private import open_private

FIFO_NAMES = ("tasks", "control", "results")

_NOT_OURS = {errno.ENOENT, errno.ELOOP, errno.EACCES, errno.ENXIO}
"""Gone in between, a link, not readable, a socket: not the record of a worker of ours."""


class Rendezvous(msgspec.Struct, frozen=True, kw_only=True):
    """Where one connection of one worker life is to be found."""

    folder: str
    """Whole path of the folder that holds the FIFOs; in the file only its last part, as a path need not be valid UTF-8."""
    pid: int
    ticks: int
    """Start time of the process (``start_ticks``): pid + ticks is its identity, a pid alone is a hint."""
    life: int
    n: int
    """Number of the connection within the life, from 1."""


def folder_of(runtime: str | Path, life: int, n: int) -> Path:
    """Return the path of the folder of connection ``n`` of ``life``."""
    return Path(runtime) / f"{life}.{n}"


def publish(runtime: str | Path, place: Rendezvous) -> None:
    """Make ``place`` known to the controller, in place of an earlier one of the same life.

    Not synced: the runtime folder does not survive a reboot, and neither does what it speaks of.
    """
    new = Path(runtime) / f".life-{place.life}.{place.n}"
    record = msgspec.structs.replace(place, folder=Path(place.folder).name)
    fd = open_private(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(fd, "wb") as file:
        file.write(msgspec.json.encode(record))
    new.rename(_record_of(runtime, place.life))


def scan(runtime: str | Path) -> list[Rendezvous]:
    """Return the latest place of every life, by life.

    Files that are not ours, not whole or not about the folder their name says are passed over: a worker publishes
    by rename, so such a file is not one of a worker.  No folder, no places.
    """
    places = (_read(Path(runtime), path) for path in Path(runtime).glob("life-*.json"))
    return sorted((place for place in places if place is not None), key=lambda place: place.life)


def remove(folder: str | Path) -> None:
    """Remove the folder of one connection, and its record when that still names it; what is missing is passed over."""
    folder = Path(folder)
    record = _record_of(folder.parent, int(folder.name.partition(".")[0]))
    place = _read(folder.parent, record)
    if place is not None and place.folder == str(folder):
        record.unlink(missing_ok=True)
    for name in FIFO_NAMES:
        (folder / name).unlink(missing_ok=True)
    try:
        folder.rmdir()
    except FileNotFoundError:
        pass  # it was removed by the other end


def forget(runtime: str | Path, life: int) -> None:
    """Remove every trace of a life that is over, also what it left when it was killed half-way through a new connection."""
    for folder in Path(runtime).glob(f"{life}.*"):
        remove(folder)
    _record_of(runtime, life).unlink(missing_ok=True)
    for unfinished in Path(runtime).glob(f".life-{life}.*"):
        unfinished.unlink(missing_ok=True)


def traces(runtime: str | Path) -> set[int]:
    """Return the lives that left anything here, also those killed before they had published a place."""
    try:
        entries = os.listdir(runtime)
    except FileNotFoundError:
        return set()  # no folder, no traces
    names = (entry.removeprefix(".life-").removeprefix("life-").partition(".")[0] for entry in entries)
    return {int(name) for name in names if name.isascii() and name.isdigit()}


def _record_of(runtime: str | Path, life: int) -> Path:
    return Path(runtime) / f"life-{life}.json"


def _read(runtime: Path, record: Path) -> Rendezvous | None:
    try:
        fd = os.open(record, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NOT_OURS:
            return None
        raise
    try:
        found = os.fstat(fd)
        ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
        text = os.read(fd, 4096) if ours else b""
    finally:
        os.close(fd)
    try:
        place = msgspec.json.decode(text, type=Rendezvous)
    except ValueError:
        return None  # no JSON, no record, or no text
    folder = folder_of(runtime, place.life, place.n)
    if record.name != f"life-{place.life}.json" or place.folder != folder.name:
        return None
    return msgspec.structs.replace(place, folder=str(folder))
