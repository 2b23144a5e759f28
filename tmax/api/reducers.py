"""Ways to pickle that a program registered with ``multiprocessing``: a ProcessPoolExecutor would use them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

_OF_OTHERS = ("multiprocessing.", "torch.")
"""These send descriptors to a child of this process, which a worker is not; without them pickle sends values or says why not."""

_counted: tuple[int, int] = (0, 0)


def registered() -> dict[type, Callable[[Any], Any]]:
    """Return them by class."""
    reduction = sys.modules.get("multiprocessing.reduction")
    found: dict[type, Callable[[Any], Any]] = getattr(getattr(reduction, "ForkingPickler", None), "_extra_reducers", {})
    return {cls: how for cls, how in found.items() if not getattr(how, "__module__", "").startswith(_OF_OTHERS)}


def known() -> int:
    """Return how many registrations there are if none is the program's own; else another number."""
    global _counted  # noqa: PLW0603  # looked at for every call
    reduction = sys.modules.get("multiprocessing.reduction")
    count = len(getattr(getattr(reduction, "ForkingPickler", None), "_extra_reducers", ()))
    if _counted[0] != count:
        _counted = (count, -1 if registered() else count)
    return _counted[1]
