"""The zygote: one process that has imported everything and forks workers into waiting panes.  ``python -P -m tmax_workers.zygote --fd N ...``

::

    import what every worker needs, freeze it; compute nothing, touch no device, start no thread
    stub: request, terminal --> one thread? code unchanged? --> fork --> zygote_child.live()
    SIGCHLD --> wait4 --> the stub ends its pane in the same way; Ended to the controller, or to the next one

It listens on an inherited socket, so that panes can connect while it still imports.  It outlives its controller, is found
again by that socket (made again on ``RenewSocket`` or SIGUSR1 after a removal), and ends on ``End``, or after
``--orphan-ttl-s`` without a child and a controller.  Its workers outlive it.

A child of a process with a second thread may wait for ever for a lock that the thread held; with torch's OpenMP
threads it does so at the first parallel operation.  So /proc/self/task is checked before each fork.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

import msgspec

from tmax_pipes.proc_stat import start_ticks
from tmax_workers import zygote_child
from tmax_workers.epoll_loop import HANG_UP, READ, WRITE, EpollLoop
from tmax_workers.options import BadOptions, parse
from tmax_workers.stale import sources
from tmax_workers.zygote_child import ChildSetup
from tmax_workers.zygote_load import LoadedModules, load, other_threads
from tmax_workers.zygote_peer import ZygotePeer, listen
from tmax_workers.zygote_wire import (
    VERSION,
    Acknowledge,
    BadRequest,
    CancelFork,
    Child,
    End,
    Ended,
    Forked,
    ForkRequest,
    FromZygote,
    NotForked,
    RenewSocket,
    RequestStatus,
    Retire,
    Stale,
    ZygoteReady,
    line_of,
    to_zygote,
)

USAGE = "python -P -m tmax_workers.zygote --fd N --socket PATH --swarm NAME --state FOLDER [--preload a,b] [--orphan-ttl-s S]"


# -- serving --------------------------------------------------------------------------------------


class _InChild(BaseException):
    """Unwinds the stack of the forked process out of the zygote's code.  A BaseException, so that no handler catches it."""

    def __init__(self, setup: ChildSetup) -> None:
        self.setup = setup
        super().__init__()


@dataclass(slots=True, kw_only=True)
class _ForkedWorker:
    life: int
    ticks: int
    stub: ZygotePeer | None


