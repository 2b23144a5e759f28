"""How many cores does NumPy work on N workers really use, beside a hand-written script; and what do thread limits give small products?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from tests.bench.figures import Figure, Must, Row
from tests.bench.peers import missing, skipped
from tests.bench.rounds import Sizes, in_child, in_rounds
from tests.box import REPOSITORY, Box

TITLE = "cores and threads"
CORES = len(os.sched_getaffinity(0))


def multiply(size: int, count: int) -> float:
    """Multiply two matrices so often; return the CPU seconds it took, all threads together."""
    import numpy as np

    one = np.random.default_rng(1).random((size, size))
    begun = time.process_time()
    for _ in range(count):
        one @ one
    return time.process_time() - begun


def on_swarm(workers: int, size: int, count: int) -> tuple[float, float]:
    """Return products/s of so many tasks side by side, and the cores they used."""
    from tmax import Swarm

    with Swarm.connect() as swarm:
        for future in [swarm.submit(multiply, size, 2) for _ in range(4 * workers)]:
            future.result()
        begun = time.perf_counter()
        cpu = sum(future.result() for future in [swarm.submit(multiply, size, count) for _ in range(workers)])
        seconds = time.perf_counter() - begun
    return workers * count / seconds, cpu / seconds


def by_hand(processes: int, size: int, count: int) -> float:
    """Return products/s of processes with one thread each, which have imported NumPy and begin together."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(max(1, CORES // processes)))
    code = (
        "import sys, numpy\nfrom tests.bench.bench_cores import multiply\n"
        f"multiply({size}, 2)\nprint(flush=True)\nsys.stdin.readline()\nmultiply({size}, {count})\nprint(flush=True)"
    )
    env = {**os.environ, **threads, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "pipes")])}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(processes)
    ]
    for process in started:
        line_of(process)
    begun = time.perf_counter()
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in started:
        line_of(process)
    seconds = time.perf_counter() - begun
    for process in started:
        process.communicate()
    return processes * count / seconds


def line_of(process: subprocess.Popen[bytes]) -> bytes:
    """Return the next line that a process prints.  Raises RuntimeError when it has ended instead."""
    assert process.stdout is not None
    if not (line := process.stdout.readline()):
        raise RuntimeError(f"a hand-written process ended with {process.wait()}")
    return line


def run(sizes: Sizes) -> list[Row]:
    """Measure large products beside the script, small ones with and without limits, all in rounds."""
    if missing("NumPy"):
        return [skipped("cores and threads", "NumPy")]
    large, small = sizes.size("large-size", 1000, 64), sizes.size("small-size", 300, 16)
    large_count, small_count = sizes.size("large-count", 40, 2), sizes.size("small-count", 400, 2)
    boxes = [Box({"TMAX_SWARM__PRELOAD": "numpy", **more}) for more in ({}, {}, {"TMAX_WORKER__THREADS": str(CORES)})]
    one_each, limited, unlimited = boxes
    try:
        one_each.init(CORES)
        limited.init(4)
        unlimited.init(4)

        def measured(box: Box, workers: int, size: int, count: int) -> Any:
            return in_child(box, "bench_cores", workers, size, count)

        taken = in_rounds(
            {
                "large": lambda: measured(one_each, CORES, large, large_count),
                "hand": lambda: by_hand(CORES, large, large_count),
                "limited": lambda: measured(limited, 4, small, small_count),
                "unlimited": lambda: measured(unlimited, 4, small, small_count),
            },
            sizes.rounds,
        )
    finally:
        for box in boxes:
            box.close()
    return [
        Figure(
            what=f"products of {large} x {large}, {CORES} workers",
            unit="products/s",
            better="higher",
            samples=tuple(rate for rate, _ in taken["large"]),
            peer="hand-written processes",
            peer_samples=tuple(taken["hand"]),
            target="P12",
            must=Must(comparison=">=", bound=0.95),
        ),
        Figure(
            what=f"cores used by products of {large} x {large}, {CORES} workers",
            unit="cores",
            better="higher",
            samples=tuple(used for _, used in taken["large"]),
            target="P12",
            must=Must(comparison=">=", bound=round(0.9 * CORES, 2), of="value"),
        ),
        Figure(
            what=f"products of {small} x {small}, 4 workers, {CORES} cores",
            unit="products/s",
            better="higher",
            samples=tuple(rate for rate, _ in taken["limited"]),
            peer=f"{CORES} threads in each worker",
            peer_samples=tuple(rate for rate, _ in taken["unlimited"]),
            target="P13",
            must=Must(comparison=">=", bound=4),
        ),
    ]


if __name__ == "__main__":
    print(json.dumps(on_swarm(*map(int, sys.argv[1:]))))
