"""Bulk frames as bytes: 0xC1, length u32 (little-endian), msgpack body.  Both ends of the control socket use this.

::

    messages --> encode / encode_replies --> bytes on the socket --> Frames.feed --> bodies --> decode_request / decode_reply

A connection ends at its first malformed frame, as the start of the next one is not known.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tmax.control.protocol import BULK_HEAD, BULK_MARK, MAX_BULK_BYTES, BulkEnded, BulkReply, BulkRequest
from tmax.errors import UsageError

_encode_body = msgspec.msgpack.Encoder().encode
_requests: msgspec.msgpack.Decoder[BulkRequest] = msgspec.msgpack.Decoder(BulkRequest)
_replies: msgspec.msgpack.Decoder[BulkReply] = msgspec.msgpack.Decoder(BulkReply)
_NOT_UNDERSTOOD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode(message: BulkRequest | BulkReply) -> bytes:
    """Return one frame; raises UsageError when it would be larger than MAX_BULK_BYTES."""
    body = _encode_body(message)
    if len(body) > MAX_BULK_BYTES:
        raise UsageError(f"a bulk message of {len(body)} bytes does not fit a frame (at most {MAX_BULK_BYTES})")
    return BULK_HEAD.pack(BULK_MARK, len(body)) + body


def encode_replies(replies: Sequence[BulkReply]) -> bytes:
    """Return these replies as frames one after another; ends that do not fit one frame are sent in several.

    Raises UsageError when a single end is larger than a frame.
    """
    return b"".join(map(_encode_reply, replies))


def _encode_reply(reply: BulkReply) -> bytes:
    if isinstance(reply, BulkEnded) and len(reply.ends) > 1:
        try:
            return encode(reply)
        except UsageError:
            half = len(reply.ends) // 2
            return _encode_reply(BulkEnded(reply.ends[:half])) + _encode_reply(BulkEnded(reply.ends[half:]))
    return encode(reply)


def decode_request(body: bytes) -> BulkRequest:
    """Return the request in a body.  Raises UsageError when it is not a request of this version."""
    try:
        return _requests.decode(body)
    except _NOT_UNDERSTOOD as error:
        raise _not_understood(error) from error


def decode_reply(body: bytes) -> BulkReply:
    """Return the reply in a body.  Raises UsageError when it is not a reply of this version."""
    try:
        return _replies.decode(body)
    except _NOT_UNDERSTOOD as error:
        raise _not_understood(error) from error


def _not_understood(error: Exception) -> UsageError:
    return UsageError(f"bulk message not understood: {error}", hint="client and controller may be of different versions")


class Frames:
    """Splits the bytes of one connection into bodies; an incomplete frame waits for the next ``feed``."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the bodies that are now complete.  Raises UsageError at a wrong mark or length: the connection must end.

        The length is checked before the body is buffered.
        """
        self._rest += data
        bodies: list[bytes] = []
        at = 0
        size = len(self._rest)
        while size - at >= BULK_HEAD.size:
            mark, length = BULK_HEAD.unpack_from(self._rest, at)
            if mark != BULK_MARK or length > MAX_BULK_BYTES:
                raise UsageError(f"not a bulk frame (mark {mark:#04x}, length {length})")
            end = at + BULK_HEAD.size + length
            if end > size:
                break
            bodies.append(bytes(self._rest[at + BULK_HEAD.size : end]))
            at = end
        del self._rest[:at]
        return bodies
