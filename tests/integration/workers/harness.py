"""A controller's end for tests: real FIFOs, a real worker process on a pseudo-terminal, no tmux.

::

    with Bench(folder) as bench:
        bench.start()                 # python -P -m tmax_workers on a pty; what it shows is in bench.screen
        bench.greet()                 # Who -> Hello
        bench.say(bench.call(f, 1))   # Run
        done = bench.outcome(1)       # its Done or Failed; bench.heard has everything
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

import cloudpickle

from tests.wait import wait_until
from tmax_pipes.fifo import ControllerFifos
from tmax_pipes.jobs import Job, PythonJob, ShellJob
from tmax_pipes.messages import Done, Failed, Hello, Message, Run, Stop, Stored, ToWorker, Who
from tmax_pipes.options_struct import TaskOptions
from tmax_pipes.pipe_errors import ConnectionEnded
from tmax_pipes.rendezvous import Rendezvous, scan
from tmax_pipes.wire import Wire

ROOT = Path(__file__).resolve().parents[3]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
M = TypeVar("M", bound=Message)


class Bench:
    """One worker and the controller's end of its connection.  ``close`` ends the worker and checks that nothing is left."""

    def __init__(self, folder: Path, *, life: int = 1, listen: bool = True) -> None:
        self.rt, self.state = folder / "rt", folder / "state"
        for path in (self.rt, self.state):
            path.mkdir(mode=0o700)
        self.control = folder / "control.sock"
        self.life = life
        self.pid = 0
        self.status: int | None = None
        self.heard: list[Message] = []
        self.announced: list[dict[str, Any]] = []
        self.wire: Wire | None = None
        self.place: Rendezvous | None = None
        self.master = -1
        self._screen = bytearray()
        self._callers: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self._reader: threading.Thread | None = None
        self._frozen = threading.Event()
        self._reaping = threading.Lock()
        if listen:
            self.listen()

    # -- process -----------------------------------------------------------------------------------

    def start(self, *options: str, env: Mapping[str, str] | None = None, tty: bool = True, cwd: Path | None = None) -> None:
        """Start the worker; it is not greeted yet."""
        given = {
            "PYTHONPATH": f"{ROOT / 'workers'}:{ROOT / 'pipes'}",
            "LC_ALL": "C.UTF-8",
            "PATH": os.environ["PATH"],
            "TMUX": "not,for,tasks",
        }
        given |= dict(env or {})
        argv = [sys.executable, "-P", "-m", "tmax_workers", "--life", str(self.life), "--rt", str(self.rt), "--state", str(self.state)]
        argv += ["--control", str(self.control), *options]
        self.master, slave = pty.openpty()
        path = os.ttyname(slave) if tty else "/dev/null"
        actions = [(os.POSIX_SPAWN_OPEN, fd, path, os.O_RDWR, 0) for fd in (0, 1, 2)]
        before = os.getcwd()
        os.chdir(cwd or ROOT)
        try:
            self.pid = os.posix_spawn(argv[0], argv, given, file_actions=actions, setsid=True)
        finally:
            os.chdir(before)
        self._reader = threading.Thread(target=self._read_screen, args=(self.master, slave), daemon=True)
        self._reader.start()

    def _read_screen(self, master: int, slave: int) -> None:
        # Our own copy of the other end keeps the terminal alive while nobody else holds it.
        while self.alive() and self.master == master:
            if not self._frozen.is_set() and select.select([master], [], [], 0.02)[0]:
                with contextlib.suppress(OSError):
                    self._screen += os.read(master, 65536)
        with contextlib.suppress(OSError):
            os.close(slave)

    def alive(self) -> bool:
        """Whether the worker runs; reaps it when it has ended."""
        with self._reaping:
            if self.pid and self.status is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.status = os.waitstatus_to_exitcode(status)
        return self.status is None

    def wait_gone(self, timeout_s: float = 10.0) -> int:
        """Wait for the process to end; return its exit code (negative: signal)."""
        wait_until(lambda: not self.alive(), timeout_s, story=self.story)
        assert self.status is not None
        return self.status

    def kill(self) -> None:
        """kill -9, and wait for it."""
        if self.pid and self.alive():
            os.kill(self.pid, signal.SIGKILL)
            self.wait_gone()

    def lose_pane(self) -> None:
        """The terminal goes away, as when tmux is killed."""
        master, self.master = self.master, -1
        assert self._reader is not None
        self._reader.join()
        os.close(master)

    def freeze_pane(self) -> None:
        """Nobody reads the terminal any more."""
        self._frozen.set()

    def type(self, keys: bytes) -> None:
        """Press keys in the pane."""
        os.write(self.master, keys)

    @property
    def screen(self) -> str:
        """Everything the pane was sent so far."""
        return bytes(self._screen).decode("utf-8", "replace").replace("\r\n", "\n")

    def wait_screen(self, text: str, timeout_s: float = 10.0) -> None:
        """Wait until the pane has shown ``text``."""
        wait_until(lambda: text in self.screen, timeout_s, story=self.story)

    def story(self) -> str:
        """What is known, for a failing test."""
        said = "\n".join(f"  {one!r:.400}" for one in self.heard[-30:])
        return f"pane:\n{self.screen[-3000:]}\nheard:\n{said}\nstatus: {self.status}"

    # -- control socket ----------------------------------------------------------------------------

    def listen(self) -> None:
        """Be a controller's control socket."""
        self.control.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.control))
        self._listener.listen(8)
        self._listener.setblocking(False)

    def next_announcement(self, timeout_s: float = 10.0) -> dict[str, Any]:
        """Wait for a worker's announcement; its connection stays open."""
        listener = self._listener
        assert listener is not None
        assert select.select([listener], [], [], timeout_s)[0], f"no announcement\n{self.story()}"
        caller, _ = listener.accept()
        self._callers.append(caller)
        caller.settimeout(timeout_s)
        line = caller.makefile("rb").readline()
        self.announced.append(json.loads(line))
        return self.announced[-1]

    # -- connection --------------------------------------------------------------------------------

    def greet(self, epoch: int = 1, *, timeout_s: float = 15.0, n: int = 0, threads: int = 1, beat_s: float = 0.2) -> Hello:
        """Open the FIFOs the worker published (connection ``n`` or later), say Who, and return its Hello."""

        def find() -> Rendezvous | None:
            return next((place for place in scan(self.rt) if place.life == self.life and place.n >= n), None)

        self.place = wait_until(find, timeout_s, story=self.story)
        assert self.place is not None
        self.wire = Wire(ControllerFifos.open(self.place.folder), "controller", epoch)
        self.heard.clear()
        self.say(Who(epoch, "dev", "w1", threads, beat_s))
        return self.wait(Hello, timeout_s=timeout_s)

    def leave(self) -> None:
        """The controller dies: its ends close, and so does its socket."""
        if self.wire is not None:
            self.wire.close()
            self.wire = None
        for caller in self._callers:
            caller.close()
        self._callers.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def say(self, *messages: ToWorker) -> None:
        """Send messages, waiting for room if need be."""
        assert self.wire is not None
        self.wire.send(*messages)
        self.wire.flush()
        while self.wire.transport.wants_write:
            select.select([], self.wire.transport.write_fds(), [], 1.0)
            self.pump(0)
            self.wire.flush()

    def pump(self, timeout_s: float = 0.1) -> bool:
        """Take in what the worker said; False when the connection has ended."""
        if self.wire is None:
            return False
        select.select(self.wire.transport.read_fds(), [], [], timeout_s)
        try:
            self.heard += [message for _, message in self.wire.receive()]
        except ConnectionEnded:
            self.wire.close()
            self.wire = None
            return False
        return True

    def wait(self, kind: type[M], match: Callable[[M], object] = bool, *, timeout_s: float = 10.0) -> M:
        """Return the first message of this kind that matches, heard already or to come."""
        end, seen = time.monotonic() + timeout_s, 0
        while True:
            for message in self.heard[seen:]:
                if isinstance(message, kind) and (match is bool or match(message)):
                    return message
            seen = len(self.heard)
            alive = self.pump(0.1)
            if len(self.heard) == seen:
                assert alive, f"the connection ended before {kind}\n{self.story()}"
                assert time.monotonic() < end, f"no {kind} in {timeout_s} s\n{self.story()}"

    def outcome(self, task: int, attempt: int = 1, *, timeout_s: float = 10.0) -> Done | Failed:
        """Wait for the end of a task and acknowledge it."""
        end: Done | Failed = self.wait(
            Message.__args__,  # type: ignore[arg-type, attr-defined]
            lambda one: isinstance(one, (Done, Failed)) and (one.task, one.attempt) == (task, attempt),
            timeout_s=timeout_s,
        )
        if self.wire is not None:
            with contextlib.suppress(ConnectionEnded):
                self.say(Stored(((task, attempt),)))
        return end

    def done(self, task: int, attempt: int = 1, *, timeout_s: float = 10.0) -> Done:
        """As ``outcome``, and it must have succeeded."""
        end = self.outcome(task, attempt, timeout_s=timeout_s)
        assert isinstance(end, Done), end
        return end

    def failed(self, task: int, attempt: int = 1, *, timeout_s: float = 10.0) -> Failed:
        """As ``outcome``, and it must have failed."""
        end = self.outcome(task, attempt, timeout_s=timeout_s)
        assert isinstance(end, Failed), end
        return end

    # -- jobs --------------------------------------------------------------------------------------

    def log(self, task: int) -> Path:
        """Where a task's log is, if it has one."""
        return self.state / "logs" / f"{task}.log"

    # -- end ---------------------------------------------------------------------------------------

    def drain(self, timeout_s: float = 10.0) -> int:
        """Tell the worker to leave in order; return its exit code."""
        self.say(Stop(why="drain"))
        return self.wait_gone(timeout_s)

    def close(self) -> None:
        """End the worker and let go of everything."""
        if self.wire is not None:
            self.wire.close()
        self.leave()
        self.kill()
        if self._reader is not None:
            self._reader.join()
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> PythonJob:
    """A Python job as the API makes one."""
    return PythonJob(call=cloudpickle.dumps((function, args, kwargs), 5), label=getattr(function, "__name__", "?"), python=PYTHON)


def shell(*argv: str | bytes, **fields: Any) -> ShellJob:
    """A shell job with the PATH of the tests."""
    fields.setdefault("env", {b"PATH": os.environb[b"PATH"]})
    return ShellJob(argv=tuple(os.fsencode(one) for one in argv), **fields)


def sh(text: str, **fields: Any) -> ShellJob:
    """A shell job that runs a line of sh."""
    return shell("sh", "-c", text, **fields)


def run(task: int, job: Job, *, attempt: int = 1, needs_go: bool = False, tries: int = 1, **options: Any) -> Run:
    """A Run with these options."""
    return Run(task=task, attempt=attempt, job=job, needs_go=needs_go, tries=tries, options=TaskOptions(**options))
