"""Durable writes: after a power cut, as for any reader, a file has its old content or its new content and never a part of it.

    temp file in the same folder (O_EXCL, 0600) -> write -> fsync -> rename -> fsync of the folder

Every small file that must survive (settings, records, spilled results) is written here.
"""

from __future__ import annotations

import os
import secrets


def atomic_write(path: str, data: bytes, mode: int = 0o600) -> None:
    """Put ``data`` at ``path``, whole and durable, replacing what is there.

    The file gets ``mode`` whatever the umask. A link at ``path`` is replaced, not followed.
    Raises OSError; then ``path`` is as it was and the temp file is gone.
    """
    folder = os.path.dirname(path) or "."
    temp = os.path.join(folder, f".{os.path.basename(path)}.{secrets.token_hex(6)}")
    descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        try:
            os.fchmod(descriptor, mode)
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temp, path)
    except BaseException:  # any, Ctrl-C too: the unfinished file must not stay; raised again
        os.unlink(temp)
        raise
    sync(folder)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data`` to a blocking descriptor, in several writes if necessary. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync(path: str | os.PathLike[str]) -> None:
    """Flush a file's content, or a folder's entries, to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
