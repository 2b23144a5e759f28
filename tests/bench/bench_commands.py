"""How many commands a second, output captured and exit code recorded, beside a bare posix_spawn loop?"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time

from tests.bench.figures import Figure
from tests.box import REPOSITORY, Box

TITLE = "commands (true, 2 workers)"
JOBS = 1000
TRUE = shutil.which("true") or "/bin/true"


def spawn_loop() -> float:
    """Return jobs/s of posix_spawn with output captured through a pipe, two in flight: no queue, no record."""
    begun = time.perf_counter()
    flying: list[tuple[int, int]] = []
    for _ in range(JOBS):
        read, write = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, write, 1), (os.POSIX_SPAWN_DUP2, write, 2), (os.POSIX_SPAWN_CLOSE, read)]
        flying.append((os.posix_spawn(TRUE, [TRUE], os.environ, file_actions=actions), read))
        os.close(write)
        if len(flying) == 2:
            finish(flying.pop(0))
    for one in flying:
        finish(one)
    return JOBS / (time.perf_counter() - begun)


def finish(job: tuple[int, int]) -> None:
    """Read what it printed, and its exit code."""
    while os.read(job[1], 65536):
        pass
    os.close(job[1])
    os.waitpid(job[0], 0)


def swarm_rate(box: Box) -> float:
    """Return jobs/s through the swarm, every one durable."""
    code = f"""
import time
from tmax import Swarm
with Swarm.connect() as swarm:
    begun = time.perf_counter()
    futures = [swarm.shell([{TRUE!r}]) for _ in range({JOBS})]
    for future in futures:
        future.result()
    print({JOBS} / (time.perf_counter() - begun))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=box.env, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=True
    )
    return float(done.stdout)


def run() -> list[Figure]:
    """Take both in turn."""
    box = Box()
    try:
        box.init(2)
        pairs = [(swarm_rate(box), spawn_loop()) for _ in range(5)]
    finally:
        box.close()
    ours, peer = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
    return [
        Figure(
            what="command tasks, captured and recorded",
            ours=f"{ours:,.0f}/s",
            peer=f"posix_spawn loop {peer:,.0f}/s",
            ratio=ours / peer,
            must="P5: >= 0.6x",
            holds=ours / peer >= 0.6,
        )
    ]
