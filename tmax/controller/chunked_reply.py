r"""An answer of any length: several lines for a request with ``"pieces": true``, one line for others.

    {"ok": true, "more": true, "tasks": [...]}\n ... {"ok": true, "tasks": [...]}\n

Chunks are sent as they are made, and no more are made while their reader is behind.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tmax.control.server import Request
from tmax.controller.slices import Steps

PIECE_BYTES = 64 * 1024
BEHIND_BYTES = 1024 * 1024
"""What a reader may leave unread before it is waited for."""

_encode = msgspec.json.Encoder().encode


class ChunkedReply:
    """The list (of encoded values) or the text of the field ``key`` in the answer to ``request``."""

    def __init__(self, request: Request, key: str) -> None:
        self._request = request
        self._key = key
        self._many = request.fields.get("pieces") is True
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
        """Send what there is if it is enough, and wait for a reader that is behind; then yield once."""
        if self._many and self._size >= PIECE_BYTES:
            self._request.stream_line(self._line(more=True))
            if self._request.peer.unsent_bytes > BEHIND_BYTES:
                yield self._request.peer.when_sent
        yield None

    def end(self, **fields: object) -> None:
        """Send the rest, and the answer's other fields; this ends the request."""
        self._request.answer_line(self._line(**fields))

    def _line(self, **fields: Any) -> bytes:
        body: Any = "".join(self._texts) if self._texts else self._values
        if not self._texts and not self._values and self._key == "text":
            body = ""
        line = _encode({"ok": True, **fields, self._key: body})
        self._values, self._texts, self._size = [], [], 0
        return line
