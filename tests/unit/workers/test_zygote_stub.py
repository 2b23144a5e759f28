"""The stub against a zygote of the test's own: it ends as it is told, and becomes the worker itself only where that is safe."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.wait import wait_until
from tmax_workers import stub
from tmax_workers.zygote_wire import DESCRIPTORS, ForkRequest, request_in


class Zygote:
    """Listens, and takes one request."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(4)
        self.listener.settimeout(10)
        self.peer: socket.socket | None = None
        self.stubs: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, mark: str = "TMAX_LIFE=s:f:1", **env: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-I", "-S", stub.__file__, str(self.path), mark, "--", *command]
        given = {"TMUX": "x", "TMUX_PANE": "y", "KEPT": "yes", **env}
        self.stubs.append(subprocess.Popen(argv, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        return self.stubs[-1]

    def accept(self, look: Callable[[list[int]], None] = lambda _fds: None) -> ForkRequest:
        """Take a request; ``look`` at its descriptors, which are closed then: the stub's own output ends with the last of them."""
        self.peer, _ = self.listener.accept()
        data, fds = b"", []
        while (request := request_in(data)) is None:
            more, came, _, _ = socket.recv_fds(self.peer, 65536, DESCRIPTORS)
            data, fds = data + more, fds + came
        look(fds)
        for fd in fds:
            os.close(fd)
        return request

    def say(self, text: bytes) -> None:
        assert self.peer is not None
        self.peer.sendall(text)

    def hang_up(self) -> None:
        assert self.peer is not None
        self.peer.close()

    def close(self) -> None:
        self.listener.close()
        if self.peer is not None:
            self.peer.close()
        for process in self.stubs:
            process.kill()
            process.communicate()


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    made = Zygote(tmp_path / "z")
    yield made
    made.close()


def finish(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    out, err = process.communicate(timeout=10)
    return process.returncode, out, err


def test_it_passes_command_environment_and_descriptors(zygote: Zygote) -> None:
    process = zygote.start("/bin/echo", "a b", "\udcff", ODD="\udcfe=1", EMPTY="")

    def look(fds: list[int]) -> None:
        assert len(fds) == DESCRIPTORS
        assert process.stdout is not None
        assert os.fstat(fds[1]).st_ino == os.fstat(process.stdout.fileno()).st_ino
        assert os.path.samestat(os.stat(f"/proc/self/fd/{fds[3]}"), os.stat("."))

    request = zygote.accept(look)
    assert request.argv == (b"/bin/echo", b"a b", b"\xff")
    env = {key: value for key, value in request.env.items() if key != b"LC_CTYPE"}
    assert env == {b"KEPT": b"yes", b"ODD": b"\xfe=1", b"EMPTY": b"", b"TMAX_LIFE": b"s:f:1"}
    zygote.say(b"hello\nforked %d\nexit 0\n" % os.getpid())
    assert finish(process) == (0, b"", b"")


def test_a_request_larger_than_the_socket_takes_at_once(zygote: Zygote) -> None:
    big = {f"BIG{number}": "x" * 100_000 for number in range(8)}
    zygote.start("/bin/echo", **big)
    request = zygote.accept()
    assert {key.decode(): value.decode() for key, value in request.env.items() if key.startswith(b"BIG")} == big


@pytest.mark.parametrize(
    "told, code",
    [(b"exit 0", 0), (b"exit 37", 37), (b"exit 255", 255), (b"signal 9", -9), (b"signal 11", -11), (b"signal 15", -15), (b"signal 1", -1)],
)
def test_it_ends_as_its_worker_ended(zygote: Zygote, told: bytes, code: int) -> None:
    process = zygote.start("/bin/echo")
    zygote.accept()
    for letter in b"hello\nforked %d\n%b\n" % (os.getpid(), told):
        zygote.say(bytes([letter]))
    assert finish(process)[0] == code


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "100"]) as process:
        yield process
        process.kill()


def test_it_stays_as_long_as_a_worker_whose_zygote_is_lost(zygote: Zygote, child: subprocess.Popen[bytes]) -> None:
    process = zygote.start("/bin/echo", "never")
    zygote.accept()
    zygote.say(b"hello\nforked %d\n" % child.pid)
    zygote.hang_up()
    wait_until(lambda: waits_in(process.pid, "poll"))
    assert process.poll() is None
    child.kill()
    code, out, err = finish(process)
    assert (code, out) == (69, b"")
    assert b"the exit status of the worker is unknown" in err


def waits_in(pid: int, call: str) -> bool:
    """Whether a process waits in a system call; asked of the kernel's own name for where it sleeps."""
    where = Path(f"/proc/{pid}/wchan").read_text()
    return call in where or where == "0"  # a kernel that does not tell


PRINT = ("/bin/sh", "-c", 'echo "worker $0 $TMAX_LIFE ${TMUX-none}"', "here")


def test_without_a_zygote_it_becomes_the_worker(zygote: Zygote) -> None:
    zygote.listener.close()
    process = zygote.start(*PRINT)
    code, out, err = finish(process)
    assert (code, out) == (0, b"worker here s:f:1 none\n")
    assert b"starts without it" in err


Answer = Callable[[Zygote], None]


@pytest.mark.parametrize("answer", [lambda zygote: zygote.say(b"hello\nrefused two threads\n"), lambda zygote: zygote.hang_up()])
def test_where_nothing_was_forked_for_sure_it_becomes_the_worker(zygote: Zygote, answer: Answer) -> None:
    process = zygote.start(*PRINT)
    zygote.accept()
    answer(zygote)
    assert finish(process)[:2] == (0, b"worker here s:f:1 none\n")


def test_a_backlog_that_is_closed_lets_it_become_the_worker(zygote: Zygote) -> None:
    process = zygote.start(*PRINT)
    wait_until(lambda: waits_in(process.pid, "unix_stream"))
    zygote.listener.close()
    assert finish(process)[:2] == (0, b"worker here s:f:1 none\n")


@pytest.mark.parametrize(
    "answer, code, words",
    [
        (lambda zygote: zygote.say(b"hello\ngone nobody wants it\n"), 75, b"nobody wants it"),
        # It may have been forked: a second worker of the same life must not come to be.
        (lambda zygote: (zygote.say(b"hello\n"), zygote.hang_up()), 69, b"the exit status of the worker is unknown"),
    ],
)
def test_where_it_might_have_been_forked_it_only_ends(zygote: Zygote, answer: Answer, code: int, words: bytes) -> None:
    process = zygote.start(*PRINT)
    zygote.accept()
    answer(zygote)
    got, out, err = finish(process)
    assert (got, out) == (code, b"")
    assert words in err


def test_a_hangup_does_not_end_it(zygote: Zygote) -> None:
    process = zygote.start("/bin/echo")
    zygote.accept()
    process.send_signal(signal.SIGHUP)
    zygote.say(b"hello\nforked %d\nexit 5\n" % os.getpid())
    assert finish(process)[0] == 5


def test_a_command_that_cannot_be_started_is_told(zygote: Zygote) -> None:
    zygote.listener.close()
    code, _, err = finish(zygote.start("/nonexistent/python", "-P"))
    assert code == 69
    assert b"cannot start /nonexistent/python: No such file" in err
