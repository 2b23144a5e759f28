"""What a command reads: a path, a descriptor that its submitter hands over, or nothing."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

import pytest

from tests.integration.workers.harness import Bench, run, sh, shell
from tests.wait import wait_until
from tmax_pipes.messages import Stop


class Submitter:
    """Listens under an abstract name, as ``tmax run`` does."""

    def __init__(self, name: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(f"\0{name}")
        self.sock.listen()
        self.path = f"@{name}".encode()

    def give(self, fd: int) -> None:
        """Wait for the worker, and give it this descriptor; -1: refuse."""
        worker, _ = self.sock.accept()
        with worker:
            if fd >= 0:
                socket.send_fds(worker, [b"\n"], [fd])
            else:
                worker.send(b"not twice")

    def close(self) -> None:
        self.sock.close()


@pytest.fixture
def submitter(folder: Path):
    one = Submitter(f"tmax-test-{folder.name}")
    yield one
    one.close()


@pytest.mark.parametrize("split", [False, True])
def test_a_descriptor_is_handed_over_and_read_by_the_command_itself(worker: Bench, submitter: Submitter, folder: Path, split: bool):
    (folder / "f").write_bytes(b"one\ntwo\n")
    with (folder / "f").open("rb") as file:
        worker.say(run(1, shell("head", "-c", "4", split=split, stdin=submitter.path)))
        submitter.give(file.fileno())
        assert worker.done(1).report.tail == b"one\n"
        assert os.read(file.fileno(), 10) == b"two\n", "the rest is there for the next one"


def test_a_terminal_is_still_the_commands_when_its_input_is_another(worker: Bench, submitter: Submitter):
    reading, writing = os.pipe()
    worker.say(run(1, sh("cat; test -t 1 && echo tty >/dev/tty", stdin=submitter.path)))
    submitter.give(reading)
    os.close(reading)
    os.write(writing, b"in\n")
    os.close(writing)
    assert worker.done(1).report.tail == b"in\ntty\n"


def test_a_submitter_that_refuses_or_hangs_up(worker: Bench, submitter: Submitter):
    worker.say(run(1, shell("cat", stdin=submitter.path)))
    submitter.give(-1)
    assert (worker.failed(1).failure.kind, worker.failed(1).failure.message) == ("refused", "not twice")
    worker.say(run(2, sh("read x || echo end", stdin=submitter.path)))
    submitter.sock.accept()[0].close()
    assert worker.done(2).report.tail == b"end\n"


def test_a_submitter_that_others_do_not_let_through_is_not_taken_for_one_that_is_gone(worker: Bench, submitter: Submitter):
    submitter.sock.listen(0)
    others: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(BlockingIOError):
            while True:
                others.append(stack.enter_context(socket.socket(socket.AF_UNIX)))
                others[-1].setblocking(False)
                others[-1].connect(b"\0" + submitter.path[1:])
        worker.say(run(1, shell("cat", stdin=submitter.path)))
        failure = worker.failed(1).failure
    assert (failure.kind, "cannot be opened: Resource temporarily unavailable" in failure.message) == ("refused", True)


@pytest.mark.parametrize("timed", [False, True])
def test_one_that_does_not_answer_keeps_the_worker_neither_from_a_cancel_nor_from_a_time_out(
    worker: Bench, submitter: Submitter, timed: bool
):
    worker.say(run(1, shell("cat", stdin=submitter.path), timeout_s=0.3 if timed else 0))
    with submitter.sock.accept()[0]:
        if not timed:
            worker.say(Stop(1, 1))
        assert worker.failed(1).failure.kind == ("timeout" if timed else "cancelled")
    worker.say(run(2, shell("true")))
    worker.done(2)


@pytest.mark.parametrize("split", [False, True])
def test_paths_and_what_is_not_there(worker: Bench, folder: Path, split: bool):
    (folder / "f").write_bytes(b"file")
    os.mkfifo(folder / "fifo", 0o600)
    paths = {1: b"/dev/null", 2: os.fsencode(folder / "f"), 3: os.fsencode(folder / "fifo"), 4: b"@tmax-nobody-listens"}
    worker.say(*(run(task, sh("cat; echo .", split=split, stdin=path)) for task, path in paths.items()))
    assert [worker.done(task).report.tail for task in paths] == [b".\n", b"file.\n", b".\n", b".\n"]
    worker.say(run(5, shell("cat", split=split, stdin=os.fsencode(folder / "missing"))))
    assert "missing" in worker.failed(5).failure.message
    worker.say(run(6, shell("no-such-command", split=split, stdin=paths[2])), run(7, shell("true")))
    assert worker.failed(6).failure.exit_code == 127
    worker.done(7)
    wait_until(
        lambda: not [name for name in os.listdir(f"/proc/{worker.pid}/fd") if "fifo" in os.readlink(f"/proc/{worker.pid}/fd/{name}")]
    )
