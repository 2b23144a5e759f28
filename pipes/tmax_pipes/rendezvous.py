"""The published records of where a worker's FIFOs are, and which process they belong to.

::

    RUNTIME/                     given by the owner, 0700
        7.1/                     life 7, its first connection: tasks control results
        life-7.json              written under another name and renamed: names the folder of the latest connection

So a reader finds no record, the old one or the new one, never a partial one.  Connection numbers only rise, so a
folder's name never denotes two connections.
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
"""Removed meanwhile, a link, unreadable, or a socket: not a worker's record."""


class Rendezvous(msgspec.Struct, frozen=True, kw_only=True):
    """Location of one connection of one worker life."""

    folder: str
    """Full path of the folder that holds the FIFOs; the file holds its last part only, because a path need not be valid UTF-8."""
    pid: int
    ticks: int
    """Start time of the process (``proc_stat.start_ticks``): pid and ticks identify it, a pid alone does not."""
    life: int
    n: int
    """Number of the connection within the life, from 1."""


def folder_of(runtime: str | Path, life: int, n: int) -> Path:
    """Return the path of the folder of connection ``n`` of ``life``."""
    return Path(runtime) / f"{life}.{n}"


def publish(runtime: str | Path, place: Rendezvous) -> None:
    """Publish ``place`` for the controller; it replaces an earlier record of the same life.

    Not synced to disk: neither the runtime folder nor the FIFOs survive a reboot.
    """
    new = Path(runtime) / f".life-{place.life}.{place.n}"
    record = msgspec.structs.replace(place, folder=Path(place.folder).name)
    fd = open_private(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(fd, "wb") as file:
        file.write(msgspec.json.encode(record))
    new.rename(_record_of(runtime, place.life))


def scan(runtime: str | Path) -> list[Rendezvous]:
    """Return the latest record of every life, ordered by life.

    Files of other users, incomplete files and those whose content does not match their name are skipped: a worker
    publishes by rename and never leaves one.  A missing folder counts as empty.
    """
    places = (_read(Path(runtime), path) for path in Path(runtime).glob("life-*.json"))
    return sorted((place for place in places if place is not None), key=lambda place: place.life)


def remove(folder: str | Path) -> None:
    """Remove the folder of one connection, and its record when that still names it; missing files are ignored."""
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
        pass  # the other end removed it


def forget(runtime: str | Path, life: int) -> None:
    """Remove all files of a life that has ended, also those of a connection that it was killed while making."""
    for folder in Path(runtime).glob(f"{life}.*"):
        remove(folder)
    _record_of(runtime, life).unlink(missing_ok=True)
    for unfinished in Path(runtime).glob(f".life-{life}.*"):
        unfinished.unlink(missing_ok=True)


def traces(runtime: str | Path) -> set[int]:
    """Return the lives that have files here, also those killed before they published a record."""
    try:
        entries = os.listdir(runtime)
    except FileNotFoundError:
        return set()  # no folder: no files
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
        return None  # not JSON, not a record, or not text
    folder = folder_of(runtime, place.life, place.n)
    if record.name != f"life-{place.life}.json" or place.folder != folder.name:
        return None
    return msgspec.structs.replace(place, folder=str(folder))
