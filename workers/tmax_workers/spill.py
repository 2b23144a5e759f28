"""Files for the results of a worker that has to leave before they are stored.

worker: STATE/life-17.results (0600, frames) written, synced, renamed  -->  controller: read(STATE, 17) -> [Done | Failed]

They are in the state folder, because the runtime folder may be removed while no controller runs.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from tmax_pipes.durable_files import atomic_write
from tmax_pipes.frame import Decoder, encode_many
from tmax_pipes.messages import Done, Failed
from tmax_pipes.pipe_errors import FrameError


def path_of(state: str, life: int) -> str:
    """Return where the results of ``life`` are spilled."""
    return f"{state}/life-{life}.results"


def write(state: str, life: int, results: Sequence[Done | Failed]) -> None:
    """Keep ``results`` for the next controller.  Raises OSError when they cannot be written."""
    atomic_write(path_of(state, life), encode_many(results, 0))


def read(state: str, life: int) -> list[Done | Failed]:
    """Return the spilled results of ``life``; an empty list when there is no file, or when it is incomplete or not private."""
    try:
        fd = os.open(path_of(state, life), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    with open(fd, "rb") as file:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or found.st_mode & 0o077:
            return []
        try:
            decoded = Decoder("from_worker").feed(file.read())
        except FrameError:
            return []
    return [message for _, message in decoded if isinstance(message, (Done, Failed))]


def forget_others(state: str, lives: Collection[int]) -> None:
    """Remove the files of all other lives than these: their ends, and so their results, are stored."""
    for path in Path(state).glob("life-*.results"):
        number = path.stem.removeprefix("life-")
        if not number.isdigit() or int(number) not in lives:
            path.unlink(missing_ok=True)
