"""Linux's inotify through ctypes, so that no code polls files: the standard library has none.

    watch(path, mask) -> number      epoll reports fd readable -> read() -> [(number, mask, name)]
    FolderWatch: one folder through its removal and its return

A user may have 128 instances by default (``fs.inotify.max_user_instances``); when none is left ``fd`` is -1
and the caller must poll instead.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable

IN_MODIFY = 0x2
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_ONLYDIR = 0x1000000
IN_DONT_FOLLOW = 0x2000000

_GONE = IN_DELETE_SELF | IN_MOVE_SELF
_ENTRIES = IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_MOVED_FROM
_HEAD = struct.Struct("iIII")


class Inotify:
    """One inotify instance.  The end of the process closes it as well."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)

    def watch(self, path: str, mask: int) -> int:
        """Begin to watch ``path``; return the watch descriptor that its events carry, -1 when it cannot be watched."""
        if self.fd < 0:
            return -1
        number: int = self._libc.inotify_add_watch(self.fd, os.fsencode(path), mask)
        return number

    def unwatch(self, number: int) -> None:
        """Stop watching; a watch that has ended by itself is no error."""
        if self.fd >= 0:
            self._libc.inotify_rm_watch(self.fd, number)

    def read(self) -> list[tuple[int, int, str]]:
        """Return (watch descriptor, mask, name) of each event since the last call; never blocks."""
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
        """Stop watching; a second call is harmless."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class FolderWatch:
    """Watches a folder, also while it does not exist, and through its removal.

    ::

        /run, /run/tmax     moved or removed?
        /run/tmax/default   the same, and the events in ``mask``

    While the folder is missing, the entries of its nearest existing parent are watched.  A folder that a process holds open is
    reported as removed only when that process closes it, so ``mask`` should cover the removal of its entries.  After each event
    that ``concerns`` this watch, call ``arm``: a watch follows the folder, not its name.  Use one FolderWatch for each Inotify:
    the kernel keeps one mask for each folder and instance.
    """

    def __init__(self, inotify: Inotify, path: str, mask: int) -> None:
        """``path``: absolute.  A symbolic link counts as missing."""
        self._inotify = inotify
        self._path = path
        self._mask = mask
        self._numbers: set[int] = set()

    def arm(self) -> bool:
        """Watch what exists now; return whether the folder itself is watched.  Inspect the folder after this call, not before."""
        is_there, found = self._watch_all()
        while not is_there:
            # A folder may be made before its parent is watched: repeat until nothing new is found.
            before = found
            is_there, found = self._watch_all()
            if found == before:
                break
        for number in self._numbers - found:
            self._inotify.unwatch(number)
        self._numbers = found
        return is_there

    def _watch_all(self) -> tuple[bool, set[int]]:
        found: set[int] = set()
        is_there = self._add(found, self._path, self._mask | _GONE | IN_DONT_FOLLOW)
        at, mask = self._path, _GONE if is_there else _ENTRIES | _GONE
        while at != "/":
            at = os.path.dirname(at)
            if self._add(found, at, mask):
                mask = _GONE
        return is_there, found

    def _add(self, found: set[int], path: str, mask: int) -> bool:
        number = self._inotify.watch(path, mask | IN_ONLYDIR)
        if number >= 0:
            found.add(number)
        return number >= 0

    def concerns(self, events: Iterable[tuple[int, int, str]]) -> bool:
        """Return whether one of these events belongs to this watch."""
        return any(number in self._numbers for number, _, _ in events)
