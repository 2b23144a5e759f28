"""Detects user modules that changed on disk after their import.

A task's function is pickled by reference when its module can be imported, so a warm worker would run the version it
imported first.  Reloading in place keeps old classes and closures alive, so the worker is replaced instead.

    after imports: note the time and size of each new user module's file  ->  before a task: one stat a user module

User modules are those with a source file outside the interpreter, site-packages and tmax itself.
"""

from __future__ import annotations

import functools
import os
import struct
import sys
import sysconfig
from time import time_ns
from types import ModuleType

_ALWAYS: tuple[int, int] = (-1, -1)
_PYC_HEAD = struct.Struct("<4sIII")
_TICK_NS = 100_000_000
"""Resolution of the clock of file systems, which is coarser than ours."""
_BEGAN_NS = time_ns()
"""Before this process has imported any user module."""


class SourceFiles:
    """The source files behind the user modules of this process."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._count = -1
        self._noted_ns = _BEGAN_NS
        self._versions: dict[str, tuple[int, int]] = {}
        self._others = _folders_of_others()

    def note(self) -> None:
        """Remember the modules imported since the last call.  Costs nothing when none was."""
        since_ns, self._noted_ns = self._noted_ns, time_ns()
        if len(sys.modules) == self._count:
            return
        modules = list(sys.modules.items())
        self._count = len(modules)
        for name, module in modules:
            if name not in self._known:
                self._known.add(name)
                self._note_one(module, since_ns)

    def changed(self) -> list[str]:
        """Return the files that changed after their import.  A missing file counts as unchanged, because editors replace by rename."""
        found = []
        for path, version in list(self._versions.items()):
            now = _version_of(path)
            if now is not None and now != version:
                found.append(path)
        return found

    def _note_one(self, module: ModuleType, since_ns: int) -> None:
        path = getattr(module, "__file__", None)
        if (
            not isinstance(path, str)
            or not path.endswith(".py")
            or path.startswith(self._others)
            or "/site-packages/" in path
            or "/dist-packages/" in path
        ):
            return
        version = _version_of(path)
        if version is not None:
            self._versions[path] = version if _is_as_imported(module, path, since_ns) else _ALWAYS


@functools.cache
def sources() -> SourceFiles:
    """Return the instance of this process.  A forked worker keeps its parent's: reading two thousand modules again would copy
    their pages, 9 MB for each worker.
    """
    return SourceFiles()


def _version_of(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size)


def _is_as_imported(module: ModuleType, path: str, since_ns: int) -> bool:
    """Whether the file is still the one that was imported after ``since_ns``: it may have been edited since its import.

    A file unchanged since then is.  For others the compiled file holds the time and size of the imported source, unless compiled files
    are not written (PYTHONDONTWRITEBYTECODE, a read-only folder) and it is older.  Without a compiled file: True.
    """
    cached = getattr(getattr(module, "__spec__", None), "cached", None)
    if not isinstance(cached, str):
        return True
    try:
        with open(cached, "rb") as file:
            _, flags, time_s, size_bytes = _PYC_HEAD.unpack(file.read(_PYC_HEAD.size))
        found = os.stat(path)
    except (OSError, struct.error):
        return True
    if found.st_ctime_ns < since_ns - _TICK_NS:
        return True
    # Flags other than 0: validated by hash, so it holds no time.
    return flags != 0 or (time_s, size_bytes) == (int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)


def _folders_of_others() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    folders = {sys.prefix, sys.base_prefix, *(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))}
    for name in ("tmax_workers", "tmax_pipes"):
        file = getattr(sys.modules.get(name), "__file__", None)
        folders.add(os.path.dirname(file) if file else "")
    return tuple(f"{folder}{os.sep}" for folder in folders if folder)
