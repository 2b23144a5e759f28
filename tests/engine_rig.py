"""An engine of real processes, on a tmux server of its own or without one, driven by hand: orders in, events out, proof that nothing is left."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import struct
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from tests.box import PACKAGE_PATH
from tests.wait import wait_until
from tmax.core.events import Event, LifeConnected, LifeEnded, LifeMessage, LifeStarted
from tmax.core.model import LifeRecord
from tmax.core.settings import Settings, SwarmSettings, WorkerSettings
from tmax.engines.factory import host_for, spawner_for
from tmax.engines.fifo_engine import FifoEngine
from tmax.engines.life_mark import VARIABLE, mark_of, mark_prefix, without_marks
from tmax.engines.process_table import scan
from tmax.engines.spawner import Spawner, WorkerCommand
from tmax.engines.terminals import Terminals
from tmax.engines.tmux.sessions import Sessions
from tmax.engines.tmux.tmux_host import TmuxHost
from tmax.layout import Layout, private_folder
from tmax.reactor import Reactor
from tmax_pipes.jobs import PythonJob, ShellJob
from tmax_pipes.messages import Done, Run

E = TypeVar("E", bound=Event)

SETTINGS = Settings(swarm=SwarmSettings(preload=(), spawner="exec"), worker=WorkerSettings(threads=1, beat_s=0.2))


def settings_of(engine: str, spawner: str = "exec", **worker: Any) -> Settings:
    """Return settings of workers that import nothing more than they need."""
    return Settings(
        swarm=SwarmSettings(preload=(), engine=engine, spawner=spawner),  # type: ignore[arg-type]  # a word of each
        worker=WorkerSettings(**{"threads": 1, "beat_s": 0.2, **worker}),
    )


class Rig:
    """The folders of one swarm, and one engine after another in them (``engine`` is the present one)."""

    def __init__(self, settings: Settings = SETTINGS, swarm: str = "rig") -> None:
        self.root = Path(tempfile.mkdtemp(prefix="tme-", dir="/tmp"))
        self.layout = Layout(swarm, str(self.root / "state"), str(self.root / "run"))
        for folder in (self.layout.state, self.layout.logs, self.layout.blobs, self.layout.runtime):
            private_folder(folder)
        self.settings = settings
        self.events: list[Event] = []
        self.reactor = Reactor()
        self.epoch = 0
        self._socket: socket.socket | None = None
        self._peers: list[socket.socket] = []
        self.engine = self.new_engine()

    # -- engines -----------------------------------------------------------------------------------

    def env(self) -> dict[str, str]:
        """Return the environment workers inherit."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TMAX")}
        return {**kept, "PYTHONPATH": PACKAGE_PATH}

    def new_engine(self, spawner: Callable[[Rig], Spawner] | None = None) -> FifoEngine:
        """Make the engine of the next epoch, not opened."""
        self.epoch += 1
        env, threads = without_marks(self.env()), self.settings.worker.threads
        self.host = host_for(self.layout, self.settings, self.reactor, env=env)
        made = (
            spawner(self)
            if spawner
            else spawner_for(self.layout, self.settings, self.reactor, threads=threads, env=env, host_end_of=self.host.end_of)
        )
        self.engine = FifoEngine(self.layout, self.settings, self.reactor, host=self.host, spawner=made, threads=threads)
        return self.engine

    @property
    def tmux_sessions(self) -> Sessions:
        """What the engine's tmux host talks to tmux with."""
        assert isinstance(self.host, TmuxHost)
        return self.host.sessions

    @property
    def terminals(self) -> Terminals:
        """The engine's terminals; for engines that have them."""
        assert self.engine.terminals is not None
        return self.engine.terminals

    def session_of(self, life: int) -> tuple[str, str]:
        """Return (session, pane) of a life."""
        return self.terminals.session_of(life)

    def paneless(self) -> set[int]:
        """Return the lives that were reported to have lost their panes."""
        return {life.life for life in self.engine._lives.values() if life.paneless}

    def open(self) -> Rig:
        """Listen for announcements and open the engine."""
        self._listen()
        self.engine.open(self.events.append, epoch=self.epoch)
        return self

    def let_go(self) -> None:
        """As a controller that is killed: every descriptor of it is closed, nothing is said."""
        self._hang_up()
        self.engine.close(sessions=False)

    def succeed(self, records: Sequence[LifeRecord] = ()) -> FifoEngine:
        """The next controller: a new engine takes over ``records``."""
        self.events.clear()
        self.new_engine()
        self.open()
        self.engine.adopt(records)
        return self.engine

    def _listen(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        Path(self.layout.control).unlink(missing_ok=True)
        self._socket.bind(self.layout.control)
        self._socket.listen(64)
        self.reactor.on_readable(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        assert self._socket is not None
        peer, _ = self._socket.accept()
        pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        peer.setblocking(False)
        self._peers.append(peer)
        self.reactor.on_readable(peer.fileno(), lambda: self._announcement(peer, pid))

    def _announcement(self, peer: socket.socket, pid: int) -> None:
        try:
            data = peer.recv(65536)
        except ConnectionError:
            data = b""
        if not data:
            self.reactor.forget(peer.fileno())
            self._peers.remove(peer)
            peer.close()
            return
        for line in data.splitlines():
            said = json.loads(line)
            self.engine.announced(said["life"], said["place"], pid)

    def _hang_up(self) -> None:
        for one in (*self._peers, *([self._socket] if self._socket else [])):
            self.reactor.forget(one.fileno())
            one.close()
        self._peers, self._socket = [], None

    # -- events ------------------------------------------------------------------------------------

    def until(self, true: Callable[[], Any], timeout_s: float = 15.0) -> Any:
        """Let the loop run until ``true()`` is truthy; return that."""
        end = time.monotonic() + timeout_s
        while not (value := true()):
            if time.monotonic() > end:
                raise AssertionError(f"not true after {timeout_s} s; events:\n" + "\n".join(map(repr, self.events)))
            self.reactor.run_once(0.1)
        return value

    def run_for(self, seconds: float) -> None:
        """Let the loop run for a while: to see that something does not happen."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.reactor.run_once(max(0.0, end - time.monotonic()))

    def of(self, kind: type[E], life: int = 0) -> list[E]:
        """Return the events of this kind (of one life)."""
        return [event for event in self.events if isinstance(event, kind) and life in (0, getattr(event, "life", 0))]

    def start(self, *lives: int) -> None:
        """Start these lives as w1, w2... and wait until each has greeted."""
        self.engine.start([(life, f"w{life}") for life in lives])
        self.until(lambda: all(self.of(LifeConnected, life) for life in lives))

    def greeted(self, life: int) -> LifeConnected:
        """Return the latest greeting of this life, waiting for one."""
        return self.until(lambda: self.of(LifeConnected, life))[-1]

    def ended(self, life: int) -> LifeEnded:
        """Return the end of this life, waiting for it."""
        return self.until(lambda: self.of(LifeEnded, life))[0]

    def said(self, life: int, kind: type[Any]) -> list[Any]:
        """Return what this life said of one kind of message."""
        return [event.message for event in self.of(LifeMessage, life) if isinstance(event.message, kind)]

    def record(self, life: int, **changes: Any) -> LifeRecord:
        """Return what the store would hold of this life."""
        started = self.of(LifeStarted, life)[0]
        record = LifeRecord(life=life, worker=f"w{life}", pid=started.pid, ticks=started.ticks, session=started.session)
        return replace(record, **changes)

    def pid(self, life: int) -> int:
        """Return the pid of a life."""
        return self.of(LifeStarted, life)[0].pid

    def compute(self, life: int, task: int, attempt: int = 1) -> Done:
        """Have a life count to three, and return what it says."""
        self.engine.send(life, [python_run(task, attempt)])
        done = self.until(lambda: [one for one in self.said(life, Done) if one.task == task])[0]
        assert isinstance(done, Done)
        return done

    # -- what is there -----------------------------------------------------------------------------

    def tmux(self, *args: str) -> str:
        """Run a tmux command on the swarm's server, as a person does."""
        import subprocess

        done = subprocess.run(["tmux", "-S", self.layout.tmux, *args], capture_output=True, text=True, timeout=10, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def sessions(self) -> set[str]:
        """Return the names of the sessions."""
        return set(self.tmux("list-sessions", "-F", "#{session_name}").split("\n"))

    def processes(self) -> list[int]:
        """Return the processes of this swarm's lives."""
        prefix = mark_prefix(self.layout)
        return [one.pid for one in scan() if one.mark.startswith(prefix)]

    def everything(self) -> list[str]:
        """Return the command lines of all processes that name this rig's folders: tmux, its clients, workers, helpers."""
        found = []
        for one in scan():
            try:
                text = Path(f"/proc/{one.pid}/cmdline").read_bytes()
            except OSError:
                continue  # it has just ended
            if os.fsencode(self.root) in text:
                found.append(text.replace(b"\0", b" ").decode(errors="replace"))
        return found

    def close(self) -> None:
        """End everything, and prove it."""
        try:
            self._hang_up()
            self.engine.close(sessions=True)
            assert self.processes() == []
            wait_until(lambda: not self.everything(), 5, story=lambda: "\n".join(self.everything()))
            left = [path for path in self.root.rglob("*") if path.is_fifo() or path.is_socket()]
            assert [path for path in left if path.name != "control.sock"] == []
        finally:
            _reap_children()
            self.reactor.close()
            shutil.rmtree(self.root, ignore_errors=True)


def _reap_children() -> None:
    """Wait for children that have ended: processes of earlier engines of this very process, as init does for a controller's."""
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in map(int, children.read_text().split()):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    pass  # waited for meanwhile


class PlainSpawner:
    """The host runs whatever a test wants, marked like a worker."""

    def __init__(self, rig: Rig, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._rig = rig
        self._argv = argv
        self._env = env or {}

    def open(self, on_worker: Callable[[int, int], None]) -> None:
        pass

    def command(self, life: int) -> WorkerCommand:
        return WorkerCommand(argv=self._argv, env={VARIABLE: mark_of(self._rig.layout, life), **self._env})

    def worker_pid(self, life: int, host_pid: int) -> int:
        return host_pid

    def end_of(self, life: int, pid: int, answer: Callable[[Any], None]) -> None:
        self._rig.host.end_of(life, answer)

    def reopen(self) -> bool:
        return False

    def abandon(self) -> None:
        pass

    def close(self, *, everything: bool) -> None:
        pass


def python_run(task: int, attempt: int = 1, function: str = "builtins:len", args: Sequence[Any] = ("abc",)) -> Run:
    """Return a Run of an importable function."""
    call = msgspec.json.encode([list(args), {}])
    return Run(task=task, attempt=attempt, job=PythonJob(call=call, label=function, target=function))


def shell_run(task: int, script: str, attempt: int = 1) -> Run:
    """Return a Run of a shell script."""
    return Run(task=task, attempt=attempt, job=ShellJob(argv=(b"sh", b"-c", script.encode())))


def waiting_run(task: int, path: Path) -> Run:
    """Return a Run that ends once ``path`` exists."""
    return shell_run(task, f"while [ ! -e {path} ]; do sleep 0.02; done")


def kill9(pid: int) -> None:
    """As the kernel's memory killer does."""
    os.kill(pid, signal.SIGKILL)


def wait_readable(fd: int, timeout_s: float) -> bool:
    """Whether a descriptor can be read within the time."""
    return bool(select.select([fd], [], [], timeout_s)[0])
