"""Bulk frames: messages are decoded as encoded, however the bytes are cut; garbage ends the connection and nothing else."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmax.control.bulk import Frames, decode_reply, decode_request, encode, encode_replies
from tmax.control.protocol import (
    BULK_HEAD,
    BULK_MARK,
    MAX_BULK_BYTES,
    BulkAccepted,
    BulkCancel,
    BulkEnd,
    BulkEnded,
    BulkRefused,
    BulkReply,
    BulkRequest,
    BulkSubmit,
    BulkTask,
    BulkWatch,
)
from tmax.core.model import Crash
from tmax.errors import UsageError
from tmax_pipes.jobs import Blob, KernelJob, PythonJob, ShellJob
from tmax_pipes.messages import Failure, Report
from tmax_pipes.options_struct import NOTHING_GIVEN, GivenOptions

numbers = st.integers(0, 2**53)
jobs = st.one_of(
    st.builds(PythonJob, call=st.binary(max_size=50), label=st.text(max_size=10), path=st.lists(st.text(max_size=5)).map(tuple)),
    st.builds(PythonJob, call=st.builds(Blob, digest=st.just("0" * 64), size_bytes=numbers), label=st.just("f")),
    st.builds(ShellJob, argv=st.lists(st.binary(max_size=5), min_size=1).map(tuple), env=st.dictionaries(st.binary(), st.binary())),
    st.builds(KernelJob, name=st.just("matmul"), params=st.dictionaries(st.text(max_size=3), st.integers(-5, 5) | st.booleans())),
)
options = st.builds(
    lambda **given: GivenOptions(**given) if given else NOTHING_GIVEN,
    delivery=st.sampled_from([msgspec.UNSET, "at-most-once"]),
    timeout_s=st.floats(0, 9),
)
tasks = st.builds(BulkTask, seq=numbers, job=jobs, options=options)
ids = st.lists(numbers, max_size=5).map(tuple)
requests = st.one_of(
    st.builds(BulkSubmit, client=st.text(max_size=9), tasks=st.lists(tasks, max_size=4).map(tuple), again=st.booleans()),
    st.builds(BulkWatch, ids=ids),
    st.builds(BulkCancel, ids=ids),
)
ends = st.builds(
    BulkEnd,
    id=numbers,
    state=st.sampled_from(["done", "failed", "dead", "cancelled", "interrupted", "unknown"]),
    result=st.binary(max_size=40),
    failure=st.none() | st.builds(Failure, kind=st.just("exception"), message=st.text(max_size=9), error=st.binary(max_size=9)),
    report=st.none() | st.builds(Report, tail=st.binary(max_size=9)),
    crashes=st.lists(st.builds(Crash, at=st.just(1.0), life=numbers, worker=st.just("w1"), cause=st.text(max_size=9)), max_size=2).map(
        tuple
    ),
)
replies = st.one_of(
    st.builds(BulkAccepted, pairs=st.lists(st.tuples(numbers, numbers), max_size=5).map(tuple)),
    st.builds(BulkRefused, seqs=ids, code=st.just("usage"), message=st.text(max_size=9)),
    st.builds(BulkEnded, ends=st.lists(ends, max_size=4).map(tuple)),
)


@given(st.lists(requests, max_size=5), st.integers(1, 40))
def test_requests_are_decoded_as_encoded_however_the_bytes_are_cut(said: list[BulkRequest], step: int) -> None:
    data = b"".join(map(encode, said))
    frames = Frames()
    heard = [decode_request(body) for at in range(0, len(data), step) for body in frames.feed(data[at : at + step])]
    assert heard == said


@given(st.lists(replies, max_size=5))
def test_replies_are_decoded_as_encoded(said: list[BulkReply]) -> None:
    assert [decode_reply(body) for body in Frames().feed(encode_replies(said))] == said


@given(st.binary(min_size=BULK_HEAD.size, max_size=64))
def test_garbage_is_refused_or_waits_for_more_and_never_becomes_a_message_of_another_kind(data: bytes) -> None:
    try:
        bodies = Frames().feed(data)
    except UsageError:
        return
    for body in bodies:
        try:
            decode_request(body)
        except UsageError:
            pass


def test_a_length_over_the_cap_is_refused_before_any_of_it_is_there() -> None:
    with pytest.raises(UsageError, match="not a bulk frame"):
        Frames().feed(BULK_HEAD.pack(BULK_MARK, MAX_BULK_BYTES + 1))


def test_a_wrong_mark_behind_a_good_frame_is_refused() -> None:
    with pytest.raises(UsageError, match="not a bulk frame"):
        Frames().feed(encode(BulkWatch((1,))) + b"{" + bytes(8))


def test_ends_too_many_for_a_frame_are_sent_in_several_in_order() -> None:
    said = BulkEnded(tuple(BulkEnd(id=number, state="done", result=bytes(3_000_000)) for number in range(7)))
    heard = [decode_reply(body) for body in Frames().feed(encode_replies([said]))]
    assert len(heard) > 1
    assert [end.id for reply in heard if isinstance(reply, BulkEnded) for end in reply.ends] == list(range(7))


def test_one_message_that_fits_no_frame_is_an_error_where_it_is_encoded() -> None:
    with pytest.raises(UsageError, match="does not fit"):
        encode_replies([BulkEnded((BulkEnd(id=1, state="done", result=bytes(MAX_BULK_BYTES)),))])


def test_the_two_formats_cannot_be_confused() -> None:
    assert encode(BulkWatch(()))[0] == BULK_MARK
    assert BULK_MARK not in b'{ \t\r\n["' and bytes([BULK_MARK]).decode("latin-1").isascii() is False
