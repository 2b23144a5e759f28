"""Where this program finds its modules, in the form in which a worker can search the same places in the same order.

::

    sys.path --> absolute entries, STDLIB once in the place of the standard library, site-packages behind it as here
             --> + folders of modules that were imported from where sys.path no longer leads (an os.chdir, a changed sys.path)

What cannot be found by its name that way (made at run time, hidden by another module of its name) is ``lost``: it travels by value.
"""

from __future__ import annotations

import _thread
import os
import sys
import sysconfig
import zipimport
from functools import cache
from importlib.machinery import BuiltinImporter, FileFinder, FrozenImporter, ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from tmax_pipes.jobs import STDLIB

_STANDARD_FINDERS: tuple[Any, ...] = (BuiltinImporter, FrozenImporter, PathFinder)
_MAINS = frozenset({"__main__", "__mp_main__"})


class SearchPath:
    """This process's order of search; every answer is computed again only when what it depends on has changed.  Any thread may use it."""

    def __init__(self) -> None:
        self._lock = _thread.RLock()
        self._extras_of: tuple[str, ...] | None = None
        self._extras: tuple[str, ...] = ()
        self._ordered_of: list[str] = []
        self._has_relative = False
        self._cwd = ""
        self._modules = -1
        self._base: tuple[str, ...] = ()
        self._ordered: tuple[str, ...] = ()
        self._strays: tuple[str, ...] = ()
        self._lost: set[str] = set()
        self._judged: dict[str, ModuleType] = {}

    def extras(self) -> tuple[str, ...]:
        """Return the entries that a worker cannot know (not the interpreter's own, not installed packages), absolute."""
        with self._lock:
            self._update()
            if self._extras_of is not self._ordered:
                self._extras_of = self._ordered
                own = tuple({os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix), sys.prefix, sys.base_prefix})
                extras = (os.path.abspath(entry) for entry in self._ordered_of)
                found = [entry for entry in extras if entry.isprintable() and not _below(entry, own)]
                self._extras = tuple(dict.fromkeys((*found, *self._strays)))
            return self._extras

    def ordered(self) -> tuple[str, ...]:
        """Return the whole order of search: absolute entries, ``STDLIB`` once, then folders that only imported modules lead to."""
        with self._lock:
            self._update()
            return self._ordered

    def lost(self) -> set[str]:
        """Return the names of imported modules that a search of ``ordered`` does not lead to: they must travel by value."""
        with self._lock:
            self._update()
            return self._lost.copy() if self._lost else self._lost

    def _update(self) -> None:
        count = len(sys.modules)
        same = sys.path == self._ordered_of and not (self._has_relative and _cwd() != self._cwd)
        if same and count == self._modules:
            return
        if not same:
            self._ordered_of = list(sys.path)
            self._has_relative = any(not str(entry).startswith("/") for entry in self._ordered_of)
            self._cwd = _cwd()
            self._base = _ordered(self._ordered_of, self._cwd)
            self._ordered = self._base
            self._lost, self._judged, self._strays = set(), {}, ()
        self._modules = count
        self._judge()

    def _judge(self) -> None:
        """Look at every module of the program's own that was not looked at yet; those below a parent come after it."""
        known = self._judged
        for name, module in sorted(sys.modules.copy().items()):
            if known.get(name) is module or not isinstance(module, ModuleType):
                continue
            known[name] = module
            self._lost.discard(name)
            if name not in _MAINS and _is_of_the_program(name, module) and not self._is_findable(name, module):
                self._lost.add(name)

    def _is_findable(self, name: str, module: ModuleType) -> bool:
        parent, _, _ = name.rpartition(".")
        if parent:
            above = sys.modules.get(parent)
            path = list(getattr(above, "__path__", ()))
            return parent not in self._lost and _is_same(module, _spec(name, path))
        if name in sys.stdlib_module_names:
            return False  # a worker has the standard library's under that name already
        found = _spec(name, _expanded(self._ordered))
        if found is None:
            root = _root_of(name, module)
            if root and _is_same(module, _spec(name, [root])):
                self._ordered = (*self._ordered, root)
                self._strays = (*self._strays, root)
                return True
        return _is_same(module, found)


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:
        return ""  # it was removed: nothing is found in it