class Zygote:
    """Forks workers on request, waits for them and reports their ends."""

    def __init__(self, listener: socket.socket, path: str, loaded: LoadedModules, *, orphan_ttl_s: float) -> None:
        """``path``: the path of ``listener``, which is made again when it is removed."""
        self._loaded = loaded
        self._broken = loaded.broken
        self._orphan_ttl_s = orphan_ttl_s
        self._sources = sources()
        self._sources.note()
        self._loop = EpollLoop()
        self._peers: dict[int, ZygotePeer] = {}
        self._controllers: set[int] = set()
        self._children: dict[int, _ForkedWorker] = {}
        """By pid."""
        self._unacknowledged: dict[int, Ended] = {}
        self._refused: set[int] = set()
        self._retired = False
        self._ends = False
        self._alone_since: float | None = None
        listener.setblocking(False)
        self._listener = listener
        self._path = path
        self._loop.add(listener.fileno(), self._connecting)
        self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._loop.add(self._wake[0], lambda _events: self._signalled())
        for number in (signal.SIGCHLD, signal.SIGUSR1):
            signal.signal(number, _noted)
        signal.set_wakeup_fd(self._wake[1], warn_on_full_buffer=False)

    def serve(self) -> ChildSetup | None:
        """Serve until the zygote has to end, then return None; in a forked child, return its set-up."""
        try:
            while not self._ends:
                self._loop.turn(self._wait_s())
        except _InChild as unwound:
            self._close_all()
            return unwound.setup
        self._close_all()
        return None

    def _wait_s(self) -> float | None:
        if self._children or (self._controllers and not self._retired):
            self._alone_since = None
            return None
        now = time.monotonic()
        if self._alone_since is None:
            self._alone_since = now
        left_s = self._alone_since + self._orphan_ttl_s - now
        self._ends = left_s <= 0 or self._retired
        return 0.0 if self._ends else left_s

    def _close_all(self) -> None:
        """Close all descriptors of the zygote; none may stay open in a child."""
        for peer in list(self._peers.values()):
            peer.close()
        self._peers.clear()
        self._children.clear()
        signal.set_wakeup_fd(-1)
        self._listener.close()
        self._loop.close()
        for fd in self._wake:
            os.close(fd)

    # -- connections ------------------------------------------------------------------------------

    def _connecting(self, _events: int) -> None:
        self._accept()

    def _accept(self) -> bool:
        """Accept one connection; False when there is none."""
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return False  # the peer has closed, or no descriptor is left: the next turn tries again
        peer = ZygotePeer(sock)
        if not peer.is_ours:
            peer.close()
            return True
        self._peers[peer.fd] = peer
        self._loop.add(peer.fd, lambda events: self._ready(peer, events))
        return True

    def _renew_listener(self) -> None:
        """Make the socket again when it was removed, after accepting the connections that wait at the old one."""
        if self._retired or os.path.lexists(self._path):
            return
        try:
            listener = listen(self._path)
        except OSError as error:
            _log(f"{self._path} cannot be made again: {error.strerror}")
            return
        while self._accept():
            pass
        self._loop.remove(self._listener.fileno())
        self._listener.close()
        listener.setblocking(False)
        self._listener = listener
        self._loop.add(listener.fileno(), self._connecting)

    def _ready(self, peer: ZygotePeer, events: int) -> None:
        if events & WRITE:
            peer.flush()
            self._watch(peer)
        if events & (READ | HANG_UP) and not self._receive(peer):
            self._drop(peer)

    def _receive(self, peer: ZygotePeer) -> bool:
        """Handle a peer's input; False when its connection has ended."""
        is_there = peer.receive()
        try:
            if peer.is_stub:
                request = peer.request() if not peer.life else None
                return is_there and (request is None or self._fork(peer, request))
            for line in peer.lines():
                self._handle_order(peer, line)
        except (BadRequest, msgspec.DecodeError) as error:
            _log(f"not understood: {error}")
            return False
        return is_there and peer.fd in self._peers

    def _drop(self, peer: ZygotePeer) -> None:
        if peer.fd < 0:
            return
        self._controllers.discard(peer.fd)
        self._peers.pop(peer.fd, None)
        self._loop.remove(peer.fd)
        for worker in self._children.values():
            if worker.stub is peer:
                worker.stub = None
        peer.close()

    def _watch(self, peer: ZygotePeer) -> None:
        self._loop.change(peer.fd, READ | (WRITE if peer.wants_write else 0))

    def _send(self, peer: ZygotePeer, data: bytes) -> None:
        peer.send(data)
        self._watch(peer)

    def _broadcast(self, message: FromZygote) -> None:
        for fd in self._controllers:
            self._send(self._peers[fd], line_of(message))

    # -- controllers ------------------------------------------------------------------------------

    def _handle_order(self, peer: ZygotePeer, line: bytes) -> None:
        order = to_zygote(line)
        if isinstance(order, RequestStatus):
            self._controllers.add(peer.fd)
            self._refused.clear()  # another controller or store: it sends its own cancellations
            self._send(peer, line_of(self._status()))
        elif isinstance(order, Acknowledge):
            self._unacknowledged.pop(order.life, None)
        elif isinstance(order, CancelFork):
            self._cancel(order.life)
        elif isinstance(order, Retire):
            self._retire()
        elif isinstance(order, RenewSocket):
            self._renew_listener()
        elif isinstance(order, End):
            self._ends = True

    def _status(self) -> ZygoteReady:
        loaded = self._loaded
        return ZygoteReady(
            pid=os.getpid(),
            version=VERSION,
            code=loaded.code,
            python=sys.executable,
            wanted=loaded.wanted,
            modules=loaded.modules,
            missing=loaded.missing,
            broken=self._broken,
            children=tuple(Child(worker.life, pid, worker.ticks) for pid, worker in self._children.items()),
            ended=tuple(self._unacknowledged.values()),
        )

    def _cancel(self, life: int) -> None:
        for pid, worker in self._children.items():
            if worker.life == life:
                os.kill(pid, signal.SIGKILL)  # our unreaped child, so the pid cannot be reused
                return
        self._refused.add(life)
        self._broadcast(NotForked(life, "cancelled"))

    def _retire(self) -> None:
        """Fork no more; later stubs connect to the next zygote, or to none and then start their worker by exec."""
        self._retired = True
        if self._listener.fileno() >= 0:
            self._loop.remove(self._listener.fileno())
            self._listener.close()

    # -- children ---------------------------------------------------------------------------------

    def _fork(self, peer: ZygotePeer, request: ForkRequest) -> bool:
        """Fork the worker of this stub; False when its connection must be closed."""
        try:
            life = _life_of(request)
        except (BadOptions, ValueError) as error:
            self._send(peer, f"gone {error}\n".encode())
            return False
        if life in self._refused or any(worker.life == life for worker in self._children.values()):
            self._send(peer, b"gone this life is not wanted any more\n")
            return False
        if why := self._refusal():
            _log(f"life {life} is not forked: {why}")
            self._broadcast(NotForked(life, why))
            self._send(peer, f"refused {why}\n".encode())
            return False
        if peer.has_hung_up():
            return False
        return self._fork_now(peer, request, life)

    def _refusal(self) -> str:
        """Return why this process cannot fork; empty when it can.  Checked before each fork: a module may start a thread late."""
        if not self._broken and (others := other_threads("there are")):
            self._broken = others
            self._broadcast(self._status())
        if self._broken or self._retired:
            return self._broken or "this zygote forks no more"
        if changed := self._sources.changed():
            self._broadcast(Stale(tuple(changed)))
            self._retire()
            return f"{changed[0]} has changed since it was imported"
        return ""

    def _fork_now(self, peer: ZygotePeer, request: ForkRequest, life: int) -> bool:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        try:
            pid = os.fork()
        except OSError as error:
            self._broadcast(NotForked(life, f"cannot fork: {error.strerror}"))
            self._send(peer, f"refused cannot fork: {error.strerror}\n".encode())
            return False
        if pid == 0:
            self._unwind_child(peer, request, life)
        for fd in peer.fds:
            os.close(fd)
        peer.fds = []
        peer.life = life
        self._children[pid] = _ForkedWorker(life=life, ticks=start_ticks(pid), stub=peer)
        self._send(peer, b"forked %d\n" % pid)
        self._broadcast(Forked(life, pid, self._children[pid].ticks))
        return True

    def _unwind_child(self, peer: ZygotePeer, request: ForkRequest, life: int) -> NoReturn:
        stdin, stdout, stderr, folder = peer.fds
        peer.fds = []  # the child owns them now, and closes them
        raise _InChild(ChildSetup(life=life, request=request, fds=(stdin, stdout, stderr, folder), shown=self._loaded.shown))

    def _signalled(self) -> None:
        if signal.SIGUSR1 in os.read(self._wake[0], 4096):
            self._renew_listener()
        self._reap()

    def _reap(self) -> None:
        while self._children:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if not pid:
                return
            self._ended(pid, os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024)

    def _ended(self, pid: int, code: int, peak_rss_bytes: int) -> None:
        worker = self._children.pop(pid)
        signaled = -code if code < 0 else None
        ended = Ended(worker.life, pid, signaled, None if signaled else code, peak_rss_bytes)
        self._unacknowledged[worker.life] = ended
        self._broadcast(ended)
        if worker.stub is not None:
            self._send(worker.stub, b"signal %d\n" % signaled if signaled else b"exit %d\n" % code)
            self._drop(worker.stub)


