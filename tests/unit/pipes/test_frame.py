"""Frames: whole, byte by byte, with garbage around them, torn, flipped."""

from __future__ import annotations

import itertools
import random
import struct
import tracemalloc
import zlib

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.pipes.strategies import epochs, from_worker, messages, to_worker
from tmax_pipes.frame import HEADER_BYTES, MAX_FRAME_BYTES, Decoder, encode, encode_many
from tmax_pipes.jobs import PythonJob, ShellJob
from tmax_pipes.messages import Beat, Done, Go, Message, Report, Run, Stored, Who
from tmax_pipes.pipe_errors import FrameError

SPOKEN: list[Message] = [
    Who(epoch=3, swarm="s", worker="w1"),
    Run(task=1, attempt=1, job=PythonJob(call=b"\x00tX\x01\x00" * 5, label="a.b")),
    Run(task=2, attempt=1, job=ShellJob(argv=(b"echo", b"\xff")), needs_go=True),
    Go(task=2, attempt=1),
    Done(task=1, attempt=1, report=Report(duration_s=0.5, tail=b"out"), result=b"r", form="pickle"),
    Stored(keys=((1, 1), (2, 1))),
    Beat(task=1, attempt=1, rss_bytes=5),
]
STREAM = encode_many(SPOKEN, 3)
HEARD = [(3, message) for message in SPOKEN]


def framed(body: bytes, *, start: bytes = b"tX\x01\x00", epoch: int = 3) -> bytes:
    """A frame made by hand, after the drawing in the module, with a right checksum."""
    tail = struct.pack("<I", epoch) + body
    return start + struct.pack("<II", len(body), zlib.crc32(tail)) + tail


def taken_or_refused(body: bytes) -> bool:
    """Whether a frame with this body gives one message, or is refused for its body."""
    try:
        heard = Decoder("any").feed(framed(body))
    except FrameError as error:
        return error.why == "body"
    return len(heard) == 1


def why_of(decoder: Decoder, data: bytes) -> str:
    with pytest.raises(FrameError) as caught:
        decoder.feed(data)
    with pytest.raises(FrameError) as later:
        decoder.feed(STREAM)
    assert later.value.why == caught.value.why
    assert len(decoder._rest) == 0
    return caught.value.why


def test_header_is_as_drawn() -> None:
    body = msgspec.msgpack.encode(SPOKEN[3])
    assert encode(SPOKEN[3], 3) == framed(body)
    assert len(framed(b"")) == HEADER_BYTES


@pytest.mark.parametrize("size", [1, 2, 3, 7, 15, 16, 17, 100, len(STREAM)])
def test_stream_in_pieces(size: int) -> None:
    decoder = Decoder("any")
    heard: list[tuple[int, Message]] = []
    for at in range(0, len(STREAM), size):
        heard += decoder.feed(memoryview(STREAM)[at : at + size])
    assert heard == HEARD
    assert len(decoder._rest) == 0


def test_pieces_may_be_reused_by_the_caller() -> None:
    decoder = Decoder("any")
    buffer = bytearray(STREAM[:40])
    first = decoder.feed(buffer)
    buffer[:] = bytes(40)
    assert first + decoder.feed(STREAM[40:]) == HEARD


def test_nothing_fed_nothing_heard() -> None:
    assert Decoder("any").feed(b"") == []


@pytest.mark.parametrize("garbage", [b"\x00", b"x", b"t?", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64, STREAM[1:]])
def test_garbage_before(garbage: bytes) -> None:
    assert why_of(Decoder("any"), garbage + STREAM) == "magic"
    assert why_of(Decoder("any"), garbage) == "magic"


@pytest.mark.parametrize("garbage", [b"\x00", b"x", b"t?", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 64])
def test_garbage_after(garbage: bytes) -> None:
    decoder = Decoder("any")
    assert decoder.feed(STREAM) == HEARD
    assert why_of(decoder, garbage) == "magic"
    assert why_of(Decoder("any"), STREAM + garbage) == "magic"


def test_every_truncation_waits_then_completes() -> None:
    frame = encode(SPOKEN[1], 3)
    for cut in range(len(frame)):
        decoder = Decoder("any")
        assert decoder.feed(frame[:cut]) == []
        assert len(decoder._rest) == cut
        assert decoder.feed(frame[cut:]) == [(3, SPOKEN[1])]


def test_torn_frame_followed_by_another_writer_is_refused() -> None:
    frame = encode(SPOKEN[1], 3)
    for cut in range(1, len(frame)):
        with pytest.raises(FrameError):
            Decoder("any").feed(frame[:cut] + STREAM + bytes(MAX_FRAME_BYTES))  # a torn length may wait for that much


def test_every_flipped_bit_is_refused() -> None:
    frame = encode(SPOKEN[1], 3)
    behind = STREAM + bytes(MAX_FRAME_BYTES)  # a flipped length may wait for up to this much
    for at in range(len(frame)):
        for bit in range(8):
            flipped = bytearray(frame)
            flipped[at] ^= 1 << bit
            with pytest.raises(FrameError):
                Decoder("any").feed(bytes(flipped) + behind)


