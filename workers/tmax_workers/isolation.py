"""Isolates tasks from one another: after each task the process state is compared and restored, or the worker is replaced.

::

    load the function and its arguments   changes by imported modules stay, as the modules do: a new baseline
    call                                  in a copy of the context: decimal, NumPy's error settings and context variables belong to the task
    the call has ended                    replaced functions are restored, before the worker calls them
    the task has ended                    timers off; compare the rest --differs--> restore --impossible--> ``used_up``

A used-up worker reports its task's result, gives back what waits and requests its replacement.

Checks after each task that calls anything, in microseconds (a trivial system call costs 0.15 here):

====================================================================================================  =====
a call without side effects (``side_effects.py``): a no-op, arithmetic                                  0.4
process (``probes.VALUES``): hooks, argv, path, finders, warnings, limits, tracing, gc, logging         6.0
    of these descriptor 0 1.2, user 0.7, handlers of faults 0.5, affinity 0.4, locale 0.4, niceness 0.2
functions (``probes.FUNCTIONS``) of time, os, builtins, json, pickle, random, socket, subprocess        0.2
timers: alarm, virtual, profiling; ``dump_traceback_later``, ``faulthandler.register(SIGUSR1)``         0.85
child processes: one read of ``/proc``; threads: one counter                                            0.35
context: one copy                                                                                       0.1
resource limits: none until ``resource`` is imported, then a call for each                             6.4
====================================================================================================  =====

Working directory, environment, umask, time zone, signal handlers and signal mask are in ``task_environment.py``, the standard
streams in ``capture.py``.  A thread or process that a task leaves running uses the worker up, and the process is ended;
with ``keep_background`` both stay.

Not checked: variables of modules, the state of random generators, functions that are not in the table, open files,
``atexit``, and what ``ctypes`` or a C extension changes without Python (``putenv``, ``prctl``, POSIX timers).
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
from _thread import _count as count_threads
from collections.abc import Callable, Mapping
from contextvars import copy_context
from os import pread
from threading import Thread
from threading import enumerate as all_threads
from time import monotonic
from typing import Any

from tmax_workers import descendants
from tmax_workers.limit_baseline import LimitBaseline
from tmax_workers.probes import FUNCTIONS, VALUES, Baseline
from tmax_workers.side_effects import PLAIN, has_no_side_effects

_THREAD_GRACE_S = 0.05
"""Time to wait for threads that are about to end."""
_KEPT_THREADS = frozenset({("tqdm._monitor", "TMonitor")})
"""Library threads that live as long as the process, and neither compute nor print for a task that has ended."""
_CLOSE_S = 2.0
_CHILDREN_BYTES = 4096
_VIRTUAL, _PROFILING = (1, 2)
_OFF = (0.0, 0.0)
_modules = sys.modules
_alarm, _getitimer, _setitimer = signal.alarm, signal.getitimer, signal.setitimer
_cancel_dump, _unregister_dump = faulthandler.cancel_dump_traceback_later, faulthandler.unregister
_USR1 = int(signal.SIGUSR1)


def _do(work: Callable[[], object]) -> object:
    return work()


class Isolation:
    """Checks and restores this process; main thread only.  ``used_up``: why this process must not run another task; empty: it may."""

    def __init__(self, on_loaded: Callable[[], None] = lambda: None, uninterrupted: Callable[[Callable[[], object]], object] = _do) -> None:
        """``on_loaded``: called when loading a function has imported modules, whose changes to the process stay.

        ``uninterrupted``: calls what a cancellation must not interrupt, as it would leave half a baseline.
        """
        self._on_loaded = on_loaded
        self._uninterrupted = uninterrupted
        self.used_up = ""
        self._inside = False
        self._code: object = None
        self._has_no_side_effects = False
        """Of the function with the code ``_code``."""
        self._had_no_side_effects = False
        """Whether the running task has no side effects."""
        self._decimal: Any = None
        self._limits = LimitBaseline()
        self._functions = Baseline(FUNCTIONS)
        self._values = Baseline(VALUES)
        self._children_fd = _open_children()
        self._spare: frozenset[int] = frozenset()
        self.rebase()

    def rebase(self) -> None:
        """Take the present state as the one to restore after each task; called between tasks, after changes that stay."""
        self._limits.retake()
        self._rebase_loaded()

    def close(self) -> None:
        """Close the descriptors, for an owner that outlives this object."""
        if self._children_fd >= 0:
            os.close(self._children_fd)

    # -- the task ----------------------------------------------------------------------------------

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Call a task's function, which has just been loaded, and return what it returns."""
        if len(_modules) != self._count or sys.path != self._path:
            self._uninterrupted(self._accept_imports)
        code = getattr(function, "__code__", None)
        if code is not self._code:
            self._code, self._has_no_side_effects = code, has_no_side_effects(function)
        elif self._has_no_side_effects and not kwargs and PLAIN.issuperset(map(type, args)):
            self._had_no_side_effects = True
            return function(*args)
        context = copy_context()
        if self._decimal is not None:
            context.run(_modules["decimal"].setcontext, self._decimal.copy())
        self._inside = True
        try:
            return context.run(function, *args, **kwargs)
        finally:
            if self._functions.differs():
                self._uninterrupted(self._functions.put_back)
            self._inside = False

    def _accept_imports(self) -> None:
        self._limits.take_soft()
        self._rebase_loaded()
        self._on_loaded()

    # -- after the task ----------------------------------------------------------------------------

    def disarm(self) -> None:
        """Stop timers before their handlers are restored; restore the functions if TaskCancelled interrupted ``call`` there."""
        if self._had_no_side_effects:
            return
        for _ in ("first", "again, because the task's handler of an expired timer raised"):
            try:
                _alarm(0)
                if _getitimer(_VIRTUAL) != _OFF or _getitimer(_PROFILING) != _OFF:
                    _setitimer(_VIRTUAL, 0)
                    _setitimer(_PROFILING, 0)
                _cancel_dump()
                _unregister_dump(_USR1)  # it would consume the signal that cancels
                if self._inside:
                    self._functions.put_back()
                    self._inside = False
                return
            except BaseException:
                continue

    def leave(self, *, keep_background: bool) -> None:
        """Restore everything; ``used_up`` names what cannot be restored.  Ends processes left running, which takes up to a few seconds."""
        if self._had_no_side_effects:
            self._had_no_side_effects = False
            return
        try:
            if self._limits.differ():  # first: nothing else works with little memory
                self._use_up_by(self._limits.put_back())
            if len(_modules) != self._count or self._values.differs():
                self._put_values_back()
            if count_threads() != self._threads:
                self._look_at_threads(keep=keep_background)
            if self._read_children() != self._children:
                self._look_at_children(keep=keep_background)
        except Exception as error:  # the task may have broken anything that the checks use
            self.use_up(f"cannot be checked: {type(error).__name__}: {error}"[:200])

    def _put_values_back(self) -> None:
        imported = len(_modules) != self._count
        if imported:
            self._functions.retake()
            self._values.extend()
        self._use_up_by(self._values.put_back(imported=imported))
        self._note_modules()

    def _use_up_by(self, names: list[str]) -> None:
        if names:
            self.use_up(f"cannot be restored: {', '.join(names)}")

    def use_up(self, why: str) -> None:
        """Record why this process must not run another task; the first reason stays."""
        self.used_up = self.used_up or why

    def _look_at_threads(self, *, keep: bool) -> None:
        end = monotonic() + _THREAD_GRACE_S
        ours = self._known_threads
        for thread in all_threads():
            if thread not in ours and not _is_kept(thread):
                thread.join(max(0.0, end - monotonic()))
        left = [thread for thread in all_threads() if thread not in ours]
        strangers = [thread for thread in left if not _is_kept(thread)]
        unknown = count_threads() - self._threads - len(left)
        if not keep and (strangers or unknown > 0):
            named = ", ".join(thread.name for thread in strangers[:3]) or "not started by the module threading"
            self.use_up(f"threads left running: {named}"[:200])
        self._note_threads()

    def _look_at_children(self, *, keep: bool) -> None:
        # No task or command runs now, so every ended child may be reaped.
        running, spare = descendants.left_running(), self._spare | descendants.helpers()
        left = [pid for pid in running if pid not in spare]
        if left and not keep:
            _close_pools()
            descendants.end_all(spare=spare.intersection(running))
            self.use_up(f"{len(left)} process{'es' * (len(left) > 1)} left running")
        self._note_children()

    # -- baseline ----------------------------------------------------------------------------------

    def _rebase_loaded(self) -> None:
        self._functions.retake()
        self._values.retake()
        self._note_modules()
        self._note_threads()
        self._note_children()
        self._decimal = None
        if any(variable.name == "decimal_context" for variable in copy_context()):
            self._decimal = _modules["decimal"].getcontext().copy()  # a copy, because a task could change the original in place

    def _note_modules(self) -> None:
        self._count = len(_modules)
        self._path = sys.path.copy()

    def _note_threads(self) -> None:
        self._threads = count_threads()
        self._known_threads = frozenset(all_threads())

    def _note_children(self) -> None:
        # Reap nothing: a command of the IO thread may run.
        self._children = self._read_children()
        self._spare = frozenset(map(int, self._children.split()))

    def _read_children(self) -> bytes:
        if self._children_fd >= 0:
            return pread(self._children_fd, _CHILDREN_BYTES, 0)
        return b" ".join(b"%d" % pid for pid in descendants.children())


def _open_children() -> int:
    """Open the list of the main thread's children.  A child of another thread appears once that thread has ended; until then the thread count differs."""
    try:
        return os.open(f"/proc/self/task/{threading.get_native_id()}/children", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1  # a kernel without CONFIG_PROC_CHILDREN


def _close_pools() -> None:
    """Run multiprocessing's finalizers, as at exit: a pool whose processes are only killed starts new ones."""
    finalizers = getattr(_modules.get("multiprocessing.util"), "_run_finalizers", None)
    if finalizers is not None:
        try:
            thread = Thread(target=finalizers, args=(0,), name="tmax-close-pools", daemon=True)
            thread.start()
        except RuntimeError:
            return  # no thread can be started: they end with the worker
        thread.join(_CLOSE_S)


def _is_kept(thread: threading.Thread) -> bool:
    return (type(thread).__module__, type(thread).__name__) in _KEPT_THREADS
