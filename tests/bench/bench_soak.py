"""Do the controller's memory, descriptors and files grow over many tasks?"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.figures import Figure, Must, Row, slope
from tests.bench.machine import descriptors, rss_bytes
from tests.bench.rounds import Sizes, in_child
from tests.box import Box
from tmax.layout import locate

TITLE = "soak"
STEP = 10_000
"""Tasks between two samples; growth is reported for so many."""
LIMITS = {"memory": 65536.0, "descriptors": 0.1, "files": 0.1}
"""The most growth for each STEP, once the store holds as many ended tasks as it keeps."""
UNITS = {"memory": "B", "descriptors": "", "files": ""}
Sample = dict[str, float]


def nothing(number: int) -> int:
    """The no-op."""
    return number


def measure(tasks: int, step: int) -> list[Sample]:
    """Run the tasks and return a sample after each ``step`` of them."""
    from tmax import Swarm

    samples: list[Sample] = []
    with Swarm.connect() as swarm:
        layout = locate(swarm.name)
        for done in range(step, tasks + 1, step):
            for future in [swarm.submit(nothing, number) for number in range(step)]:
                future.result()
            controller = swarm.status().controller_pid
            files = sum(1 for folder in (layout.state, layout.runtime) for _ in Path(folder).rglob("*"))
            samples.append({"tasks": done, "memory": rss_bytes(controller), "descriptors": descriptors(controller), "files": files})
    return samples


def growth(samples: Sequence[Sample], key: str, step: int) -> float:
    """Return the growth for each ``step`` tasks over the second half: the first one fills caches and the store."""
    second = samples[len(samples) // 2 :]
    return slope([(sample["tasks"], sample[key]) for sample in second]) * step


def run(sizes: Sizes) -> list[Row]:
    """Run them once."""
    tasks = sizes.size("soak-tasks", 200_000, 400)
    step = min(STEP, max(1, tasks // 4))
    box = Box()
    try:
        box.init(2)
        samples: list[Sample] = in_child(box, "bench_soak", tasks, step, timeout_s=3600)
    finally:
        box.close()
    rows: list[Row] = []
    for key, limit in LIMITS.items():
        unit = UNITS[key]
        must = Must(comparison="<=", bound=limit, of="value") if tasks >= 20 * STEP else None
        what = f"growth of the controller's {key} for each {step:,} tasks"
        rows.append(Figure(what=f"{what}, second half of {tasks:,}", unit=unit, samples=(growth(samples, key, step),), must=must))
        ends = {"first": samples[0], "last": samples[-1]}
        rows += [Figure(what=f"{key} at the {end} of {len(samples)} samples", unit=unit, samples=(one[key],)) for end, one in ends.items()]
    return rows


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:]))))
