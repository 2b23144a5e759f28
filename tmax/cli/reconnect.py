"""Requests that survive the end of a controller: the next one is started, and the request is sent again."""

from __future__ import annotations

import os

from tmax.cli.request import request
from tmax.errors import NoSwarm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tmax.layout import Layout

TRIES = 20
"""Controllers that may end during one command before it fails."""


def request_again(layout: Layout, verb: str, reply_timeout_s: float | None = None, **fields: Any) -> dict[str, Any]:
    """Send an idempotent request; when no controller replies, start one and send it again.  Returns the reply.

    Raises NoSwarm when the swarm was never started or was taken down, or when controllers keep ending.
    """
    for _ in range(TRIES - 1):
        try:
            return request(layout, verb, reply_timeout_s, **fields)
        except NoSwarm:
            start_controller(layout)
    return request(layout, verb, reply_timeout_s, **fields)


def start_controller(layout: Layout) -> None:
    """Start a controller if none runs.  Raises NoSwarm when the swarm was never started or was taken down."""
    if not os.path.exists(layout.settings):
        raise NoSwarm(layout.swarm, "was never started")
    from tmax.launch import ensure_controller  # several imports, needed only when the controller is gone

    ensure_controller(layout)
