"""The file ``created``: it records that a store was made, and the generation that the store must have at least.

SQLite takes a missing or empty file for a new database, and a missing ``-wal`` for one that was closed well:
in both cases tasks would be lost silently. So each period between two checkpoints has a number, its
generation. The first commit of a period writes the number into the database; then it is claimed here; then
the commit is acknowledged:

    commit (generation 8, in the log) -> claim 8 -> acknowledge ... checkpoint -> commit (generation 9) -> claim 9 ...

A store whose generation is lower than the claim has lost its log, or is an older copy. The reverse cannot
happen by accident: closing, a checkpoint by hand, or a crash at any point leaves the database at or above the claim.
"""

from __future__ import annotations

import os

from tmax_pipes.durable_files import atomic_write

_TEXT = b"tmax store, generation %020d\n"
_LENGTH = len(_TEXT % 0)


class GenerationMarker:
    """The claimed generation of one store, in the file at ``path``."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> int | None:
        """Return the claimed generation; None: no store was ever made. A malformed file claims 0. Raises OSError."""
        try:
            with open(self.path, "rb") as file:
                data = file.read(_LENGTH + 1)
        except FileNotFoundError:
            return None
        number = data[-21:-1]
        return int(number) if len(data) == _LENGTH and number.isdigit() else 0

    def claim(self, generation: int) -> None:
        """Make the claim durable. Raises OSError.

        It overwrites an existing file in place, which needs no space; so few bytes are written atomically.
        """
        data = _TEXT % generation
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            atomic_write(self.path, data)
            return
        try:
            os.pwrite(descriptor, data, 0)
            os.ftruncate(descriptor, _LENGTH)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
