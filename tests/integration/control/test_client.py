"""The blocking client: answers, errors, ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from tests.integration.control.toy import Toy
from tests.wait import wait_until
from tmax.control.client import connect
from tmax.errors import FolderError, NoSwarm, NotFound, TmaxError, WaitTimedOut


def test_requests_and_answers(swarm: Toy) -> None:
    with connect(swarm.layout) as client:
        assert client.request("echo", verb_="x", path=os.fsdecode(b"\xff")) == {
            "verb_": "x",
            "path": os.fsdecode(b"\xff"),
            "pid": os.getpid(),
        }
        assert client.request("later", name="n") == {"late": "n"}
        assert client.controller_pid == os.getpid()
        assert client.fileno() >= 0
    client.close()
    assert client.fileno() == -1
    with pytest.raises(NoSwarm):
        client.request("echo")


def test_a_stream_gives_each_line_and_the_last(swarm: Toy) -> None:
    with connect(swarm.layout) as client:
        lines = list(client.stream("count", to=3))
        assert lines == [{"more": True, "number": 0}, {"more": True, "number": 1}, {"more": True, "number": 2}, {"done": True}]
        assert client.request("count", to=2) == {"done": True}
        assert client.request("echo", n=1)["n"] == 1


def test_a_stream_left_early_closes_the_connection(swarm: Toy) -> None:
    with connect(swarm.layout) as client:
        stream = client.stream("count", to=3)
        next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert client.fileno() == -1
    wait_until(lambda: swarm.closed)


def test_errors_come_as_their_class_and_the_connection_goes_on(swarm: Toy) -> None:
    with connect(swarm.layout) as client:
        with pytest.raises(NotFound, match="no such thing") as caught:
            client.request("missing")
        assert caught.value.hint == "look elsewhere"
        assert client.request("echo", n=1)["n"] == 1


def test_nobody_there_is_no_swarm(swarm: Toy) -> None:
    swarm.stop()
    with pytest.raises(NoSwarm):
        connect(swarm.layout)
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(swarm.layout.control)
    os.chmod(swarm.layout.control, 0o600)
    with pytest.raises(NoSwarm):
        connect(swarm.layout)
    stale.close()


def test_a_socket_open_to_others_is_not_trusted(swarm: Toy) -> None:
    os.chmod(swarm.layout.control, 0o666)
    with pytest.raises(FolderError, match="open to others"):
        connect(swarm.layout)
    os.unlink(swarm.layout.control)
    with open(swarm.layout.control, "w", encoding="utf-8"):
        pass
    with pytest.raises(FolderError, match="not a socket"):
        connect(swarm.layout)


def test_a_controller_that_ends_instead_of_answering(swarm: Toy) -> None:
    with connect(swarm.layout) as client:
        client.request("echo")
        swarm.do(lambda: setattr(swarm, "_stop", True))
        with pytest.raises(NoSwarm):
            client.request("never")


def test_silence_is_limited_when_asked(swarm: Toy) -> None:
    with connect(swarm.layout) as client:
        client.answer_s = 0.05
        with pytest.raises(WaitTimedOut, match=r"0\.05 s"):
            client.request("never")


def test_a_full_queue_of_connections_is_waited_for_and_no_longer(swarm: Toy) -> None:
    swarm.stop()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(swarm.layout.control)
    os.chmod(swarm.layout.control, 0o600)
    listener.listen(0)
    first = connect(swarm.layout)
    with pytest.raises(WaitTimedOut):
        connect(swarm.layout, timeout_s=0.1)
    first.close()
    listener.close()


def test_too_long_a_request_gets_its_answer(swarm: Toy) -> None:
    with connect(swarm.layout) as client, pytest.raises(TmaxError, match="longer than"):
        client.request("echo", text="x" * 12_000_000)


def test_it_loads_with_the_standard_library_alone() -> None:
    code = "import sys, tmax.control.client; bad = {'msgspec', 'pydantic', 'typer'} & set(sys.modules); sys.exit(str(bad) if bad else 0)"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == 0
