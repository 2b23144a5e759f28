"""The process environment of a Python task, set before it and restored after it.

enter: environment, working directory, umask, limits, locale of the submitter     leave: all that, signal handlers, the wakeup descriptor
"""

from __future__ import annotations

import locale
import os
import signal
import sys
import tempfile
import time
from _signal import getsignal, pthread_sigmask  # type: ignore[import-not-found]  # signal.getsignal looks up an enum first, which costs more than all the rest here
from collections.abc import Callable, Mapping
from os import fchdir, umask
from signal import signal as set_signal
from typing import Any

from msgspec.structs import replace

from tmax_pipes import blobs
from tmax_pipes.jobs import Body, Job, Limits, PythonJob, SubmitterEnvironment, decode_submitter_environment
from tmax_pipes.resource_limits import LIMITS, NUMBERS, getrlimit, setrlimit
from tmax_workers.memory import own_size_bytes
from tmax_workers.signal_masks import RARE, SYNCHRONOUS, discard_pending
from tmax_workers.threads import VARIABLES
from tmax_workers.worker_errors import Refused

USUAL_UMASK = 0o022
"""Umask of a task whose submitter sent none: not the controller's own, which makes its files private."""

LEAST_FILES = 128
"""Lowest limit of open files for a Python task, whatever its submitter's: its worker holds about thirty."""

SPARE_BYTES = 256 * 1024 * 1024
"""Lowest memory limit of a Python task above what its worker has mapped, whatever its submitter's."""

DELETED = b" (deleted)"
"""Suffix that /proc shows after the path of a removed working directory."""

_SIGNALS = tuple(sorted(set(range(1, 32)) - {signal.SIGKILL, signal.SIGSTOP} - SYNCHRONOUS - RARE))


