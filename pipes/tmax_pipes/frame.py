"""Messages as checked bytes.

::

    0        2        3        4            8            12           16
    +--------+--------+--------+------------+------------+------------+---------------
    | "tX"   | version| flags  | length u32 | crc32 u32  | epoch u32  | body (msgpack)
    +--------+--------+--------+------------+------------+------------+---------------
                                                          <---- the checksum covers this ---->

All numbers are little-endian; ``length`` counts the body's bytes.  The checksum covers the epoch too, so a
message is never attributed to another controller life.  A wrong length moves the end of the checked bytes, so it
fails the same check.

After one bad frame the decoder does not search for the next good one: a body may contain the magic, so the start of a
frame is unknown, and ``Hello`` restores a lost connection anyway.  Good frames before the bad one in the same ``feed``
are discarded with it, for the same reason.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, Literal, NoReturn, TypeAlias
from zlib import crc32

import msgspec

from tmax_pipes.messages import FromWorker, Message, ToWorker
from tmax_pipes.pipe_errors import FrameError

VERSION = 1
HEADER_BYTES = 16
MAX_FRAME_BYTES = 1024 * 1024
"""Largest frame, header included; larger bodies are stored as files (``blobs.py``)."""

_MAX_BODY_BYTES = MAX_FRAME_BYTES - HEADER_BYTES
_HEADER = struct.Struct("<IIII")
_START = b"tX" + bytes((VERSION, 0))
_PREFIX = int.from_bytes(_START, "little")
_CHECKED_FROM = 12
_EPOCH = struct.Struct("<I")

Kind: TypeAlias = Literal["to_worker", "from_worker", "any"]

_encode_body = msgspec.msgpack.Encoder().encode
_DECODERS: dict[Kind, msgspec.msgpack.Decoder[Any]] = {
    "to_worker": msgspec.msgpack.Decoder(ToWorker),
    "from_worker": msgspec.msgpack.Decoder(FromWorker),
    "any": msgspec.msgpack.Decoder(Message),
}


def encode(message: Message, epoch: int) -> bytes:
    """Return ``message`` as one frame of the controller life ``epoch`` (0 to 2**32 - 1).

    Raises FrameError(``length``) when the frame would be larger than MAX_FRAME_BYTES.
    """
    body = _encode_body(message)
    if len(body) > _MAX_BODY_BYTES:
        raise FrameError("length", f"{type(message).__name__} of {len(body)} bytes, at most {_MAX_BODY_BYTES} fit a frame")
    return _HEADER.pack(_PREFIX, len(body), crc32(body, crc32(_EPOCH.pack(epoch))), epoch) + body


def encode_many(messages: Iterable[Message], epoch: int) -> bytes:
    """Return these messages as frames one after another, ready for one write; raises as ``encode`` does."""
    return b"".join([encode(message, epoch) for message in messages])


class Decoder:
    """Turns the bytes of one lane into messages; keeps an incomplete frame for the next ``feed``.

    ``kind``: the messages allowed on this lane; a message of the other direction is a bad frame.
    Each lane of each connection has its own decoder.
    """

    __slots__ = ("_broken", "_decode", "_rest")

    def __init__(self, kind: Kind) -> None:
        self._decode = _DECODERS[kind].decode
        self._rest = bytearray()
        self._broken: FrameError | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> list[tuple[int, Message]]:
        """Return the (epoch, message) of each frame completed by ``data``, in order.

        Raises FrameError at the first bad frame, and again at every later call.
        """
        if self._broken is not None:
            raise FrameError(self._broken.why, self._broken.detail)
        found: list[tuple[int, Message]] = []
        rest = self._rest
        if not rest:
            with memoryview(data) as view:
                used = self._take(view, found)
                if used < len(view):
                    rest += view[used:]
            return found
        rest += data
        with memoryview(rest) as view:
            used = self._take(view, found)
        if used:
            del rest[:used]
        return found

    def _take(self, view: memoryview, found: list[tuple[int, Message]]) -> int:
        """Append every whole frame in ``view`` to ``found``; return the bytes used."""
        at, end = 0, len(view)
        while end - at >= HEADER_BYTES:
            prefix, length, crc, epoch = _HEADER.unpack_from(view, at)
            if prefix != _PREFIX or length > _MAX_BODY_BYTES:
                self._refuse_header(bytes(view[at : at + 4]), length)
            stop = at + HEADER_BYTES + length
            if stop > end:
                return at
            if crc32(view[at + _CHECKED_FROM : stop]) != crc:
                self._refuse("crc", f"checksum of a frame of {length} bytes differs")
            found.append((epoch, self._message(view[at + HEADER_BYTES : stop])))
            at = stop
        if at < end and not _START.startswith(bytes(view[at : at + 4])):
            # Otherwise a short tail of garbage would wait for ever to become a header.
            self._refuse_header(bytes(view[at : at + 4]), 0)
        return at

    def _message(self, body: memoryview) -> Message:
        try:
            message: Message = self._decode(body)
        except (ValueError, RecursionError) as error:
            # ValueError: the base of msgspec's errors and of broken UTF-8.  RecursionError: deep nesting.
            self._refuse("body", str(error))
        return message

    def _refuse_header(self, start: bytes, length: int) -> NoReturn:
        if not _START.startswith(start[:2]):
            self._refuse("magic", f"a frame cannot begin with {start.hex()}")
        if not _START.startswith(start):
            self._refuse("version", f"version and flags are {start[2:].hex()}, expected {_START[2:].hex()}")
        self._refuse("length", f"a body of {length} bytes is announced, at most {_MAX_BODY_BYTES} fit a frame")

    def _refuse(self, why: str, detail: str) -> NoReturn:
        self._broken = FrameError(why, detail)
        self._rest = bytearray()
        raise FrameError(why, detail)
