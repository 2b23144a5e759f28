"""The mark by which everything that a worker started is found: a variable in the environment, inherited by each of its processes.

The mark is ``TMAX_LIFE=SWARM:FOLDER:LIFE``.  Processes that left their worker's session and group bear it too.
FOLDER is a digest of the state folder, so that two swarms of one name (two users of one account, a test beside a real
swarm) never take each other's processes for their own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

from tmax.layout import Layout

VARIABLE = "TMAX_LIFE"
KEPT = "TMAX_KEEP"
"""In the environment of what a Python task with ``keep_background`` starts, in the place of the mark."""


def mark_prefix(layout: Layout) -> str:
    """Return what the marks of all lives of this swarm begin with."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(layout.state))).hexdigest()[:12]
    return f"{layout.swarm}:{digest}:"


def mark_of(layout: Layout, life: int) -> str:
    """Return the value of TMAX_LIFE in the environment of this life and of all it starts."""
    return f"{mark_prefix(layout)}{life}"


def life_of(mark: str) -> int:
    """Return the number of the life in a mark; 0 when there is none."""
    digits = mark.rpartition(":")[2]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 20 else 0


def without_marks(env: Mapping[str, str]) -> dict[str, str]:
    """Return ``env`` without what names another tmux server or another worker: neither may be inherited by ours."""
    return {key: value for key, value in env.items() if not key.startswith("TMUX") and key != VARIABLE}
