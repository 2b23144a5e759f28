"""How many tasks a second end with a million tasks queued, beside a thousand; and what memory does a queued task take?"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

from tests.bench.figures import Figure, Must, Row
from tests.bench.machine import rss_bytes
from tests.bench.rounds import Sizes, in_child
from tests.box import Box
from tmax.control.client import connect
from tmax.layout import locate

TITLE = "queue depth"


def nothing(number: int) -> int:
    """The no-op."""
    return number


def measure(depth: int, tasks: int) -> dict[str, float]:
    """Fill a held queue to ``depth``, resume it, and time ``tasks`` ends while each end is followed by a new submit."""
    from tmax import Swarm

    swarm = Swarm.connect()
    with connect(locate(swarm.name)) as client:
        swarm.submit(nothing, 0).result()
        controller = swarm.status().controller_pid
        before_bytes = rss_bytes(controller)
        ended = threading.Semaphore(0)

        def submit(number: int) -> None:
            swarm.submit(nothing, number).add_done_callback(lambda _: ended.release())

        client.request("hold")
        begun = time.perf_counter()
        for number in range(depth):
            submit(number)
        wait_for_queued(swarm, depth)
        filled_s = time.perf_counter() - begun
        grown_bytes = rss_bytes(controller) - before_bytes
        client.request("resume")
        for number in range(min(depth, tasks) // 10):  # the first wave, before the pipeline is full
            ended.acquire()
            submit(number)
        begun = time.perf_counter()
        for number in range(tasks):
            ended.acquire()
            submit(number)
        seconds = time.perf_counter() - begun
    return {"rate": tasks / seconds, "bytes_per_task": grown_bytes / depth, "fill_rate": depth / filled_s}


def wait_for_queued(swarm: Any, depth: int) -> None:
    """Return when the controller has accepted so many tasks."""
    pause = threading.Event()
    while sum(swarm.status().tasks.get(state, 0) for state in ("ready", "leased", "running")) < depth:
        pause.wait(0.1)


def measured(depth: int, tasks: int) -> dict[str, float]:
    """Measure on a swarm of its own, whose controller holds nothing of an earlier one."""
    box = Box()
    try:
        box.init(2)
        result: dict[str, float] = in_child(box, "bench_queue_depth", depth, tasks, timeout_s=3600)
        return result
    finally:
        box.close()


def run(sizes: Sizes) -> list[Row]:
    """Take both depths in rounds: at most three, as a million tasks take minutes to queue."""
    deep, shallow = sizes.size("queued", 1_000_000, 500), sizes.size("queued-few", 1_000, 50)
    tasks = sizes.size("depth-tasks", 10_000, 100)
    pairs = [(measured(deep, tasks), measured(shallow, tasks)) for _ in range(min(3, sizes.rounds))]
    return [
        Figure(
            what=f"no-op tasks with {deep:,} queued",
            unit="tasks/s",
            better="higher",
            samples=tuple(one["rate"] for one, _ in pairs),
            peer=f"{shallow:,} queued",
            peer_samples=tuple(other["rate"] for _, other in pairs),
            target="P18",
            must=Must(comparison=">=", bound=0.8),
        ),
        Figure(
            what=f"memory of the controller for each of {deep:,} queued tasks",
            unit="B",
            samples=tuple(one["bytes_per_task"] for one, _ in pairs),
            target="P18",
            must=Must(comparison="<=", bound=400, of="value") if deep >= 100_000 else None,
        ),
        Figure(
            what=f"submits until {deep:,} are queued",
            unit="tasks/s",
            better="higher",
            samples=tuple(one["fill_rate"] for one, _ in pairs),
            peer=f"until {shallow:,} are",
            peer_samples=tuple(other["fill_rate"] for _, other in pairs),
        ),
    ]


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:]))), flush=True)
    os._exit(0)  # without waiting for what is queued: the swarm is taken down next