def _log(text: str) -> None:
    """Write to the controller's log.  Not through ``logging``: every worker would inherit its set-up."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} zygote {os.getpid()}: {text}", file=sys.stderr, flush=True)


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the wakeup descriptor has received a byte."""


def _life_of(request: ForkRequest) -> int:
    """Return the life of a worker's command line; raises ValueError or BadOptions when it is not one."""
    arguments = [os.fsdecode(argument) for argument in request.argv]
    return parse(arguments[arguments.index("tmax_workers") + 1 :]).life


# -- the process ----------------------------------------------------------------------------------


def main(args: Sequence[str]) -> int:
    """Run the zygote, and in a forked child the worker; return 64 when the command line is wrong."""
    given = dict(zip(args[::2], args[1::2], strict=False))
    if (
        len(args) % 2
        or not given.keys() >= {"--fd", "--socket"}
        or given.keys() - {"--fd", "--socket", "--swarm", "--state", "--preload", "--orphan-ttl-s"}
    ):
        print(f"error: not a zygote's command line\nhint: it is started by the controller: {USAGE}", file=sys.stderr)
        return 64
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    listener = _take_listener(int(given["--fd"]))
    zygote = _prepare(
        listener,
        given["--socket"],
        [name for name in given.get("--preload", "").split(",") if name],
        float(given.get("--orphan-ttl-s", "900")),
    )
    setup = zygote.serve()
    del zygote
    return 0 if setup is None else zygote_child.live(setup)


def _take_listener(fd: int) -> socket.socket:
    """Return the inherited socket; close other inherited descriptors, which every worker would inherit too."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != fd:
            try:
                os.close(int(name))
            except OSError:
                pass  # the descriptor of the listing itself
    os.set_inheritable(fd, False)
    return socket.socket(fileno=fd)


def _prepare(listener: socket.socket, path: str, wanted: Sequence[str], orphan_ttl_s: float) -> Zygote:
    begun = time.monotonic()
    loaded = load(wanted)
    for missing in loaded.missing:
        _log(f"not imported: {missing}")
    if loaded.broken:
        _log(f"cannot fork workers: {loaded.broken}")
    zygote = Zygote(listener, path, loaded, orphan_ttl_s=orphan_ttl_s)
    # A collection in a child would write to every page it visits, and so copy it: exclude present objects.
    gc.collect()
    gc.freeze()
    found = ", ".join(f"{name} {version}" for name, version in loaded.modules.items()) or "nothing more"
    _log(f"ready in {1000 * (time.monotonic() - begun):.0f} ms: {found}")
    return zygote


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
