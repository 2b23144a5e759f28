"""What it costs that a task runs only its own program's code, and that nothing of it reaches the next one."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.bench.figures import Figure
from tests.box import REPOSITORY, Box

TITLE = "isolation and contexts"
CALLS = 20_000
SWITCHES = 100
TASKS = 4_000
LIMIT_US = 3.0
"""What isolation may cost a no-op task."""


def nothing(number: int) -> int:
    """The no-op."""
    return number


def short(number: int) -> int:
    """Next to a no-op, but it calls something: after it the process is looked at."""
    return abs(number)


def check_us(function: Callable[[int], int]) -> float:
    """Return what the look at the process adds to a task of this function, in microseconds: a call as a worker makes it, and the look after it."""
    from tmax_workers.isolation import Isolation

    isolation = Isolation()

    def looked_at() -> None:
        isolation.call(function, (1,), {})
        isolation.disarm()
        isolation.leave(keep_background=False)

    pairs = [(_each_us(looked_at), _each_us(lambda: function(1))) for _ in range(7)]
    return statistics.median(ours for ours, _ in pairs) - statistics.median(bare for _, bare in pairs)


def _each_us(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    for _ in range(CALLS):
        call()
    return 1e6 * (time.perf_counter() - begun) / CALLS


class Programs:
    """Two programs that share one client: what they submit differs in its order of search."""

    def __init__(self, swarm: Any) -> None:
        from tmax_pipes.jobs import Context, encode_context

        self._context = swarm._context
        self._contexts = [encode_context(Context(path=(f"/program-{name}",))) for name in ("a", "b")]

    def submit(self, program: int, number: int) -> Any:
        """Submit one no-op of this program."""
        context = self._context
        where = context.submitter.submitter_environment()
        job = context.functions.call(nothing, (number,), {}, context=self._contexts[program], submitter_environment=where)
        from tmax_pipes.options_struct import NOTHING_GIVEN

        return context.channel.submit(job, NOTHING_GIVEN, "python")

    def latencies(self, other: Callable[[int], int], pause: Callable[[], None]) -> list[float]:
        """Return the seconds from submit to result, one task at a time; ``other`` says whose turn it is."""
        taken = []
        for number in range(SWITCHES):
            pause()
            begun = time.perf_counter()
            self.submit(other(number), number).result(60)
            taken.append(time.perf_counter() - begun)
        return taken

    def rate(self, other: Callable[[int], int]) -> float:
        """Return tasks a second."""
        begun = time.perf_counter()
        futures = [self.submit(other(number), number) for number in range(TASKS)]
        assert [future.result(120) for future in futures] == list(range(TASKS))
        return TASKS / (time.perf_counter() - begun)


def main() -> None:
    """Measure in this process; print JSON."""
    from tmax import Swarm

    if sys.argv[1] == "check":
        print(json.dumps([check_us(nothing), check_us(short)]))
        return
    with Swarm.connect() as swarm:
        programs = Programs(swarm)
        if sys.argv[1] == "rate":
            programs.rate(lambda number: number % 2)
            pairs = [(programs.rate(lambda number: number % 2), programs.rate(lambda _: 0)) for _ in range(5)]
            print(json.dumps([statistics.median(pair[side] for pair in pairs) for side in (0, 1)]))
        else:
            warm = sys.argv[1] == "warm"

            def pooled() -> None:
                while warm and not any(worker.pooled and worker.state == "idle" for worker in swarm.workers()):
                    pass

            same = programs.latencies(lambda _: 0, lambda: None)
            print(json.dumps([same, programs.latencies(lambda number: (number + 1) % 2, pooled)]))


def measured(what: str, box: Box) -> Any:
    """Measure in a process of its own."""
    env = {**box.env, "PYTHONPATH": f"{REPOSITORY}:{box.env['PYTHONPATH']}"}
    command = [sys.executable, "-m", "tests.bench.bench_contexts", what]
    told = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(told.stdout)


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def run() -> list[Figure]:
    """Measure each on a swarm of its own."""
    figures = []
    box = Box()
    try:
        no_op, short_one = measured("check", box)
        box.init(2)
        alternating, one = measured("rate", box)
    finally:
        box.close()
    figures.append(Figure(what="look at the process for a no-op task", ours=f"{no_op:.1f} us", must="K3: <= 3 us", holds=no_op <= LIMIT_US))
    figures.append(Figure(what="look at the process for a short task that calls something", ours=f"{short_one:.1f} us"))
    figures.append(
        Figure(
            what="two contexts alternating on two workers",
            ours=f"{alternating:,.0f} tasks/s",
            peer=f"one context {one:,.0f} tasks/s",
            ratio=alternating / one,
        )
    )
    for pool, what in ((1, "warm"), (0, "forked")):
        box = Box({"TMAX_SWARM__POOL": str(pool), "TMAX_SWARM__PRELOAD": "numpy"})
        try:
            box.init(1)
            same, switched = measured(what, box)
        finally:
            box.close()
        for name, share in (("median", 0.5), ("99th percentile", 0.99)):
            ours, peer = _percentile(switched, share), _percentile(same, share)
            source = "taken from the pool" if pool else "forked for it"
            figures.append(
                Figure(
                    what=f"task in a fresh worker {source}, {name}",
                    ours=f"{1e3 * ours:.1f} ms",
                    peer=f"in a worker of its context {1e3 * peer:.1f} ms",
                )
            )
    return figures


if __name__ == "__main__":
    main()
