"""What only the socket can get wrong; the rest is the contract in tests/contract/test_transport.py."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from tmax_pipes.pipe_errors import ConnectionEnded, FrameError
from tmax_pipes.sockets import SocketTransport


def pair() -> tuple[SocketTransport, socket.socket]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return SocketTransport(one, "worker"), other


def piece(number: int, data: bytes) -> bytes:
    return struct.pack("<BI", number, len(data)) + data


def test_pieces_byte_by_byte() -> None:
    worker, raw = pair()
    got = []
    for byte in piece(0, b"who") + piece(1, b"run") + piece(0, b""):
        raw.send(bytes((byte,)))
        got += worker.read()
    assert got == [("control", b"who"), ("tasks", b"run"), ("control", b"")]
    worker.close()
    raw.close()


@pytest.mark.parametrize("garbage", [piece(2, b"own lane"), piece(3, b"x"), piece(255, b"x"), b"\x00\xff\xff\xff\xff"])
def test_garbage_is_a_frame_error(garbage: bytes) -> None:
    worker, raw = pair()
    raw.send(garbage)
    with pytest.raises(FrameError):
        worker.read()
    worker.close()
    raw.close()


def test_a_peer_that_resets_has_ended() -> None:
    worker, raw = pair()
    worker.write("results", b"never read")
    raw.close()
    with pytest.raises(ConnectionEnded):
        worker.read()
    worker.close()


def test_the_socket_of_another_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(Exception, match="another user"):
        SocketTransport(one, "controller")
    assert one.fileno() == -1
    other.close()
