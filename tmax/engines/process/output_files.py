"""What worker processes print, one file for each life: bounded while the worker works, kept for the last few that ended.

Tasks have logs of their own, which are whole; this is what a pane would show.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections import deque

from tmax.engines.host import DEAD_KEPT
from tmax.layout import private_folder

LOG = logging.getLogger("tmax.engines")

LIMIT_BYTES = 8 * 1024 * 1024
"""A longer file is cut to its last KEPT_BYTES."""
KEPT_BYTES = 1024 * 1024
_LINE_BYTES = 1024
"""So many bytes are read for each line wanted."""


class OutputFiles:
    """The files of one swarm, ``FOLDER/LIFE.log``."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._dead: deque[int] = deque()

    def open(self) -> None:
        """Make the folder.  Raises FolderError."""
        private_folder(self._folder)

    def path_of(self, life: int) -> str:
        """Return the path of the file of this life, which need not exist."""
        return f"{self._folder}/{life}.log"

    def create(self, life: int) -> int:
        """Return a descriptor to append to; on a full disk, or where the folder was removed, to nowhere: a worker matters more."""
        try:
            return os.open(self.path_of(life), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            LOG.warning("life %d: what its process prints is lost: %s", life, error)
            return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    def trim(self, life: int) -> None:
        """Cut a file that has become too long to its end.  The worker appends, so nothing changes for it."""
        try:
            fd = os.open(self.path_of(life), os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return  # it never was there, or was removed
        try:
            size = os.fstat(fd).st_size
            if size > LIMIT_BYTES:
                kept = os.pread(fd, KEPT_BYTES, size - KEPT_BYTES)
                os.ftruncate(fd, 0)  # what is printed between these lines is lost; the tasks' own logs have it
                os.write(fd, kept[kept.find(b"\n") + 1 :])
        except OSError as error:
            LOG.warning("life %d: its output file cannot be cut: %s", life, error)
        finally:
            os.close(fd)

    def last_lines(self, life: int, lines: int) -> str:
        """Return the last lines of a file; empty when it does not exist."""
        try:
            with open(self.path_of(life), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(0, size - lines * _LINE_BYTES))
                return b"\n".join(file.read().splitlines()[-lines:]).decode("utf-8", "replace")
        except OSError:
            return ""

    def retire(self, life: int) -> None:
        """This life has ended: its file is kept until DEAD_KEPT others have ended."""
        if life not in self._dead:
            self._dead.append(life)
        while len(self._dead) > DEAD_KEPT:
            self._unlink(self._dead.popleft())

    def retire_others(self, known: set[int]) -> None:
        """Retire whatever lies there and is of no life in ``known``, the oldest first."""
        names = (name.removesuffix(".log") for name in os.listdir(self._folder))
        for life in sorted(int(name) for name in names if name.isdigit()):
            if life not in known:
                self.retire(life)

    def _unlink(self, life: int) -> None:
        try:
            os.unlink(self.path_of(life))
        except OSError:
            pass  # it never was there, or was removed

    def remove(self) -> None:
        """Remove the folder with all files; twice is harmless."""
        shutil.rmtree(self._folder, ignore_errors=True)
