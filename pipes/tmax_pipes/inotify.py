"""The kernel's word that a file changed, so that nothing here polls.  Linux, by ctypes: the standard library has no inotify.

    watch(path, mask) -> number      epoll says fd is readable -> read() -> [(number, mask, name)]
    FolderWatch: one folder through its removal and its return

A user may have 128 instances by default (``fs.inotify.max_user_instances``); when none is left ``fd`` is -1 and
whoever wanted to be woken looks from time to time instead.
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

    def unwatch(self, number: int) -> None:
        """Stop watching; a number whose watch has ended by itself is no error."""
        if self.fd >= 0:
            self._libc.inotify_rm_watch(self.fd, number)

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


class FolderWatch:
    """Watches a folder, also while it does not exist, and through its removal.

    ::

        /run, /run/tmax     moved or removed?
        /run/tmax/default   the same, and ``mask``: what matters inside it

    While the folder is missing, the entries of the nearest one above it that exists are watched.  A folder that some process has
    open is reported as removed only when it is closed: ``mask`` has to show that its entries go.  After each event that
    ``concerns`` this watch, call ``arm``: watches follow folders, not their names.  One to an instance: the kernel keeps one
    mask for a folder and an instance.
    """

    def __init__(self, inotify: Inotify, path: str, mask: int) -> None:
        """``path``: absolute.  A link in its place counts as missing."""
        self._inotify = inotify
        self._path = path
        self._mask = mask
        self._numbers: set[int] = set()

    def arm(self) -> bool:
        """Watch what is there now; return whether the folder itself is watched.  Whoever wants to know more looks after this."""
        is_there, found = self._watch_all()
        while not is_there:
            # A folder may have been made before the one above it was watched: stop when nothing new is found.
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
        """Return whether one of these events is of this watch."""
        return any(number in self._numbers for number, _, _ in events)
