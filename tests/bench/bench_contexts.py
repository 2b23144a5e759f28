"""What it costs that a task runs only its own program's code, and that nothing of it reaches the next one."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.bench.figures import Figure, Must, Row
from tests.bench.rounds import Sizes, in_child
from tests.box import Box

TITLE = "isolation and contexts"
LIMIT_S = 3e-6
"""What isolation may cost a no-op task."""


def nothing(number: int) -> int:
    """The no-op."""
    return number


def short(number: int) -> int:
    """Next to a no-op, but it calls something: after it the process is looked at."""
    return abs(number)


def check_s(function: Callable[[int], int], calls: int) -> float:
    """Return what the look at the process adds to a task of this function, in seconds: a call as a worker makes it, and the look after it."""
    from tmax_workers.isolation import Isolation

    isolation = Isolation()

    def checked() -> None:
        isolation.call(function, (1,), {})
        isolation.disarm()
        isolation.leave(keep_background=False)

    pairs = [(_each_s(checked, calls), _each_s(lambda: function(1), calls)) for _ in range(7)]
    return statistics.median(ours for ours, _ in pairs) - statistics.median(bare for _, bare in pairs)


def _each_s(call: Callable[[], object], calls: int) -> float:
    begun = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - begun) / calls


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

    def latencies(self, count: int, other: Callable[[int], int], pause: Callable[[], None]) -> list[float]:
        """Return the seconds from submit to result, one task at a time; ``other`` says whose turn it is."""
        taken = []
        for number in range(count):
            pause()
            begun = time.perf_counter()
            self.submit(other(number), number).result(60)
            taken.append(time.perf_counter() - begun)
        return taken

    def rate(self, count: int, other: Callable[[int], int]) -> float:
        """Return tasks a second."""
        begun = time.perf_counter()
        futures = [self.submit(other(number), number) for number in range(count)]
        assert [future.result(120) for future in futures] == list(range(count))
        return count / (time.perf_counter() - begun)


def main(what: str, count: int) -> object:
    """Measure in this process; return plain data."""
    from tmax import Swarm

    if what == "check":
        return [check_s(nothing, count), check_s(short, count)]
    with Swarm.connect() as swarm:
        programs = Programs(swarm)
        if what == "rate":
            programs.rate(count, lambda number: number % 2)
            return [(programs.rate(count, lambda number: number % 2), programs.rate(count, lambda _: 0)) for _ in range(5)]
        warm = what == "warm"

        def pooled() -> None:
            while warm and not any(worker.pooled and worker.state == "idle" for worker in swarm.workers()):
                pass

        same = programs.latencies(count, lambda _: 0, lambda: None)
        return [same, programs.latencies(count, lambda number: (number + 1) % 2, pooled)]


def run(sizes: Sizes) -> list[Row]:
    """Measure each on a swarm of its own."""
    box = Box()
    try:
        no_op, short_one = in_child(box, "bench_contexts", "check", sizes.size("calls", 20_000, 100))
        box.init(2)
        pairs = in_child(box, "bench_contexts", "rate", sizes.size("context-tasks", 4_000, 50))
    finally:
        box.close()
    limit = Must(comparison="<=", bound=LIMIT_S, of="value")
    rows: list[Row] = [
        Figure(what="look at the process after a no-op task", unit="s", samples=(no_op,), must=limit),
        Figure(what="look at the process after a short task that calls something", unit="s", samples=(short_one,)),
        Figure(
            what="two contexts alternating on two workers",
            unit="tasks/s",
            better="higher",
            samples=tuple(alternating for alternating, _ in pairs),
            peer="one context",
            peer_samples=tuple(one for _, one in pairs),
        ),
    ]
    switches = sizes.size("switches", 100, 3)
    return [*rows, *switched("warm", 1, "taken from the pool", switches), *switched("forked", 0, "forked for it", switches)]


def switched(what: str, pool: int, source: str, switches: int) -> list[Row]:
    """Return the latency of tasks that need a fresh worker, beside tasks in a worker of their context."""
    box = Box({"TMAX_SWARM__POOL": str(pool), "TMAX_SWARM__PRELOAD": "numpy"})
    try:
        box.init(1)
        same, other = in_child(box, "bench_contexts", what, switches)
    finally:
        box.close()
    return [
        Figure(
            what=f"task in a fresh worker {source}",
            unit="s",
            samples=tuple(other),
            peer="in a worker of its context",
            peer_samples=tuple(same),
        )
    ]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
