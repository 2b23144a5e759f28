"""Private files and folders, whatever the umask: a task or a client may run with one that removes the owner's own bits."""

from __future__ import annotations

import os
import stat
from os import chmod, close, fchmod, fstat, mkdir  # by value: a task may replace the functions of ``os``
from os import open as open_fd

_OWNER = stat.S_IRUSR | stat.S_IWUSR


def open_private(path: str | os.PathLike[str], flags: int) -> int:
    """Open ``path`` and return its descriptor; a file that is created gets mode 0600.  Raises OSError."""
    fd = open_fd(path, flags, 0o600)
    try:
        mode = stat.S_IMODE(fstat(fd).st_mode)
        if mode & _OWNER != _OWNER:
            fchmod(fd, mode | _OWNER)
    except BaseException:  # close the descriptor on any exception
        close(fd)
        raise
    return fd


def make_private(path: str | os.PathLike[str]) -> None:
    """Make a folder of mode 0700.  Raises FileExistsError, OSError."""
    mkdir(path, 0o700)
    chmod(path, 0o700)
