"""The context of this process: search path, main module and initializer of one program, applied once.

::

    first Python task --> its Context --> sys.path in the submitter's order --> forget the modules that it hides
                                      --> main module --> initializer --> no task of another context afterwards

The state machine gives back tasks of other contexts (``AcceptedTasks``), so a process applies one context at most.

The submitter's search path precedes the worker's own.  What the worker itself needs is imported by then; its own folders stay at
the end of the path for later imports.
"""

from __future__ import annotations

import importlib
import os
import pickle
import sys
import sysconfig
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from types import ModuleType

from tmax_pipes import blobs, rebuild
from tmax_pipes.jobs import STDLIB, Body, Context, PythonJob, decode_context
from tmax_workers.cancel import TaskCancelled

_NEEDED = frozenset(
    {"__main__", "_collections_abc", "abc", "codecs", "encodings", "genericpath", "importlib", "io", "msgspec", "os", "posixpath", "runpy", "site",
     "stat", "sys", "tmax_pipes", "tmax_workers", "zipimport"}
)  # fmt: skip
"""Never forgotten: modules that an interpreter imports before it searches a program's folder, and the worker's own."""


class InitializerRaised(Exception):
    """The initializer of a context raised; ``__cause__`` is what it raised."""


class NeedsBareProcess(Exception):
    """Extension modules that were preloaded are hidden by the submitter's own; they cannot be loaded twice in one process.

    ``modules``: their names.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self.modules = tuple(modules)
        super().__init__(", ".join(modules))


class ProcessContext:
    """The context of this process; main thread only."""

    def __init__(self, blob_folder: str) -> None:
        self._blobs = blob_folder
        self._own_path = list(sys.path)
        self._taken: Body | tuple[str, ...] | None = None
        self.context = Context()
        self.tasks = 0
        """Number of Python tasks of this context that ran here."""
        self.failed = False
        """Applying it failed, because its initializer raised or was cancelled: nothing more may run here."""

    def enter(self, job: PythonJob) -> bool:
        """Apply the job's context, unless it is applied already; return whether this call applied it.

        Raises InitializerRaised, NeedsBareProcess, BlobError; msgspec.MsgspecError for a context of another version.
        """
        wanted = job.context or job.path
        if not wanted:
            return False
        self.tasks += 1
        if wanted == self._taken:
            return False
        context = context_of(job, self._blobs)
        try:
            self._take(context)
        except NeedsBareProcess:
            raise  # nothing was begun
        except BaseException:
            self.failed = True  # also after a cancellation: a partly applied context is not applied again
            raise
        self._taken = wanted
        return True

    @property
    def is_spent(self) -> bool:
        """Whether no more tasks may run here: the context's limit of tasks is reached, or its initializer raised."""
        return self.failed or 0 < self.context.max_tasks <= self.tasks

    def _take(self, context: Context) -> None:
        path = search_path(context.path, self._own_path)
        hidden = hidden_modules(path, self._own_path)
        loaded_twice = [name for name in hidden if _has_extensions(name)]
        if loaded_twice:
            raise NeedsBareProcess(loaded_twice)
        sys.path[:] = path
        for name in hidden:
            _forget_module(name)
        importlib.invalidate_caches()
        self.context = context
        _import_main(context)
        if context.initializer:
            self._initialize(context.initializer)

    def _initialize(self, body: Body) -> None:
        try:
            function, args, kwargs = pickle.loads(blobs.load(self._blobs, body))
            function(*args, **kwargs)
        except TaskCancelled:
            raise
        except BaseException as error:  # SystemExit too: it does not end the task
            raise InitializerRaised(f"the initializer raised {type(error).__name__}: {error}") from error


def _import_main(context: Context) -> None:
    """Run the main module's top level, as ``multiprocessing`` does: so that its process-wide set-up applies here as well.

    Functions of ``__main__`` carry what they need, so a module that cannot be imported again is ignored.
    """
    if not context.main_file:
        return
    try:
        found = os.stat(context.main_file)
        if (found.st_mtime_ns, found.st_size) == context.main_mark:
            rebuild.import_main(context.main_file, context.main_module, sys.argv)
    except (KeyboardInterrupt, TaskCancelled):
        raise
    except BaseException:  # any program's code, which may also call sys.exit
        pass


def context_of(job: PythonJob, blob_folder: str) -> Context:
    """Return the context of a job; raises BlobError, and msgspec.MsgspecError for one that cannot be decoded."""
    if job.context:
        return decode_context(blobs.load(blob_folder, job.context))
    return Context(python=job.python, path=job.path)


def search_path(wanted: Sequence[str], own: Sequence[str]) -> list[str]:
    """Return ``sys.path`` for a submitter's search path: its entries, our standard library at the position of STDLIB, then our own entries."""
    library = {os.path.normpath(path) for path in standard_library()}
    ours = [entry for entry in own if os.path.normpath(entry) in library]
    found: list[str] = []
    for entry in wanted if STDLIB in wanted else (*wanted, STDLIB):
        found += ours if entry == STDLIB else [entry]
    return list(dict.fromkeys([*(entry for entry in found if entry), *own]))


def standard_library() -> list[str]:
    """Return the folders (and the archive) that hold the interpreter's own modules."""
    paths = sysconfig.get_paths()
    version = f"{sys.version_info.major}{sys.version_info.minor}"
    lib = paths["stdlib"]
    return [lib, paths["platstdlib"], f"{lib}/lib-dynload", f"{os.path.dirname(lib)}/python{version}.zip"]


def hidden_modules(path: Sequence[str], own: Sequence[str]) -> list[str]:
    """Return the imported top-level modules that ``path`` would find elsewhere.

    Only names in folders that were not searched before are checked: usually there are none.
    """
    before = set(own)
    names: set[str] = set()
    for entry in path:
        if entry not in before:
            names |= _names_in(entry)
    return [name for name in sorted(names) if name in sys.modules and _is_hidden(name, sys.modules[name], path)]


def _names_in(folder: str) -> set[str]:
    try:
        return {entry.partition(".")[0] for entry in os.listdir(folder)}
    except OSError:
        return set()  # no folder, or an archive: its modules are found at their import


def _is_hidden(name: str, module: ModuleType, path: Sequence[str]) -> bool:
    if name in _NEEDED or name in sys.builtin_module_names:
        return False
    try:
        spec = PathFinder.find_spec(name, list(path))
    except (ImportError, ValueError):
        return False
    if spec is None or (spec.origin is None and getattr(module, "__file__", None)):
        return False  # a namespace package never precedes a regular module
    origin = getattr(getattr(module, "__spec__", None), "origin", None) or getattr(module, "__file__", None)
    return spec.origin != origin and not _is_same_file(spec.origin, origin)


def _is_same_file(one: str | None, other: str | None) -> bool:
    try:
        return bool(one and other and os.path.samefile(one, other))
    except OSError:
        return False


def _with_submodules(name: str) -> list[str]:
    return [one for one in sys.modules if one == name or one.startswith(f"{name}.")]


def _has_extensions(name: str) -> bool:
    """Whether a package was loaded with extension modules of its own; a single extension module can be loaded beside another."""
    files = (getattr(sys.modules[one], "__file__", None) for one in _with_submodules(name) if one != name)
    return any(isinstance(file, str) and file.endswith(tuple(EXTENSION_SUFFIXES)) for file in files)


def _forget_module(name: str) -> None:
    """Forget a module, so that the next import finds the submitter's; existing references keep the old one."""
    for one in _with_submodules(name):
        del sys.modules[one]
