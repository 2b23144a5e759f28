"""What a Python task finds around it, and what is put back after it.

enter: sys.path, environment, working directory of the submitter     leave: all that, signal handlers, the wakeup descriptor
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from _signal import getsignal, pthread_sigmask  # type: ignore[import-not-found]  # signal.getsignal looks up an enum first, which costs more than all the rest here
from collections.abc import Callable, Mapping
from os import fchdir, umask
from signal import signal as set_signal
from typing import Any

from tmax_pipes.jobs import PythonJob
from tmax_workers.errors import Refused

_SYNCHRONOUS = {signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS}
_SELDOM = {signal.SIGURG, signal.SIGXFSZ, signal.SIGPWR, 16}
_SIGNALS = tuple(sorted(set(range(1, 32)) - {signal.SIGKILL, signal.SIGSTOP} - _SYNCHRONOUS - _SELDOM))


class Surroundings:
    """Of this process; used on the main thread alone.  Made once its own signal handlers are set."""

    def __init__(self, set_wakeup: Callable[[], None]) -> None:
        self._set_wakeup = set_wakeup
        self._home = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._paths: set[tuple[str, ...]] = {()}
        self._env = _environ().copy()
        self._umask = umask(0o077)
        umask(self._umask)
        self._zone = time.tzname
        self._handlers: list[Any] = [*map(getsignal, _SIGNALS)]
        self._mask: set[int] = pthread_sigmask(signal.SIG_BLOCK, ())

    def adopt(self, variables: Mapping[bytes, bytes]) -> None:
        """Every task from now on finds these in its environment."""
        for name, value in variables.items():
            os.environb[name] = self._env[name] = value

    def enter(self, job: PythonJob, marks: Mapping[bytes, bytes]) -> None:
        """Make it look as it did where the task was submitted; ``marks`` are variables of ours.  Refused when its folder is gone."""
        if job.path not in self._paths:
            self._add_path(job.path)
        env = os.environb
        for name, value in job.env.items():
            if self._env.get(name) != value and not name.startswith(b"TMUX"):
                env[name] = value
        for name, value in marks.items():
            env[name] = self._env[name] = value  # they stay until the next task: taking them away would cost as much again
        if job.cwd:
            change_folder(job.cwd)

    def leave(self) -> None:
        """Put everything back, whatever the task did."""
        try:
            fchdir(self._home)
        except OSError:
            pass  # the folder the worker began in was removed: there is nothing to go back to
        umask(self._umask)
        if _environ() != self._env:
            self._restore_env()
        if time.tzname is not self._zone:  # each tzset makes a new one
            time.tzset()
            self._zone = time.tzname
        if [*map(getsignal, _SIGNALS)] != self._handlers:
            self._restore_handlers()
        if pthread_sigmask(signal.SIG_BLOCK, ()) != self._mask:
            pthread_sigmask(signal.SIG_SETMASK, self._mask)  # blocked, a cancel would never come in
        if "asyncio" in sys.modules or "trio" in sys.modules:
            self._set_wakeup()  # an event loop takes it for its own and leaves none

    def close(self) -> None:
        """Let go of the folder a task would be brought back to; for an owner whose process lives on."""
        os.close(self._home)

    def _restore_env(self) -> None:
        now = _environ().copy()
        for name in now.keys() - self._env.keys():
            del os.environb[name]
        for name, value in self._env.items():
            if now.get(name) != value:
                os.environb[name] = value

    def _restore_handlers(self) -> None:
        for number, handler in zip(_SIGNALS, self._handlers, strict=True):
            if getsignal(number) is not handler and handler is not None:
                set_signal(number, handler)

    def _add_path(self, path: tuple[str, ...]) -> None:
        # Behind our own: a stray module beside the submitter's script must not take the place of the standard library's.
        sys.path += [one for one in path if one and one not in sys.path]
        self._paths.add(path)
        importlib.invalidate_caches()


def _environ() -> dict[bytes, bytes]:
    """The dictionary behind ``os.environ``: going through its methods costs a microsecond for each variable."""
    found: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]  # noqa: SLF001
    return found


def change_folder(cwd: bytes) -> None:
    """Go to a task's working directory; Refused when that cannot be done."""
    try:
        os.chdir(cwd)
    except OSError as error:
        where = cwd.decode("utf-8", "backslashreplace")
        raise Refused(f"cannot enter the working directory {where}: {error.strerror}", "submit it from a folder that exists") from error