def _ordered(entries: list[Any], cwd: str) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for entry in entries:
        if not isinstance(entry, str):
            continue  # as the import system does
        if entry in _standard():
            found[STDLIB] = None
        elif _is_hooked(entry):
            found[entry] = None
        elif entry.startswith("/") or cwd:
            found[os.path.normpath(os.path.join(cwd, entry)) if not entry.startswith("/") else entry] = None
    found = {entry: None for entry in found if _can_travel(entry)}
    return tuple(found) if STDLIB in found else (*found, STDLIB)


def _can_travel(entry: str) -> bool:
    """Whether a frame can carry it; what lies behind another entry travels by value."""
    try:
        entry.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in entry


def _is_hooked(entry: str) -> bool:
    """Whether a path hook of some package gives this entry its meaning (editable installs do so): it is no folder."""
    finder = sys.path_importer_cache.get(entry)
    return finder is not None and not isinstance(finder, FileFinder | zipimport.zipimporter)


@cache
def _standard() -> tuple[str, ...]:
    """Every spelling of the entries that are the interpreter's own library."""
    paths = sysconfig.get_paths()
    folders = {paths["stdlib"], paths["platstdlib"], os.path.dirname(os.__file__)}
    folders |= {os.path.realpath(folder) for folder in folders}
    version = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
    zips = {f"{os.path.dirname(folder)}/{version}" for folder in folders}
    return tuple(folders | {f"{folder}/lib-dynload" for folder in folders} | zips)


@cache
def _installed() -> tuple[str, ...]:
    """Folders whose modules every worker finds as we do."""
    paths = sysconfig.get_paths()
    folders = {*_standard(), paths["purelib"], paths["platlib"]}
    return tuple(f"{folder}/" for folder in folders | {os.path.realpath(folder) for folder in folders})


def _is_of_the_program(name: str, module: ModuleType) -> bool:
    """Whether it has to be looked for: neither built in, nor of the library, nor installed, nor made by a module that is."""
    file = getattr(module, "__file__", None)
    if isinstance(file, str) and file.startswith("/"):
        return not file.startswith(_installed())
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or type(module) is not ModuleType:
        return False
    if top != name:
        above = getattr(sys.modules.get(top), "__file__", None)
        return not (isinstance(above, str) and above.startswith(_installed()))
    path = [str(entry) for entry in getattr(module, "__path__", ())]
    return not (path and all(entry.startswith(_installed()) for entry in path))


def _expanded(entries: tuple[str, ...]) -> list[str]:
    at = entries.index(STDLIB)
    return [*entries[:at], *_standard(), *entries[at + 1 :]]


def _spec(name: str, path: list[str]) -> ModuleSpec | None:
    """Return what a search of ``path`` finds, or else what another finder of the program's does (editable installs)."""
    try:
        found = PathFinder.find_spec(name, path)
    except Exception:  # a foreign hook may raise anything
        found = None
    finders: list[Any] = [] if found else list(sys.meta_path)
    for finder in finders:
        if finder in {BuiltinImporter, FrozenImporter, PathFinder} or not type(finder).__module__.startswith(
            ("__editable__", "_distutils")
        ):
            continue
        try:
            found = found or finder.find_spec(name, path)
        except Exception:  # as above
            continue
    return found


def _is_same(module: ModuleType, found: ModuleSpec | None) -> bool:
    """Whether this is what was imported; a package without a file of its own is known by its folders."""
    if found is None:
        return False
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return found.origin is None and set(getattr(module, "__path__", ())) <= set(found.submodule_search_locations or ())
    return found.origin is not None and (found.origin == file or os.path.realpath(found.origin) == os.path.realpath(file))


def _root_of(name: str, module: ModuleType) -> str:
    """The folder that, searched for ``name``, should give this module; empty when there is none."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        path = [str(entry) for entry in getattr(module, "__path__", ())]
        return os.path.dirname(path[0]) if len(path) == 1 else ""
    folder, base = os.path.split(os.path.abspath(file))
    if base.partition(".")[0] == "__init__":
        folder, base = os.path.split(folder)
    return folder if base.partition(".")[0] == name and _can_travel(folder) else ""


def _below(entry: str, folders: tuple[str, ...]) -> bool:
    """Return whether this is a library folder of the interpreter itself."""
    return any(entry.startswith(f"{folder}/lib") for folder in folders)
