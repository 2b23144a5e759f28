"""The server against peers that behave, and peers that do not."""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
from typing import Any, Self

import pytest

from tests.integration.control.toy import Toy
from tests.wait import wait_until
from tmax.control.bulk import Frames, decode_reply, encode
from tmax.control.protocol import BULK_HEAD, BULK_MARK, MAX_LINE_BYTES, BulkCancel, BulkRefused, BulkWatch
from tmax.control.server import MAX_UNSENT_BYTES, Server
from tmax.errors import FolderError
from tmax.layout import SUN_PATH_BYTES
from tmax.reactor import Reactor


class Raw:
    """A peer that may say anything."""

    def __init__(self, swarm: Toy) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(swarm.layout.control)
        self.file = self.sock.makefile("rb")

    def say(self, data: bytes) -> None:
        self.sock.sendall(data)

    def line(self) -> Any:
        line = self.file.readline()
        return json.loads(line) if line else None

    def ended(self) -> bool:
        try:
            return self.file.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        self.file.close()
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def ask(**fields: object) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def test_the_socket_is_for_its_owner_only_and_goes_with_the_server(swarm: Toy) -> None:
    found = os.lstat(swarm.layout.control)
    assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o600
    assert stat.S_IMODE(os.lstat(swarm.layout.runtime).st_mode) == 0o700
    swarm.stop()
    assert not os.path.lexists(swarm.layout.control)


def test_a_stale_socket_is_replaced_and_a_file_in_the_way_is_not(swarm: Toy) -> None:
    swarm.stop()
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(swarm.layout.control)
    stale.close()
    swarm.start()
    with Raw(swarm) as peer:
        peer.say(ask(verb="echo"))
        assert peer.line()["ok"]
    swarm.stop()
    with open(swarm.layout.control, "w", encoding="utf-8"):
        pass
    reactor = Reactor()
    try:
        with pytest.raises(FolderError, match="is not a socket"):
            Server(swarm.layout.control, reactor, swarm)
        with pytest.raises(FolderError, match="too long"):
            Server(f"{swarm.layout.runtime}/{'x' * SUN_PATH_BYTES}", reactor, swarm)
        os.chmod(swarm.layout.runtime, 0o755)
        with pytest.raises(FolderError, match="open to others"):
            Server(swarm.layout.control, reactor, swarm)
    finally:
        os.chmod(swarm.layout.runtime, 0o700)
        reactor.close()


def test_the_peers_pid_is_the_kernels(swarm: Toy) -> None:
    with Raw(swarm) as peer:
        peer.say(ask(verb="echo"))
        assert peer.line()["pid"] == os.getpid()


def test_several_requests_on_one_connection_are_answered_in_order_even_when_some_take_time(swarm: Toy) -> None:
    with Raw(swarm) as peer:
        peer.say(
            ask(verb="later", name="a") + ask(verb="echo", n=1) + ask(verb="later", name="b") + ask(verb="missing") + ask(verb="echo", n=2)
        )
        answers = [peer.line() for _ in range(5)]
    assert [answers[0]["late"], answers[1]["n"], answers[2]["late"], answers[4]["n"]] == ["a", 1, "b", 2]
    assert answers[3] == {"error": {"code": "not-found", "message": "no such thing", "hint": "look elsewhere"}}


def test_a_request_byte_by_byte_is_one_request(swarm: Toy) -> None:
    with Raw(swarm) as peer:
        for byte in ask(verb="echo", text="ä"):
            peer.say(bytes([byte]))
        assert peer.line()["text"] == "ä"


def test_bytes_that_are_not_utf8_come_through_as_lone_surrogates(swarm: Toy) -> None:
    name = os.fsdecode(b"caf\xe9")
    with Raw(swarm) as peer:
        peer.say(ask(verb="echo", argv=[name]))
        assert peer.line()["argv"] == [name]
    assert swarm.heard[-1][1]["argv"] == [name]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"\xff\xfe",
        b"[1, 2]",
        b'"verb"',
        b"{}",
        b'{"verb": 7}',
        b'{"verb": ""}',
        b"[" * 100_000,
        b'{"verb": "echo", "n": ' + b"9" * 10_000 + b"}",
    ],
)
def test_what_is_no_request_is_a_usage_error_and_the_connection_goes_on(swarm: Toy, line: bytes) -> None:
    with Raw(swarm) as peer:
        peer.say(line + b"\n\n  \n")
        assert peer.line()["error"]["code"] == "usage"
        peer.say(ask(verb="echo", still=True))
        assert peer.line()["still"]


def test_a_defect_in_a_handler_is_answered_and_hurts_nobody(swarm: Toy, caplog: pytest.LogCaptureFixture) -> None:
    with Raw(swarm) as peer, Raw(swarm) as other:
        peer.say(ask(verb="count"))  # no "to": a KeyError in the handler
        assert "internal error" in peer.line()["error"]["message"]
        other.say(ask(verb="echo"))
        assert other.line()["ok"]
    assert "KeyError" in caplog.text


def test_a_line_without_end_is_refused_and_the_connection_closed(swarm: Toy) -> None:
    with Raw(swarm) as peer:
        try:
            peer.say(b" " * (MAX_LINE_BYTES + 1024 * 1024))
        except (BrokenPipeError, ConnectionResetError):
            pass  # it need not be read to its end
        assert "longer than" in peer.line()["error"]["message"]
        assert peer.ended()