class TaskEnvironment:
    """Sets and restores the environment of this process; main thread only.  Made after the worker has set its signal handlers."""

    def __init__(self, set_wakeup: Callable[[], None], blob_folder: str) -> None:
        self._set_wakeup = set_wakeup
        self._blobs = blob_folder
        self._home = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._env = _environ().copy()
        self._umask = umask(USUAL_UMASK)
        umask(self._umask)
        self._zone = time.tzname
        self._own = _OwnState()
        self._ours: dict[bytes, bytes] = {}
        """Variables that every task gets, from any submitter."""
        self._body: Body = b""
        self._shared = SubmitterEnvironment()
        self._applied: SubmitterEnvironment | None = None
        self._has_own_limits = True
        self._is_file_limited = False
        self._handlers: list[Any] = [*map(getsignal, _SIGNALS)]
        self._mask: set[int] = pthread_sigmask(signal.SIG_BLOCK, ())

    def adopt(self, variables: Mapping[bytes, bytes]) -> None:
        """Add these variables to the environment of every later task."""
        self._ours.update(variables)
        for name, value in variables.items():
            os.environb[name] = self._env[name] = value

    def enter(self, job: Job, marks: Mapping[bytes, bytes]) -> bool:
        """Set the submitter's environment for a task; ``marks`` are variables of tmax.

        Returns whether anything but the working directory was changed.  Raises Refused when its folder cannot be entered,
        BlobError when the encoded environment is missing.
        """
        wanted = self._wanted(job)
        changed = False
        if wanted is not self._applied:
            changed = self._applied is None or not _same_but_folder(wanted, self._applied)
            if changed:
                self._applied = None  # until all of it is applied: otherwise the next task could reuse a partial state
                self._apply(wanted)
            self._applied = wanted
        for name, value in marks.items():  # they stay until the next task: removing them would cost as much again
            if self._env.get(name) != value:
                os.environb[name] = self._env[name] = value
        if wanted.cwd:
            change_folder(wanted.cwd)
        return changed

    def _wanted(self, job: Job) -> SubmitterEnvironment:
        """Return the submitter's environment, which many tasks share, with the job's own fields in place of its."""
        if job.submitter_environment != self._body:
            self._shared = (
                decode_submitter_environment(blobs.load(self._blobs, job.submitter_environment))
                if job.submitter_environment
                else SubmitterEnvironment()
            )
            self._body = job.submitter_environment
        cwd, env = (job.cwd, job.env) if isinstance(job, PythonJob) else (b"", {})
        if not (cwd or env or job.limits or job.umask is not None):
            return self._shared
        shared = self._shared
        return replace(
            shared,
            cwd=cwd or shared.cwd,
            env=env or shared.env,
            umask=shared.umask if job.umask is None else job.umask,
            limits=job.limits or shared.limits,
        )

    def _apply(self, wanted: SubmitterEnvironment) -> None:
        self._env = self._environment(wanted.env)
        self._restore_env()
        if b"TZ" in self._env or b"TZ" in self._own.env:
            time.tzset()
            self._zone = time.tzname
        self._own.set_locale(wanted)
        self._umask = USUAL_UMASK if wanted.umask is None else wanted.umask
        umask(self._umask)
        self._has_own_limits = not self._own.set_limits(wanted.limits)
        self._is_file_limited = wanted.limits.get(LIMITS["RLIMIT_FSIZE"], (-1, -1))[0] >= 0
        sys.argv = list(wanted.argv or self._own.argv)
        sys.setrecursionlimit(wanted.recursion_limit or self._own.recursion_limit)

    def _environment(self, given: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Return a task's variables: its submitter's without those of tmux, then the worker's; a thread count that the submitter chose stays."""
        if not given:
            return self._own.env | self._ours
        chosen = {name.encode() for name in VARIABLES} & given.keys()
        env = {name: value for name, value in given.items() if not name.startswith(b"TMUX")}
        return env | {name: value for name, value in self._ours.items() if name not in chosen}

    def keep(self) -> None:
        """Take variables, signal handlers and time zone as they are now, inside a task, for every task after it."""
        self._env = _environ().copy()
        self._handlers = [*map(getsignal, _SIGNALS)]
        self._zone = time.tzname

    @property
    def own_environment(self) -> dict[bytes, bytes]:
        """The worker's own variables, without those of tasks."""
        return self._own.env

    def lift_file_limit(self) -> None:
        """Lift the file size limit after the task's function has returned: its result may exceed the submitter's limit."""
        if self._is_file_limited:
            self._own.lift(LIMITS["RLIMIT_FSIZE"])
            self._is_file_limited, self._applied = False, None

    def put_own_limits_back(self) -> None:
        """Set the worker's own resource limits, until the next task.  Also on the IO thread, while no task runs."""
        if not self._has_own_limits:
            self._applied = None
            self._own.set_limits({})
            self._has_own_limits = True

    def go_home(self) -> None:
        """Return to the folder this worker started in: before the end is reported, as the task's folder may then be unmounted, and before the IO thread starts a command."""
        try:
            fchdir(self._home)
        except OSError:
            pass  # it was removed

    def leave(self) -> None:
        """Restore everything, whatever the task did."""
        self.go_home()
        umask(self._umask)
        if _environ() != self._env:
            self._restore_env()
        if time.tzname is not self._zone:  # each tzset creates a new tuple
            time.tzset()
            self._zone = time.tzname
        if [*map(getsignal, _SIGNALS)] != self._handlers:
            self._restore_handlers()
        if pthread_sigmask(signal.SIG_BLOCK, ()) != self._mask:
            discard_pending()
            pthread_sigmask(signal.SIG_SETMASK, self._mask)  # a blocked SIGUSR1 would prevent cancellation
        if "asyncio" in sys.modules or "trio" in sys.modules:
            self._set_wakeup()  # an event loop replaces the wakeup descriptor and does not restore it

    def close(self) -> None:
        """Close the descriptor of the worker's folder; for an owner that outlives this object."""
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


class _OwnState:
    """The state of this process before any task: it applies where a submitter sends nothing."""

    def __init__(self) -> None:
        self.env = _environ().copy()
        self.argv = list(sys.argv)
        self.recursion_limit = sys.getrecursionlimit()
        self._locale = locale.setlocale(locale.LC_ALL, None)
        self._limits = {which: getrlimit(which) for which in NUMBERS}

    def set_locale(self, wanted: SubmitterEnvironment) -> None:
        """Set the submitter's locale; else that of a program just started with its environment; else the worker's own."""
        try:
            if wanted.locale or not wanted.env:
                locale.setlocale(locale.LC_ALL, wanted.locale or self._locale)
            else:
                locale.setlocale(locale.LC_ALL, "C")
                locale.setlocale(locale.LC_CTYPE, "")
        except locale.Error:
            pass  # not installed here: an interpreter that starts with such a name ignores it as well

    def lift(self, which: int) -> None:
        """Restore one limit to its value at the worker's start."""
        setrlimit(which, self._limits[which])

    def set_limits(self, wanted: Limits) -> bool:
        """Set the soft limits; a lowered hard limit could not be raised for the next task.  Return whether any differs from the start."""
        differ = False
        for which, (own_soft, hard) in self._limits.items():
            soft = wanted.get(which, (own_soft, hard))[0]
            if which == LIMITS["RLIMIT_CPU"] and soft >= 0 and which in wanted:
                soft += int(sum(os.times()[:2]))  # the kernel counts the time of earlier tasks as well
            if soft >= 0:
                soft = max(soft, self._least(which))
            soft = hard if soft < 0 or 0 <= hard < soft else soft
            if getrlimit(which)[0] != soft:
                setrlimit(which, (soft, hard))
            differ = differ or soft != own_soft
        return differ

    @staticmethod
    def _least(which: int) -> int:
        """The lowest value that the worker itself needs: below it the worker would fail, not the task."""
        if which == LIMITS["RLIMIT_NOFILE"]:
            return LEAST_FILES
        if which in (LIMITS["RLIMIT_AS"], LIMITS.get("RLIMIT_DATA", -1)):
            return own_size_bytes() + SPARE_BYTES
        return 0


def _same_but_folder(one: SubmitterEnvironment, other: SubmitterEnvironment) -> bool:
    return replace(one, cwd=b"") == replace(other, cwd=b"")


def _environ() -> dict[bytes, bytes]:
    """The dictionary behind ``os.environ``, whose methods cost a microsecond for each variable."""
    found: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]  # noqa: SLF001
    return found


def change_folder(cwd: bytes) -> None:
    """Enter a task's working directory.  Raises Refused when that is impossible."""
    try:
        os.chdir(cwd)
    except OSError as error:
        if cwd.endswith(DELETED) and isinstance(error, FileNotFoundError):
            _enter_removed_folder()
            return
        where = cwd.decode("utf-8", "backslashreplace")
        raise Refused(f"cannot enter the working directory {where}: {error.strerror}", "submit it from a folder that exists") from error


def _enter_removed_folder() -> None:
    """Enter a new folder and remove it: the submitter's working directory was removed too."""
    known = tempfile.tempdir
    try:
        folder = tempfile.mkdtemp()
    finally:
        tempfile.tempdir = known  # computed for this submitter's TMPDIR; a later task may have another
    os.chdir(folder)
    os.rmdir(folder)
