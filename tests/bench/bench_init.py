"""How long is ``tmax init`` until every worker is ready, beside one import of what is preloaded?"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable

from tests.bench.figures import Figure, Must, Row
from tests.bench.peers import missing, skipped
from tests.bench.rounds import Sizes, in_rounds, seconds_of
from tests.box import Box

TITLE = "init"


def import_s(module: str) -> float:
    """Return the seconds of one ``python -c "import MODULE"``, as a whole process."""
    return seconds_of(lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True))


def init_s(workers: int, preload: str) -> float:
    """Return the seconds of one ``tmax init`` in a fresh box; the dashboard starts after it."""
    box = Box({"TMAX_SWARM__PRELOAD": preload, "TMAX_SWARM__POOL": "1", "TMAX_DASHBOARD__ENABLED": "true"})
    try:
        return seconds_of(lambda: box.init(workers))
    finally:
        box.close()


def run(sizes: Sizes) -> list[Row]:
    """Measure 1, 4 and 16 workers beside NumPy's import; 4 with torch beside torch's, where there is torch."""
    many = sizes.size("workers", 16, 2)
    counts = sorted({1, 4, many})
    cases: dict[str, Callable[[], float]] = {"import": lambda: import_s("numpy")}
    cases |= {str(count): functools.partial(init_s, count, "numpy") for count in counts}
    taken = in_rounds(cases, sizes.rounds)
    rows: list[Row] = [
        Figure(
            what=f"init of {count} workers, NumPy preloaded",
            unit="s",
            samples=tuple(taken[str(count)]),
            peer="import numpy",
            peer_samples=tuple(taken["import"]),
            target="P9" if count == 4 else "",
            must=Must(comparison="<=", bound=4) if count == 4 else None,
        )
        for count in counts
    ]
    rows.append(
        Figure(
            what=f"init of {many} workers",
            unit="s",
            samples=tuple(taken[str(many)]),
            peer="init of one worker",
            peer_samples=tuple(taken["1"]),
            must=Must(comparison="<=", bound=4) if many >= 16 else None,
        )
    )
    if missing("torch"):
        return [*rows, skipped("init of 4 workers, torch preloaded", "torch")]
    torch = in_rounds({"import": lambda: import_s("torch"), "init": lambda: init_s(4, "numpy,torch")}, min(3, sizes.rounds))
    rows.append(
        Figure(
            what="init of 4 workers, torch preloaded",
            unit="s",
            samples=tuple(torch["init"]),
            peer="import torch",
            peer_samples=tuple(torch["import"]),
            target="P9",
            must=Must(comparison="<=", bound=1.3),
        )
    )
    return rows
