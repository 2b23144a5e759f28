"""What travels on the zygote's socket: whole or not at all, and never more than it may be."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmax_workers.zygote_wire import (
    REQUEST_BYTES,
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
    RequestStatus,
    Retire,
    Stale,
    ToZygote,
    ZygoteReady,
    from_zygote,
    line_of,
    request_in,
    to_zygote,
)

word = st.binary(max_size=20).map(lambda text: text.replace(b"\0", b"?"))
name = word.map(lambda text: b"N" + text.replace(b"=", b"?"))


def packed(argv: list[bytes], env: dict[bytes, bytes]) -> bytes:
    """As the stub packs it."""
    body = b"\0".join([b"%d" % len(argv), *argv, *(key + b"=" + value for key, value in env.items())])
    return b"S" + len(body).to_bytes(4, "big") + body


@given(argv=st.lists(word, min_size=1, max_size=5), env=st.dictionaries(name, word, max_size=5), cut=st.floats(0, 1, exclude_max=True))
def test_a_request_is_understood_once_it_is_whole(argv: list[bytes], env: dict[bytes, bytes], cut: float) -> None:
    data = packed(argv, env)
    assert request_in(data[: int(len(data) * cut)]) is None
    assert request_in(data) == ForkRequest(tuple(argv), env)


@pytest.mark.parametrize(
    "data",
    [
        b"Xabcd",
        b"S" + (REQUEST_BYTES + 1).to_bytes(4, "big"),
        b"S\0\0\0\0",
        b"S\0\0\0\x01x",
        b"S\0\0\0\x010",
        b"S\0\0\0\x01\x39",
        b"S\0\0\0\x04-1\0a",
    ],
)
def test_what_can_never_be_a_request_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest):
        request_in(data)


@given(st.binary(max_size=60))
def test_any_bytes_give_a_request_or_none_or_bad_request(data: bytes) -> None:
    try:
        assert request_in(data) is None or isinstance(request_in(data), ForkRequest)
    except BadRequest:
        pass


@pytest.mark.parametrize("message", [RequestStatus(), CancelFork(3), Acknowledge(4), Retire(), End()])
def test_orders_come_back_as_they_went(message: ToZygote) -> None:
    line = line_of(message)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert to_zygote(line) == message


ENDED = Ended(1, 22, 9, None, 4096)
READY = ZygoteReady(2, 1, "c", "/usr/bin/python3", ("numpy",), {"numpy": "2"}, ("x: no\nwhy",), "", (Child(1, 2, 3),), (ENDED,))


@pytest.mark.parametrize("message", [READY, Forked(1, 2, 3), NotForked(1, "two\nlines"), Stale(("/a\n.py",)), ENDED])
def test_reports_come_back_as_they_went(message: FromZygote) -> None:
    line = line_of(message)
    assert line.count(b"\n") == 1
    assert from_zygote(line) == message


def test_other_words_are_not_understood() -> None:
    for line in (b"", b"{}", b'{"type":"ready"}', b"\xff", b'{"type":"cancel","life":"3"}'):
        with pytest.raises(msgspec.DecodeError):
            to_zygote(line)