def test_why_names_the_check() -> None:
    body = msgspec.msgpack.encode(SPOKEN[3])
    assert why_of(Decoder("any"), framed(body, start=b"tY\x01\x00")) == "magic"
    assert why_of(Decoder("any"), framed(body, start=b"tX\x02\x00")) == "version"
    assert why_of(Decoder("any"), framed(body, start=b"tX\x01\x80")) == "version"
    assert why_of(Decoder("any"), framed(body)[:-1] + b"\x00") == "crc"
    assert why_of(Decoder("any"), b"tX\x01\x00" + struct.pack("<III", MAX_FRAME_BYTES - 15, 0, 3)) == "length"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x80",
        b"\x81\xa4type\xa5Other",
        msgspec.msgpack.encode(SPOKEN[3]) + b"\x00",
        b"\x83\xa4type\xa2Go\xa4task\xa11\xa7attempt\x01",
        b"\x82\xa4type\xa3Who\xa5swarm\xa2\xff\xfe",
        b"\x82\xa4type\xa6Stored\xa4keys\xdd\xff\xff\xff\xff",
        b"\x82\xa4type\xa6Stored\xa1x" + b"\x91" * 200_000,
    ],
    ids=["empty", "reserved", "untagged", "unknown", "trailing", "wrong type", "bad utf-8", "4G header", "nested"],
)
def test_body_that_is_no_message(body: bytes) -> None:
    assert why_of(Decoder("any"), framed(body)) == "body"


def test_wrong_direction_is_refused() -> None:
    assert why_of(Decoder("to_worker"), encode(Beat(), 1)) == "body"
    assert why_of(Decoder("from_worker"), encode(Go(task=1, attempt=1), 1)) == "body"


def test_announced_length_allocates_nothing() -> None:
    header = b"tX\x01\x00" + struct.pack("<III", 0xFFFF_FFFF, 0, 0)
    decoder = Decoder("any")
    tracemalloc.start()
    try:
        assert why_of(decoder, header) == "length"
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_largest_frame_travels_and_one_byte_more_does_not() -> None:
    empty = Run(task=1, attempt=1, job=PythonJob(call=bytes(70_000), label=""))
    room = MAX_FRAME_BYTES - len(encode(empty, 1))
    largest = Run(task=1, attempt=1, job=PythonJob(call=bytes(70_000 + room), label=""))
    frame = encode(largest, 1)
    assert len(frame) == MAX_FRAME_BYTES
    decoder = Decoder("to_worker")
    assert decoder.feed(frame[: 512 * 1024]) == []
    assert decoder.feed(frame[512 * 1024 :]) == [(1, largest)]
    with pytest.raises(FrameError) as caught:
        encode(Run(task=1, attempt=1, job=PythonJob(call=bytes(70_001 + room), label="")), 1)
    assert caught.value.why == "length"


@given(st.lists(messages, max_size=6), epochs, st.lists(st.integers(0, 4000), max_size=8))
@settings(max_examples=300)
def test_round_trip_in_any_pieces(spoken: list[Message], epoch: int, cuts: list[int]) -> None:
    data = encode_many(spoken, epoch)
    assert data == b"".join(encode(message, epoch) for message in spoken)
    decoder = Decoder("any")
    heard: list[tuple[int, Message]] = []
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, stop in itertools.pairwise(edges):
        heard += decoder.feed(data[start:stop])
    assert heard == [(epoch, message) for message in spoken]


@given(to_worker, from_worker, epochs)
@settings(max_examples=100)
def test_each_direction_has_its_decoder(order: Message, answer: Message, epoch: int) -> None:
    assert Decoder("to_worker").feed(encode(order, epoch)) == [(epoch, order)]
    assert Decoder("from_worker").feed(encode(answer, epoch)) == [(epoch, answer)]


@given(st.lists(st.binary(max_size=300), max_size=5))
@settings(max_examples=300)
def test_any_bytes_give_only_frame_errors(pieces: list[bytes]) -> None:
    decoder = Decoder("any")
    try:
        heard = [one for piece in pieces for one in decoder.feed(piece)]
    except FrameError:
        return
    assert heard == []


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_any_body_with_a_right_checksum_gives_a_message_or_a_frame_error(body: bytes) -> None:
    assert taken_or_refused(body)


def mutated(chance: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(4):
            case 0:
                changed[at : at + 1] = bytes((chance.randrange(256),))
            case 1:
                changed[at:at] = chance.randbytes(chance.randint(1, 5))
            case 2:
                del changed[at : at + chance.randint(1, 9)]
            case _:
                changed[at:] = changed[at : at + chance.randint(0, 40)]
    return bytes(changed)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_streams_give_true_frames_then_a_frame_error(seed: int) -> None:
    """What is heard of a damaged stream is a beginning of what was said: nothing is invented, nothing skipped."""
    chance = random.Random(seed)
    for _ in range(10_000):
        data = mutated(chance, STREAM)
        decoder, heard = Decoder("any"), []
        middle = chance.randrange(len(data) + 1)
        try:
            for piece in (data[:middle], data[middle:]):
                heard += decoder.feed(piece)
        except FrameError:
            pass
        assert heard == HEARD[: len(heard)], f"seed {seed}: {data.hex()}"


@pytest.mark.parametrize("seed", range(4))
def test_mutated_bodies_with_a_right_checksum(seed: int) -> None:
    chance = random.Random(seed)
    bodies = [msgspec.msgpack.encode(message) for message in SPOKEN]
    for _ in range(10_000):
        body = mutated(chance, chance.choice(bodies))
        assert taken_or_refused(body), f"seed {seed}: {body.hex()}"
