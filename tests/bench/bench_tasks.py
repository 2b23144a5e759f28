"""How many Python tasks a second, and how soon is one done, beside pools, loky, Ray and Dask with as many workers?"""

from __future__ import annotations

import functools
from typing import Any

from tests.bench.figures import Figure, Must, Row
from tests.bench.peers import missing, skipped
from tests.bench.rounds import Sizes, in_child, in_rounds
from tests.box import Box

TITLE = "tasks (2 workers)"
CHUNK = 100


def run(sizes: Sizes) -> list[Row]:
    """Measure every engine in each round, each in a process of its own."""
    tasks, singles = sizes.size("tasks", 10_000, 100), sizes.size("singles", 300, 10)
    slow = sizes.size("slow-peer-tasks", 2_000, 50)  # ten thousand take Ray and Dask half a minute a round
    durable, normal = Box(), Box({"TMAX_STORE__DURABILITY": "normal"})
    try:
        for box in (durable, normal):
            box.init(2)
        cases = {
            "tmax": functools.partial(in_child, durable, "task_engines", "tmax", tasks, singles, CHUNK),
            "normal": functools.partial(in_child, normal, "task_engines", "tmax", tasks, singles, CHUNK),
        }
        for peer in ("ProcessPoolExecutor", "multiprocessing.Pool"):
            cases[peer] = functools.partial(in_child, durable, "task_engines", peer, tasks, singles, CHUNK)
        for peer, module, count in (("loky", "loky", tasks), ("ray", "ray", slow), ("Dask distributed", "distributed", slow)):
            if not missing(peer):
                cases[peer] = functools.partial(in_child, durable, "task_engines", module, count, min(singles, 100), CHUNK)
        taken = in_rounds(cases, sizes.rounds)
    finally:
        durable.close()
        normal.close()
    return rows(taken)


def rows(taken: dict[str, list[dict[str, Any]]]) -> list[Row]:
    """Return the figures of what was measured, and what was skipped."""

    def figure(what: str, key: str, peer: str, *, ours: str = "tmax", target: str = "", must: Must | None = None) -> Row:
        if peer not in taken:
            return skipped(what, peer)
        return Figure(
            what=what,
            unit="s" if key == "latency_s" else "tasks/s",
            better="lower" if key == "latency_s" else "higher",
            samples=tuple(round_[key] for round_ in taken[ours]),
            peer=peer,
            peer_samples=tuple(round_[key] for round_ in taken[peer]),
            target=target,
            must=must,
        )

    pool = "ProcessPoolExecutor"
    return [
        figure("no-op tasks, durable", "single", pool, target="P1", must=Must(comparison=">=", bound=4)),
        figure("no-op tasks, durable", "single", "loky"),
        figure("no-op tasks, durable", "single", "ray", target="P2", must=Must(comparison=">=", bound=18)),
        figure("no-op tasks, durable", "single", "Dask distributed", target="P2", must=Must(comparison=">=", bound=50)),
        figure("no-op tasks, durability normal", "single", pool, ours="normal"),
        figure("one task at a time, durable", "latency_s", pool, target="P3", must=Must(comparison="<=", bound=2)),
        figure("one task at a time, durability normal", "latency_s", pool, ours="normal", target="P3", must=Must(comparison="<=", bound=1)),
        figure("one task at a time, durable", "latency_s", "loky"),
        figure("one task at a time, durable", "latency_s", "ray"),
        figure("one task at a time, durable", "latency_s", "Dask distributed"),
        figure(f"chunked map, chunks of {CHUNK}", "chunked", "multiprocessing.Pool", target="P4", must=Must(comparison=">=", bound=1)),
        figure(f"chunked map, chunks of {CHUNK}", "chunked", pool),
        figure(f"chunked map, chunks of {CHUNK}", "chunked", "loky"),
    ]
