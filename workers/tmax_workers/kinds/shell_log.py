"""The log of one program: a file from the first byte on, removed at the end when the output fits the report.

::

    LOGS/12.log       stdout and stderr as they came
    LOGS/12.stderr    which parts of it are stderr: offset and length, 8 bytes each; only with two pipes

A part's record is written before the part, so a reader that reads the log first and the records afterwards can attribute each byte.
"""

from __future__ import annotations

import errno
import os
import struct

from tmax_pipes.durable_files import write_all
from tmax_pipes.messages import TAIL_BYTES
from tmax_pipes.private import open_private

PART = struct.Struct("<QQ")  # little-endian on every machine
"""Offset and length of a part of the log that is stderr."""
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class ShellLog:
    """Writes the two files.  ``parts``: whether stderr is recorded separately."""

    def __init__(self, path: str, *, parts: bool) -> None:
        self._path = path
        self._index_path = f"{path.removesuffix('.log')}.stderr" if parts else ""
        self._fd = -1
        self._index_fd = -1
        self._earlier = False
        self._at = 0
        self._size_bytes = 0
        self._tail = bytearray()
        self._spans: list[tuple[int, int]] = []
        self.lost_bytes = 0
        """Output that the log could not take.  The program is not affected; the report carries the number."""

    def write(self, data: bytes, *, stderr: bool = False) -> None:
        """Append output.  Raises OSError, except for a full disk or a size limit, which ``lost_bytes`` counts."""
        if self._size_bytes + len(data) <= TAIL_BYTES:
            if stderr:
                self._note_span(len(self._tail), len(data))
            self._tail += data
        self._size_bytes += len(data)
        before = self._at
        try:
            if self._fd < 0:
                self._open()
                before = self._at
            if stderr and self._index_path:
                self._write_part(data)
            else:
                self._write(data)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            self.lost_bytes += len(data) - (self._at - before)

    def finish(self) -> tuple[int, bytes, tuple[tuple[int, int], ...]]:
        """Close the log and return (size, output, stderr parts); the latter two are empty when the log file stays: long output, or an earlier attempt's log."""
        fits = self._size_bytes <= TAIL_BYTES and not self._earlier
        if self._fd >= 0 and fits:
            # In this order: a follower that still finds the log must find its stderr parts.
            os.unlink(self._path)
            if self._index_fd >= 0:
                os.unlink(self._index_path)
        self.close()
        if fits:
            self.lost_bytes = 0
        return (self._size_bytes, bytes(self._tail), tuple(self._spans)) if fits else (self._size_bytes, b"", ())

    def close(self) -> None:
        """Close the files; a second call is harmless."""
        for fd in (self._fd, self._index_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._index_fd = -1

    def _open(self) -> None:
        fd = open_private(self._path, _FLAGS)
        self._at = os.fstat(fd).st_size
        self._earlier = self._at > 0
        if self._index_path and not self._earlier:
            try:
                os.unlink(self._index_path)  # of an attempt whose worker died between the two removals
            except FileNotFoundError:
                pass  # the usual case
        self._fd = fd

    def _write_part(self, data: bytes) -> None:
        if self._index_fd < 0:
            self._index_fd = open_private(self._index_path, _FLAGS)
        known = os.fstat(self._index_fd).st_size
        before = self._at
        try:
            write_all(self._index_fd, PART.pack(before, len(data)))
            self._write(data)
        except OSError:
            # The bytes that follow at this offset may not be stderr.
            os.ftruncate(self._index_fd, known)
            if self._at > before:
                write_all(self._index_fd, PART.pack(before, self._at - before))
            raise

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            count = os.write(self._fd, view)
            self._at += count
            view = view[count:]

    def _note_span(self, at: int, length: int) -> None:
        if self._spans and sum(self._spans[-1]) == at:
            before, known = self._spans[-1]
            self._spans[-1] = before, known + length
        else:
            self._spans.append((at, length))
