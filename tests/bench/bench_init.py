"""How long is ``tmax init`` until every worker is ready, beside one import of what is preloaded?"""

from __future__ import annotations

import importlib.util
import subprocess
import sys

from tests.bench.figures import Figure, in_turn, seconds_of
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


def run() -> list[Figure]:
    """Measure 1, 4 and 16 workers beside NumPy's import; 4 with torch beside torch's, where there is torch."""
    numpy_s, *ours = in_turn([lambda: import_s("numpy"), *(lambda n=n: init_s(n, "numpy") for n in (1, 4, 16))])  # type: ignore[misc]
    one, four, sixteen = ours
    figures = [
        Figure(what="init -n 1, NumPy preloaded", ours=f"{one:.2f} s", peer=f"import numpy {numpy_s:.3f} s", ratio=one / numpy_s),
        Figure(
            what="init -n 4, NumPy preloaded",
            ours=f"{four:.2f} s",
            peer=f"import numpy {numpy_s:.3f} s",
            ratio=four / numpy_s,
            must="<= 6x",
            holds=four / numpy_s <= 6,
        ),
        Figure(what="init -n 16, NumPy preloaded", ours=f"{sixteen:.2f} s", peer=f"import numpy {numpy_s:.3f} s", ratio=sixteen / numpy_s),
        Figure(
            what="init -n 16 beside -n 1 (16 times the workers)",
            ours=f"{sixteen:.2f} s",
            peer=f"{one:.2f} s",
            ratio=sixteen / one,
            must="far below 16x: <= 4x",
            holds=sixteen / one <= 4,
        ),
    ]
    if importlib.util.find_spec("torch"):
        torch_s, with_torch = in_turn([lambda: import_s("torch"), lambda: init_s(4, "numpy,torch")], runs=3)
        bound_s = 2.1 + torch_s
        figures.append(
            Figure(
                what="init -n 4, torch preloaded",
                ours=f"{with_torch:.2f} s",
                peer=f"import torch {torch_s:.2f} s",
                ratio=with_torch / torch_s,
                must=f"<= 2.1 s + one import = {bound_s:.1f} s",
                holds=with_torch <= bound_s,
            )
        )
    return figures
