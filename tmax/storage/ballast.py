"""Space reserved for a full disk.

SQLite cannot even delete a row once the disk is full. So 16 MiB are reserved in a file:

    disk full -> the file is removed -> results of running tasks still fit, new tasks are refused (``Store.full``)
    space again (four times its size) -> the file is made again -> new tasks are accepted

The blocks are allocated: a sparse file would reserve nothing.
"""

from __future__ import annotations

import errno
import os

SPACE_FACTOR = 4
"""Free space, in multiples of the ballast, from which on a ballast is made: 64 MiB for the usual 16."""
MIN_FREE_BYTES = 1024 * 1024
"""Free space that suffices where no ballast is configured."""
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


class Ballast:
    """The reserved file of ``size_bytes`` at ``path``."""

    def __init__(self, path: str, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes

    @property
    def held(self) -> bool:
        """True when all of the space is reserved."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return False
        return found.st_size == self.size_bytes and found.st_blocks * 512 >= self.size_bytes

    @property
    def has_space(self) -> bool:
        """True when the free space is at least four times the ballast."""
        found = os.statvfs(os.path.dirname(self.path) or ".")
        return found.f_bavail * found.f_frsize >= max(SPACE_FACTOR * self.size_bytes, MIN_FREE_BYTES)

    def hold(self) -> bool:
        """Reserve the space if there is enough; return whether new tasks may be accepted.

        Space already reserved counts, whatever else is free. Raises OSError, except for a disk that fills up meanwhile.
        """
        if not self.size_bytes:
            self.release()
            return self.has_space
        return self.held or (self.has_space and self._make())

    def release(self) -> None:
        """Free the reserved space, if any."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass

    def _make(self) -> bool:
        self.release()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self.size_bytes)
        except OSError as error:
            self.release()
            if error.errno not in NO_SPACE:
                raise
            return False
        finally:
            os.close(descriptor)
        return True
