"""Passes requests from the control socket to the functions that handle them (``tmax/control/protocol.py`` lists the verbs)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from tmax.control.protocol import BulkRequest
from tmax.control.server import ClientConnection, Request
from tmax.errors import TmaxError, UsageError

VerbHandler: TypeAlias = Callable[[Request], None]
"""May raise TmaxError, which is then the reply."""
BulkHandler: TypeAlias = Callable[[ClientConnection, Any], None]
"""Handles bulk frames of one kind."""


class Dispatcher:
    """Implements ``tmax.control.server.Handler``."""

    def __init__(
        self,
        *,
        reading: Mapping[str, VerbHandler],
        acting: Mapping[str, VerbHandler],
        bulk: Mapping[type[BulkRequest], BulkHandler],
        closed: Sequence[Callable[[ClientConnection], None]],
        when_committed: Callable[[Callable[[], None]], None],
    ) -> None:
        """``reading``: verbs that are answered only when every decision so far is on disk; ``acting``: the others.

        ``closed``: called with each connection that has ended.
        """
        self._reading = reading
        self._acting = acting
        self._bulk = bulk
        self._closed = closed
        self._when_committed = when_committed

    def on_request(self, request: Request) -> None:
        """Handle one JSON request."""
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

    def on_bulk(self, client: ClientConnection, request: BulkRequest) -> None:
        """Handle one bulk frame of the Python API."""
        self._bulk[type(request)](client, request)

    def on_closed(self, client: ClientConnection) -> None:
        """Report the end of a connection to the parts that keep state for it."""
        for closed in self._closed:
            closed(client)


def _guarded(handler: VerbHandler, request: Request) -> None:
    try:
        handler(request)
    except TmaxError as error:
        request.fail(error)
