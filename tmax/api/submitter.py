"""This program as its tasks are to find it: where it runs, with what, and whose code it is.

::

    environment, folder, umask, limits, locale, arguments --> Surroundings --\
    order of search, main module, initializer             --> Context ------- > bodies, sent once, named by each task

Looked at for each submit, since a program may change any of it between two; made again only when something has changed.
"""

from __future__ import annotations

import _locale
import _thread
import os
import sys
from collections.abc import Callable
from time import monotonic
from typing import Any

from tmax.api.calls import PYTHON
from tmax.api.mainmodule import main_mark, main_to_import, sets_up
from tmax.api.searchpath import SearchPath
from tmax.api.shared_bodies import SharedBodies
from tmax_pipes import rebuild
from tmax_pipes.jobs import Body, Context, SubmitterEnvironment, encode_context, encode_submitter_environment
from tmax_pipes.resource_limits import NUMBERS, limits_now, may_change

_INLINE_BYTES = 0
_LIMITS_S = 1.0
"""Limits that another process may have set are looked at as often; those of a program that has ``resource``, each time."""
_MANY = 100
"""Looks after which the working directory and the locale are asked for without letting go of the interpreter."""
_DELETED = " (deleted)"


class Submitter:
    """What this process sends to workers about itself.

    ``initializer``: pickled ``(function, args, kwargs)`` for each worker process, empty for none.  ``max_tasks``: tasks after which
    a worker process is replaced, 0 for no limit.  Either makes the workers this client's own.
    """

    def __init__(self, bodies: SharedBodies, path: SearchPath, *, initializer: bytes = b"", max_tasks: int = 0) -> None:
        self._bodies = bodies
        self._path = path
        self._initializer = initializer
        self._max_tasks = max_tasks
        self._env: dict[bytes, bytes] = {}
        self._seen: tuple[Any, ...] = ()
        self._argv: list[Any] = []
        self._umask = own_umask()
        self._looks = _Looks()
        self._limits: tuple[tuple[int, int], ...] = ()
        self._limits_at = -_LIMITS_S
        self._where: tuple[Body, bytes] = (b"", b"")
        self._ordered: tuple[str, ...] | None = None
        self._whose: tuple[Body, bytes] = (b"", b"")
        self._lock = _thread.RLock()
        """Held while it is looked: a thread that came between would send its task with what was true before, or with nothing."""

    def names(self) -> tuple[Body, Body]:
        """Return the names of what every task of this program finds around it, and of the context of its functions, as they are now."""
        with self._lock:
            now = monotonic()
            return self._submitter_environment(now), self._context(now)

    def submitter_environment(self) -> Body:
        """Return the first of ``names``: for a task that is no function."""
        with self._lock:
            return self._submitter_environment(monotonic())

    def _submitter_environment(self, now: float) -> Body:
        env, argv = _environ(), getattr(sys, "argv", self._argv)
        folder, locale = self._looks.folder_and_locale()
        seen = (folder, self._umask_now(), self._limits_now(now), locale, sys.getrecursionlimit())
        if seen != self._seen or argv != self._argv or env != self._env:
            self._env, self._argv, self._seen = env.copy(), list(argv), seen
            data = encode_submitter_environment(self._described(*seen))
            self._where = (self._bodies.of(data, _INLINE_BYTES), data)
        return self._bodies.again(*self._where, now)

    def _described(
        self, cwd: bytes, umask: int, limits: tuple[tuple[int, int], ...], locale: bytes, recursion_limit: int
    ) -> SubmitterEnvironment:
        argv = tuple(map(str, self._argv))
        return SubmitterEnvironment(
            cwd=cwd,
            env={name: value for name, value in self._env.items() if not name.startswith(b"TMUX")},
            umask=umask,
            limits=dict(zip(NUMBERS, limits, strict=True)),
            locale=locale.decode("utf-8", "replace"),
            argv=argv if all(map(_is_text, argv)) else (),
            recursion_limit=recursion_limit,
        )

    def _umask_now(self) -> int:
        """Only a process itself can ask for its umask, by setting it: to what it was the last time, so nothing is open for a moment."""
        found = os.umask(self._umask)
        if found != self._umask:
            os.umask(found)
            self._umask = found
        return found

    def _limits_now(self, now: float) -> tuple[tuple[int, int], ...]:
        """A program that changes its own limits has imported ``resource``; fifteen calls cost more than all the rest here."""
        if may_change() or now - self._limits_at >= _LIMITS_S:
            self._limits, self._limits_at = limits_now(), now
        return self._limits

    def _context(self, now: float) -> Body:
        ordered = self._path.ordered()
        if ordered is not self._ordered:
            self._ordered = ordered
            data = encode_context(self._own_context(ordered))
            self._whose = (self._bodies.of(data, _INLINE_BYTES), data)
        return self._bodies.again(*self._whose, now)

    def _own_context(self, path: tuple[str, ...]) -> Context:
        main_file, main_module = main_to_import()
        if not sets_up(main_file):
            main_file = main_module = ""  # what a function needs of it travels with the function, or is imported then
        is_own = bool(self._initializer or self._max_tasks)
        return Context(
            python=PYTHON,
            path=path,
            main_file=main_file,
            main_module=main_module,
            main_mark=main_mark(main_file),
            # Inside: a file of its own would be swept away while tasks still wait, as only the context is named by them.
            initializer=self._initializer,
            max_tasks=self._max_tasks,
            client=rebuild.token() if is_own else "",
        )


def own_umask() -> int:
    """Return this process's umask without changing it; 0o022 where the kernel does not report it."""
    try:
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass  # no /proc
    return 0o022


class _Looks:
    """Looks at what only the C library and the kernel know; after _MANY of them without letting go of the interpreter."""

    def __init__(self) -> None:
        self._left = _MANY
        self._folder: Callable[[], bytes] = _cwd
        self._locale: Callable[[], bytes] = _locale_now

    def folder_and_locale(self) -> tuple[bytes, bytes]:
        if self._left:
            self._left -= 1
            if not self._left:
                from tmax_pipes import brief_calls  # imports ctypes, which few submits are not worth

                self._folder, self._locale = brief_calls.working_folder, brief_calls.locale_now
        return self._folder() or _cwd(), self._locale()


def _locale_now() -> bytes:
    return _locale.setlocale(_locale.LC_ALL, None).encode()


def _cwd() -> bytes:
    """Where we are; a folder that was removed as /proc shows it."""
    try:
        return os.getcwdb()
    except FileNotFoundError:
        try:
            return os.readlink(b"/proc/self/cwd")
        except OSError:
            return os.fsencode(_DELETED)


def _environ() -> dict[bytes, bytes]:
    """The dictionary behind ``os.environ``: its methods cost a microsecond for each variable.  A program may have put any mapping there."""
    found: Any = getattr(os.environ, "_data", None)
    if isinstance(found, dict) and found and isinstance(next(iter(found)), bytes):
        return found
    return {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}


def _is_text(word: str) -> bool:
    return word.isprintable() or not any("\ud800" <= letter <= "\udfff" for letter in word)
