r"""A reply of any length: several lines for a request with ``"pieces": true``, one line for others.

    {"ok": true, "more": true, "tasks": [...]}\n ... {"ok": true, "tasks": [...]}\n

Chunks are sent as they are made; while the client has too much unread, no more are made (backpressure).
"""

from __future__ import annotations

from typing import Any

import msgspec

from tmax.control.server import Request
from tmax.controller.slices import Steps

CHUNK_BYTES = 64 * 1024
BEHIND_BYTES = 1024 * 1024
"""Unread bytes above which the reply waits for the client."""

_encode = msgspec.json.Encoder().encode


class ChunkedReply:
    """A reply to ``request`` whose field ``key`` is a long list (of encoded values) or a long text."""

    def __init__(self, request: Request, key: str) -> None:
        self._request = request
        self._key = key
        self._is_chunked = request.fields.get("pieces") is True
        self._values: list[msgspec.Raw] = []
        self._texts: list[str] = []
        self._size = 0

    def value(self, encoded: bytes) -> None:
        """Add a value to the list; ``encoded``: as JSON."""
        self._values.append(msgspec.Raw(encoded))
        self._size += len(encoded)

    def text(self, text: str) -> None:
        """Add to the text."""
        self._texts.append(text)
        self._size += len(text)

    def flow(self) -> Steps[None]:
        """Send a chunk when it is large enough, and wait for a client that has too much unread; then yield once."""
        if self._is_chunked and self._size >= CHUNK_BYTES:
            self._request.stream_line(self._line(more=True))
            if self._request.client.unsent_bytes > BEHIND_BYTES:
                yield self._request.client.when_sent
        yield None

    def end(self, **fields: object) -> None:
        """Send the rest and the reply's other fields; this ends the request."""
        self._request.answer_line(self._line(**fields))

    def _line(self, **fields: Any) -> bytes:
        body: Any = "".join(self._texts) if self._texts else self._values
        if not self._texts and not self._values and self._key == "text":
            body = ""
        line = _encode({"ok": True, **fields, self._key: body})
        self._values, self._texts, self._size = [], [], 0
        return line
