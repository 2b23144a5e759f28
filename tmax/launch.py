"""Starts the controller of a swarm when none answers; concurrent callers start exactly one.

::

    answers? --yes--> return
       no --> init.lock (one at a time) --> answers now? --> taken down? --> the lock is held all the same? --no--> settings in place
                                                                             yes --> its runtime folder was removed: wait until
                                                                                     it answers again; stopped: end it, start another
           --> python -P -m tmax.controller ... --ready-fd N   (its own session, log to controller.log)
           --> read N:  {"ok": true, "pid"}  its socket listens      {"error": {...}}  the reason      end-of-file  it died

Only the lock is polled, by filelock.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time

from filelock import FileLock, Timeout

from tmax.control.client import open_socket
from tmax.errors import FolderError, NoSwarm, TmaxError, WaitTimedOut, from_wire
from tmax.layout import Layout, private_folder
from tmax.storage.lock import holder
from tmax_pipes.durable_files import atomic_write
from tmax_pipes.proc_stat import stat_fields

HEAL_LIMIT_S = 3.0
"""A controller whose runtime folder was removed makes it again within a tenth of a second; it may be busy."""
LOOK_S = 0.2
_LOG_LINES = 8
_LOG_TAIL_BYTES = 8192
_OF_A_TASK = frozenset({"TMAX_LIFE", "TMAX_TASK_ID", "TMAX_WORKER", "TMAX_ATTEMPT"})
"""Variables of a task: a swarm started inside a task is not part of it, and must not be ended with its worker."""

_PACKAGES = ("tmax", "tmax_workers", "tmax_pipes", "tmax_dashboard")


def ensure_controller(
    layout: Layout,
    *,
    settings_path: str | None = None,
    start: bool = True,
    forced: bool = False,
    timeout_s: float = 60.0,
    module: str = "tmax.controller",
) -> bool:
    """Make sure that a controller answers; return True when it was started here.

    ``settings_path``: validated settings that become ``layout.settings`` if, and only if, a controller is started here.
    ``start=False``: raise NoSwarm instead of starting one.  ``forced`` (``init``): start it also when the swarm was taken down.
    ``module``: the module that Python runs as the controller.
    Raises NoSwarm, WaitTimedOut when others or the controller itself need more than ``timeout_s``, and the error with which
    the controller failed to start.
    """
    if answers(layout):
        return False
    if not start:
        raise NoSwarm(layout.swarm)
    end_s = time.monotonic() + timeout_s
    _refuse_if_down(layout, forced)
    private_folder(layout.state)
    try:
        with FileLock(layout.init_lock, mode=0o600, timeout=timeout_s):
            if answers(layout):
                return False
            _refuse_if_down(layout, forced)
            if heals(layout, end_stopped=True):
                return False
            _start(layout, settings_path, end_s, module, forced=forced)
    except Timeout as error:
        raise WaitTimedOut(
            f"another start of swarm {layout.swarm!r} did not end in {timeout_s:g} s", hint=f"the lock is {layout.init_lock}"
        ) from error
    except OSError as error:
        # Of the lock itself: everything inside raises its own errors.
        raise FolderError(
            error.filename or layout.init_lock, f"cannot be used: {error.strerror}", hint="move it away, or free some space"
        ) from error
    return True


def heals(layout: Layout, *, end_stopped: bool = False) -> bool:
    """Return whether a controller that holds the lock without a socket makes it again, as it does when its folder was removed.

    A stopped one cannot; with ``end_stopped`` it is killed, and the next controller takes over its workers and tasks.
    For one that neither makes it again nor ends within HEAL_LIMIT_S, ``_start`` reports the holder of the lock.
    Raises FolderError when something else is at the path of its folder: the controller waits until that is removed.
    """
    pid = holder(layout.lock)
    process = _controller(pid, layout) if pid else -1
    if not pid or process < 0:
        return False
    try:
        private_folder(layout.runtime)
    except BaseException:
        os.close(process)
        raise
    from tmax_pipes.inotify import IN_CREATE, IN_MOVED_TO, FolderWatch, Inotify  # imported late, because it imports ctypes

    inotify = Inotify()
    watch = FolderWatch(inotify, layout.runtime, IN_CREATE | IN_MOVED_TO)
    end_s = time.monotonic() + HEAL_LIMIT_S
    try:
        while (left_s := end_s - time.monotonic()) > 0:
            watch.arm()
            if answers(layout):
                return True
            if _is_stopped(pid):
                if not end_stopped:
                    return False
                signal.pidfd_send_signal(process, signal.SIGKILL)
            # With a time limit, because no event reports that it was stopped meanwhile.
            ready, _, _ = select.select([process, *([inotify.fd] if inotify.fd >= 0 else [])], [], [], min(left_s, LOOK_S))
            if process in ready:
                return False
            if inotify.fd >= 0:
                inotify.read()
    finally:
        inotify.close()
        os.close(process)
    return False


def _controller(pid: int, layout: Layout) -> int:
    """Return a pidfd of the controller of this swarm that has this number; -1 when this is another process."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return -1
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            arguments = file.read().split(b"\0")
    except OSError:
        arguments = []
    if b"--state" in arguments and os.fsencode(layout.state) in arguments:
        return process
    os.close(process)
    return -1


