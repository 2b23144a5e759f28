"""How many tasks a second, and how soon is one done, beside a ProcessPoolExecutor with as many workers?"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import TYPE_CHECKING

from tests.bench.figures import Figure

if TYPE_CHECKING:
    from tests.box import Box

TITLE = "tasks (2 workers, durable)"
TASKS = 10_000
SINGLES = 300
CHUNK = 100


def nothing(number: int) -> int:
    """The no-op."""
    return number


def rates(pool: Executor) -> dict[str, float]:
    """Return tasks/s of single submits, tasks/s of a chunked map, and the median seconds of one task at a time."""
    list(pool.map(nothing, range(200)))
    begun = time.perf_counter()
    futures = [pool.submit(nothing, number) for number in range(TASKS)]
    assert [future.result() for future in futures] == list(range(TASKS))
    single = TASKS / (time.perf_counter() - begun)
    begun = time.perf_counter()
    assert list(pool.map(nothing, range(10 * TASKS), chunksize=CHUNK)) == list(range(10 * TASKS))
    chunked = 10 * TASKS / (time.perf_counter() - begun)
    taken = []
    for number in range(SINGLES):
        begun = time.perf_counter()
        pool.submit(nothing, number).result()
        taken.append(time.perf_counter() - begun)
    return {"single": single, "chunked": chunked, "latency_s": statistics.median(taken)}


def main() -> None:
    """Measure one engine, in this process; print JSON."""
    if sys.argv[1] == "pool":
        with ProcessPoolExecutor(2) as pool:
            print(json.dumps(rates(pool)))
    else:
        from tmax import Swarm

        with Swarm.connect() as swarm:
            print(json.dumps(rates(swarm)))


def measured(engine: str, box: Box) -> dict[str, float]:
    """Measure one engine in a process of its own."""
    from tests.box import REPOSITORY  # not above: the program that is measured imports what a program needs, and no more

    env = {**box.env, "PYTHONPATH": f"{REPOSITORY}:{box.env['PYTHONPATH']}"}
    command = [sys.executable, "-m", "tests.bench.bench_tasks", engine]
    told = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=True)
    result: dict[str, float] = json.loads(told.stdout)
    return result


def run() -> list[Figure]:
    """Take both in turn; return the medians beside each other."""
    from tests.box import Box

    box = Box()
    try:
        box.init(2)
        pairs = [(measured("tmax", box), measured("pool", box)) for _ in range(5)]
    finally:
        box.close()
    ours, peer = ({key: statistics.median(pair[side][key] for pair in pairs) for key in pairs[0][0]} for side in (0, 1))
    single, chunked = ours["single"] / peer["single"], ours["chunked"] / peer["chunked"]
    latency = ours["latency_s"] / peer["latency_s"]
    return [
        Figure(
            what="no-op Python tasks, single submits",
            ours=f"{ours['single']:,.0f}/s",
            peer=f"ProcessPoolExecutor {peer['single']:,.0f}/s",
            ratio=single,
            must="P1: >= 4x",
            holds=single >= 4,
        ),
        Figure(
            what="submit to result of one task, median",
            ours=f"{1e6 * ours['latency_s']:.0f} us",
            peer=f"ProcessPoolExecutor {1e6 * peer['latency_s']:.0f} us",
            ratio=latency,
            must="P3: <= 1x",
            holds=latency <= 1,
        ),
        Figure(
            what=f"map with chunks of {CHUNK}",
            ours=f"{ours['chunked']:,.0f}/s",
            peer=f"ProcessPoolExecutor {peer['chunked']:,.0f}/s",
            ratio=chunked,
        ),
    ]


if __name__ == "__main__":
    main()