def test_a_bulk_frame_that_is_none_is_refused_and_the_connection_closed(swarm: Toy) -> None:
    for bad in (BULK_HEAD.pack(BULK_MARK, 2**31), BULK_HEAD.pack(BULK_MARK, 3) + b"abc", encode(BulkWatch((1,))) + b"{" + bytes(9)):
        with Raw(swarm) as peer:
            peer.say(bad)
            bodies = Frames().feed(peer.file.read())
            refused = decode_reply(bodies[-1])
            assert isinstance(refused, BulkRefused) and refused.code == "usage" and refused.seqs == ()


def test_an_error_for_a_bulk_request_is_told(swarm: Toy) -> None:
    with Raw(swarm) as peer:
        peer.say(encode(BulkCancel((1,))))
        refused = decode_reply(Frames().feed(peer.file.read())[-1])
        assert isinstance(refused, BulkRefused) and refused.code == "not-found"


def test_the_end_of_a_peer_is_said_once_and_answers_to_it_are_dropped(swarm: Toy) -> None:
    with Raw(swarm) as peer:
        peer.say(ask(verb="never"))
        wait_until(lambda: swarm.open_requests)
    wait_until(lambda: swarm.closed)
    said = swarm.open_requests[0]
    assert not said.client.alive
    swarm.do(lambda: said.stream(one=1))
    swarm.do(lambda: said.answer(two=2))
    with Raw(swarm) as other:
        other.say(ask(verb="echo"))
        assert other.line()["ok"]
    wait_until(lambda: len(swarm.closed) == 2)
    assert len(set(swarm.closed)) == 2


def test_a_reset_by_the_peer_is_an_end_like_any_other(swarm: Toy) -> None:
    for _ in range(20):
        peer = Raw(swarm)
        peer.say(ask(verb="count", to=5000))
        peer.close()  # with answers unread: ECONNRESET or EPIPE on the other side
    wait_until(lambda: len(swarm.closed) == 20)


def test_a_slow_reader_is_dropped_and_a_patient_one_gets_everything(swarm: Toy) -> None:
    lines = MAX_UNSENT_BYTES // (1024 * 1024) + 8
    with Raw(swarm) as slow:
        slow.say(ask(verb="flood", lines=lines))
        wait_until(lambda: swarm.closed)
    with Raw(swarm) as patient:
        patient.say(ask(verb="flood", lines=40))
        for _ in range(40):
            assert len(patient.line()["data"]) == 1024 * 1024
        wait_until(lambda: swarm.open_requests[-1].client.unsent_bytes == 0)
        assert swarm.open_requests[-1].client.alive


def test_a_peer_that_only_stops_reading_is_noticed_when_something_is_said(swarm: Toy) -> None:
    with Raw(swarm) as peer:
        peer.say(ask(verb="never"))
        wait_until(lambda: swarm.open_requests)
        peer.sock.shutdown(socket.SHUT_RD)
        swarm.do(lambda: swarm.open_requests[0].stream(now=True))
        wait_until(lambda: swarm.closed)


def test_structs_and_bytes_in_answers_become_json(swarm: Toy) -> None:
    from tmax.core.snapshot import Latency

    with Raw(swarm) as peer:
        peer.say(ask(verb="never"))
        wait_until(lambda: swarm.open_requests)
        swarm.do(lambda: swarm.open_requests[0].answer(latency=Latency(count=3), tail=b"\x00\xff", pairs=((1, 2),)))
        assert peer.line() == {"ok": True, "latency": {"p50_s": None, "p99_s": None, "count": 3}, "tail": "AP8=", "pairs": [[1, 2]]}


def test_another_user_is_sent_away(swarm: Toy) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    # Root passes the file modes, so the peer check is all that is left; a child with another euid connects.
    os.chmod(swarm.layout.runtime, 0o711)
    os.chmod(os.path.dirname(swarm.layout.runtime), 0o711)
    os.chmod(swarm.layout.control, 0o666)
    code = (
        "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        's.sendall(b\'{"verb": "echo"}\\n\'); sys.exit(0 if s.recv(100) == b"" else 9)'
    )
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", code, swarm.layout.control], capture_output=True, text=True, timeout=20, check=False)
    # Either it reads end-of-file, or the reset already hits what it says.
    assert done.returncode == 0 or "BrokenPipe" in done.stderr or "ConnectionReset" in done.stderr, done
    assert not swarm.heard


def test_no_descriptors_left_turns_connections_away_and_spins_not(swarm: Toy) -> None:
    """In a process of its own, as the limit is the process's."""
    code = f"""
import os, resource, socket, sys, threading
sys.path[:0] = {[os.path.abspath(part) for part in (".", "pipes", "workers")]!r}
from tests.integration.control.toy import toy
with toy() as made:
    spare = [os.dup(1) for _ in range(20)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(spare) + 1, max(spare) + 1))
    s = socket.socket(fileno=None) if False else None
    for fd in spare[:1]: os.close(fd)
    client = socket.socket(socket.AF_UNIX); client.settimeout(5)
    client.connect(made.layout.control)
    assert client.recv(1) == b"", "turned away"
    for fd in spare[1:]: os.close(fd)
    client.close()
    client = socket.socket(socket.AF_UNIX); client.settimeout(5)
    client.connect(made.layout.control)
    client.sendall(b'{{"verb": "echo"}}\\n')
    assert b"ok" in client.recv(100)
    client.close()
"""
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr


def test_credentials_have_the_size_we_unpack() -> None:
    assert struct.calcsize("iII") == 12
