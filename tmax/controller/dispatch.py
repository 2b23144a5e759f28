"""From requests of the control socket to the functions that handle them (``control/protocol.py`` lists the verbs)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from tmax.control.protocol import BulkRequest
from tmax.control.server import ClientConnection, Request
from tmax.errors import TmaxError, UsageError

VerbHandler: TypeAlias = Callable[[Request], None]
"""May raise TmaxError, which is then the answer."""
BulkHandler: TypeAlias = Callable[[ClientConnection, Any], None]
"""Takes bulk frames of one kind."""


class Dispatcher:
    """Fills ``tmax.control.server.Handler``."""

    def __init__(
        self,
        *,
        reading: Mapping[str, VerbHandler],
        acting: Mapping[str, VerbHandler],
        bulk: Mapping[type[BulkRequest], BulkHandler],
        closed: Sequence[Callable[[ClientConnection], None]],
        when_committed: Callable[[Callable[[], None]], None],
    ) -> None:
        """``reading``: verbs that are answered only when everything decided is on disk; ``acting``: the others.

        ``closed``: called with a connection that has ended.
        """
        self._reading = reading
        self._acting = acting
        self._bulk = bulk
        self._closed = closed
        self._when_committed = when_committed

    def on_request(self, request: Request) -> None:
        """Answer one JSON verb."""
        reading = self._reading.get(request.verb)
        acting = self._acting.get(request.verb)
        if reading is not None:
            self._when_committed(lambda: _guarded(reading, request))
        elif acting is not None:
            _guarded(acting, request)
        else:
            request.fail(
                UsageError(
                    f"unknown verb {request.verb!r}", hint="is the tmax command newer than the running controller? tmax down; tmax init"
                )
            )

    def on_bulk(self, peer: ClientConnection, request: BulkRequest) -> None:
        """Take one bulk frame of the Python API."""
        self._bulk[type(request)](peer, request)

    def on_closed(self, peer: ClientConnection) -> None:
        """A connection ended."""
        for closed in self._closed:
            closed(peer)


def _guarded(handler: VerbHandler, request: Request) -> None:
    try:
        handler(request)
    except TmaxError as error:
        request.fail(error)
