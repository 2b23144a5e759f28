"""The kernel's word that a file changed, so that nothing here polls.  Linux, by ctypes: the standard library has no inotify.

    watch(path, mask) -> number      epoll says fd is readable -> read() -> [(number, mask, name)]

A user may have 128 instances by default (``fs.inotify.max_user_instances``); when none is left ``fd`` is -1 and
whoever wanted to be woken looks from time to time instead.
"""

from __future__ import annotations

import ctypes
import os
import struct

IN_MODIFY = 0x2
IN_MOVED_TO = 0x80
IN_CREATE = 0x100

_HEAD = struct.Struct("iIII")


class Inotify:
    """One inotify instance; close it once, or leave it to the process's end."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)

    def watch(self, path: str, mask: int) -> int:
        """Begin to watch ``path``; return the number its events carry, -1 when it cannot be watched."""
        if self.fd < 0:
            return -1
        number: int = self._libc.inotify_add_watch(self.fd, os.fsencode(path), mask)
        return number

    def read(self) -> list[tuple[int, int, str]]:
        """Return (number, mask, name) of what happened since the last call; never blocks."""
        try:
            data = os.read(self.fd, 64 * 1024)
        except BlockingIOError:
            return []
        found, at = [], 0
        while at < len(data):
            number, mask, _, size = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            found.append((number, mask, os.fsdecode(data[at : at + size].rstrip(b"\0"))))
            at += size
        return found

    def close(self) -> None:
        """Stop watching; twice is harmless."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