def _is_stopped(pid: int) -> bool:
    try:
        return stat_fields(pid)[0] == b"T"
    except OSError:
        return False


def answers(layout: Layout) -> bool:
    """Return whether a controller listens: the kernel refuses connections to a socket whose process has ended."""
    try:
        open_socket(layout).close()
    except NoSwarm:
        return False
    return True


def down_mark(layout: Layout) -> str:
    """Return the path of the file that marks this swarm as taken down."""
    return f"{layout.state}/down"


def _refuse_if_down(layout: Layout, forced: bool) -> None:
    if os.path.lexists(down_mark(layout)) and not forced:
        raise NoSwarm(layout.swarm, "was taken down")


def _start(layout: Layout, settings_path: str | None, end_s: float, module: str, *, forced: bool) -> None:
    if settings_path is not None:
        _put_settings(settings_path, layout.settings)
    if forced:
        # Before the start, so that the mark of a ``down`` that follows at once stays.
        try:
            os.unlink(down_mark(layout))
        except FileNotFoundError:
            pass  # it was not taken down
        except OSError as error:
            raise FolderError(down_mark(layout), f"cannot be removed: {error.strerror}", hint="remove it by hand") from error
    reader, writer = os.pipe()
    try:
        log_from = _spawn(layout, writer, module)
    except BaseException:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    with open(reader, "rb") as pipe:
        _await_ready(layout, pipe.fileno(), end_s, log_from)


def _put_settings(source: str, target: str) -> None:
    with open(source, "rb") as file:
        try:
            atomic_write(target, file.read())
        except OSError as error:
            raise FolderError(target, f"cannot be written: {error.strerror}", hint="free some space, or move away what is there") from error


def _spawn(layout: Layout, ready_fd: int, module: str) -> int:
    """Start the controller; return the size its log had before."""
    try:
        log = os.open(layout.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.fchmod(log, 0o600)  # with any umask
    except OSError as error:
        raise FolderError(layout.log, f"cannot be written: {error.strerror}") from error
    where = ["--swarm", layout.swarm, "--state", layout.state, "--runtime", layout.runtime]
    with open(log, "ab") as file:
        log_from = os.fstat(log).st_size
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *where, "--ready-fd", str(ready_fd)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            cwd="/",
            env=_environment(),
            start_new_session=True,
            pass_fds=(ready_fd,),
        )
    # It outlives this process; until then a thread reaps it, or it would stay as a zombie.
    try:
        threading.Thread(target=process.wait, name="tmax-controller-exit", daemon=True).start()
    except RuntimeError:
        pass  # the interpreter is ending, and init reaps it
    return log_from


def _environment() -> dict[str, str]:
    """Return our environment, without tmux's variables and so that the controller imports the very packages that we do."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("TMUX") and key not in _OF_A_TASK}
    paths = [folder for folder in sys.path if any(os.path.isdir(os.path.join(folder, name)) for name in _PACKAGES)]
    # Installed packages are found anyway, the folders of a clone are not.  Absolute, because its working directory is /.
    paths = [folder for folder in paths if os.path.basename(folder.rstrip("/")) not in {"site-packages", "dist-packages"}]
    paths += [folder for folder in env.get("PYTHONPATH", "").split(os.pathsep) if folder]
    if paths:
        env["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, map(_absolute, paths))))
    return env


def _absolute(folder: str) -> str:
    """Return the whole path of a folder; empty for a relative one when the working directory was removed: nothing is found there."""
    try:
        return os.path.abspath(folder)
    except FileNotFoundError:
        return ""


def _await_ready(layout: Layout, ready_fd: int, end_s: float, log_from: int) -> None:
    received = b""
    while not received.endswith(b"\n"):
        if not select.select([ready_fd], [], [], max(0.0, end_s - time.monotonic()))[0]:
            raise WaitTimedOut(
                f"the controller of swarm {layout.swarm!r} was started and is not ready yet", hint=f"its log is {layout.log}"
            )
        data = os.read(ready_fd, 65536)
        if not data:
            raise TmaxError(
                f"the controller of swarm {layout.swarm!r} ended as it started{_log_tail(layout.log, log_from)}",
                hint=f"its log is {layout.log}",
            )
        received += data
    answer = json.loads(received)
    if "error" in answer:
        raise from_wire(answer["error"])


def _log_tail(path: str, log_from: int) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(log_from, os.fstat(file.fileno()).st_size - _LOG_TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""  # the error above it matters more
    return "".join(f"\n  {line}" for line in lines[-_LOG_LINES:])
