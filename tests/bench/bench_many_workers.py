"""200 workers: how long until they are ready, listed and attached, and what do they and their controller take?"""

from __future__ import annotations

from tests.bench.bench_idle import part_of
from tests.bench.figures import Figure, Must, Row
from tests.bench.machine import pss_bytes, rss_bytes
from tests.bench.rounds import Sizes, seconds_of
from tests.bench.terminal_program import TerminalProgram
from tests.box import Box

TITLE = "many workers"


def attach_s(box: Box, worker: str) -> float:
    """Return the seconds until ``tmax attach WORKER`` has drawn the status line with the worker's session."""
    program = TerminalProgram(box.command("attach", worker), box.env)
    try:
        return program.seconds_until(worker.encode())
    finally:
        program.close()


def run(sizes: Sizes) -> list[Row]:
    """Start, list and attach once; listing and attaching in rounds."""
    workers = sizes.size("many-workers", 200, 3)
    box = Box({"TMAX_SWARM__PRELOAD": "numpy", "TMAX_SWARM__START_TIMEOUT_S": "600"})
    try:
        started_s = seconds_of(lambda: box.tmax("init", "-n", str(workers), timeout_s=600))
        listed_s = [seconds_of(lambda: box.tmax("workers")) for _ in range(sizes.rounds)]
        ready = sum(worker["state"] == "idle" for worker in box.workers())
        attached_s = [attach_s(box, f"w{workers}") for _ in range(sizes.rounds)]
        parts = {pid: part_of(command) for pid, command in box.processes().items()}
        controller = next(pid for pid, part in parts.items() if part == "controller")
        controller_bytes, all_bytes = rss_bytes(controller), sum(map(pss_bytes, parts))
    finally:
        box.close()
    return [
        Figure(what=f"init of {workers} workers", unit="s", samples=(started_s,)),
        Figure(
            what=f"ready of {workers} workers",
            unit="workers",
            better="higher",
            samples=(ready,),
            must=Must(comparison=">=", bound=workers, of="value"),
        ),
        Figure(what=f"tmax workers, {workers} workers", unit="s", samples=tuple(listed_s)),
        Figure(what=f"tmax attach, {workers} workers", unit="s", samples=tuple(attached_s)),
        Figure(what=f"RSS of the controller, {workers} workers", unit="B", samples=(controller_bytes,)),
        Figure(what=f"PSS of the swarm, {workers} workers", unit="B", samples=(all_bytes,)),
    ]
