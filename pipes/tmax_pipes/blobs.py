"""Bodies that do not fit a frame, as files named by the SHA-256 of their content.

::

    put:  FOLDER/.new-RANDOM (O_EXCL, 0600) -> write -> fsync -> rename to FOLDER/DIGEST -> fsync FOLDER
          only then may a frame or a row name it
    get:  open (no link) -> private? -> size? -> digest? -> bytes

A reader of a name gets the whole body or a BlobError: an incomplete body never has a name.
The caller makes the folder, private, before the first call.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import time
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

from tmax_pipes.durable_files import sync
from tmax_pipes.jobs import BLOB_THRESHOLD_BYTES, Blob, Body
from tmax_pipes.pipe_errors import BlobError
from tmax_pipes.private import open_private

_HEX = frozenset("0123456789abcdef")
_UNFINISHED = ".new-"
_DAMAGED = "does not have the digest it is named by"


def put(folder: str | Path, data: bytes) -> Blob:
    """Store ``data`` durably and return its name.  A second call is harmless, and repairs a damaged file of that name.

    Raises OSError when the body cannot be written (full disk, missing folder).
    """
    folder = Path(folder)
    blob = Blob(digest=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    try:
        get(folder, blob)
        os.utime(folder / blob.digest)  # resets its age, so that a concurrent sweep keeps it
    except (BlobError, FileNotFoundError):
        _write(folder, blob.digest, data)
    sync(folder)
    return blob


def get(folder: str | Path, blob: Blob) -> bytes:
    """Return the body that ``blob`` names.

    Raises BlobError when it is missing, is not a private regular file of this user, or differs in size or digest.
    """
    path, fd = _open(folder, blob)
    with open(fd, "rb") as file:
        data = file.read()
    if hashlib.sha256(data).hexdigest() != blob.digest:
        raise BlobError(str(path), _DAMAGED)
    return data


def opened(folder: str | Path, blob: Blob) -> BinaryIO:
    """Return the body that ``blob`` names as an open file at offset 0, for callers that stream it.  Raises as ``get`` does."""
    path, fd = _open(folder, blob)
    file = open(fd, "rb")  # noqa: SIM115 - the caller closes it
    try:
        if hashlib.file_digest(file, "sha256").hexdigest() != blob.digest:
            raise BlobError(str(path), _DAMAGED)
        file.seek(0)
    except BaseException:  # close the descriptor on any exception
        file.close()
        raise
    return file


def _open(folder: str | Path, blob: Blob) -> tuple[Path, int]:
    """Return the path of a body and a descriptor to read it, with everything checked but its digest."""
    path = Path(folder) / blob.digest
    if len(blob.digest) != 64 or not _HEX.issuperset(blob.digest):
        # The name comes from a frame and must not lead outside the folder.
        raise BlobError(repr(blob.digest), "is not a SHA-256 in hexadecimal")
    try:
        # O_NONBLOCK: opening a FIFO of this name must not block.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BlobError(str(path), error.strerror or "cannot be opened") from error
    try:
        _check(path, os.fstat(fd), blob)
    except BaseException:  # as above
        os.close(fd)
        raise
    return path, fd


def body_of(folder: str | Path, data: bytes) -> Body:
    """Return ``data`` itself when it fits a frame (at most BLOB_THRESHOLD_BYTES), else store it and return its name."""
    return data if len(data) <= BLOB_THRESHOLD_BYTES else put(folder, data)


def load(folder: str | Path, body: Body) -> bytes:
    """Return the bytes of a body, from the frame or from its file.  Raises as ``get`` does."""
    return get(folder, body) if isinstance(body, Blob) else body


def sweep(folder: str | Path, keep: Collection[str], *, min_age_s: float = 3600.0) -> int:
    """Remove the bodies whose digest is not in ``keep``, and unfinished ones; return the number of files removed.

    Files younger than ``min_age_s`` (by the file system's clock) stay, because a body is written before the row that
    names it.  Files with other names are not touched.  A missing folder counts as empty.
    """
    kept = keep if isinstance(keep, (set, frozenset, dict)) else frozenset(keep)
    oldest = time.time() - min_age_s
    count = 0
    for path in Path(folder).glob("*"):
        name = path.name
        ours = name.startswith(_UNFINISHED) or (len(name) == 64 and _HEX.issuperset(name))
        if ours and name not in kept and _removed_if_older(path, oldest):
            count += 1
    return count


def _removed_if_older(path: Path, oldest: float) -> bool:
    try:
        if path.lstat().st_mtime > oldest:
            return False
        path.unlink()
    except FileNotFoundError:
        return False  # another process removed it
    return True


def _check(path: Path, found: os.stat_result, blob: Blob) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise BlobError(str(path), "is not a regular file")
    if found.st_uid != os.geteuid():
        raise BlobError(str(path), f"belongs to another user (uid {found.st_uid})")
    if found.st_mode & 0o077:
        raise BlobError(str(path), f"is open to others (mode {stat.S_IMODE(found.st_mode):04o})")
    if found.st_size != blob.size_bytes:
        raise BlobError(str(path), f"has {found.st_size} bytes, {blob.size_bytes} were named")


def _write(folder: Path, digest: str, data: bytes) -> None:
    new = folder / f"{_UNFINISHED}{secrets.token_hex(8)}"
    fd = open_private(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(fd)
        new.rename(folder / digest)
    except BaseException:  # on a full disk above all: free its space at once
        new.unlink(missing_ok=True)
        raise
