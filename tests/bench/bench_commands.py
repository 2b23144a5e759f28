"""How many commands a second, output captured and exit code recorded, beside a bare posix_spawn loop, GNU parallel and task-spooler?"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.figures import Figure, Must, Row
from tests.bench.peers import missing, skipped
from tests.bench.rounds import Sizes, in_child, in_rounds
from tests.box import Box

TITLE = "commands (true, 2 workers)"
TRUE = shutil.which("true") or "/bin/true"


def spawn_loop(jobs: int) -> float:
    """Return jobs/s of posix_spawn with output captured through a pipe, two in flight: no queue, no record."""
    begun = time.perf_counter()
    flying: list[tuple[int, int]] = []
    for _ in range(jobs):
        read, write = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, write, 1), (os.POSIX_SPAWN_DUP2, write, 2), (os.POSIX_SPAWN_CLOSE, read)]
        flying.append((os.posix_spawn(TRUE, [TRUE], os.environ, file_actions=actions), read))
        os.close(write)
        if len(flying) == 2:
            finish(flying.pop(0))
    for one in flying:
        finish(one)
    return jobs / (time.perf_counter() - begun)


def finish(job: tuple[int, int]) -> None:
    """Read what it printed, and its exit code."""
    while os.read(job[1], 65536):
        pass
    os.close(job[1])
    os.waitpid(job[0], 0)


def gnu_parallel(jobs: int) -> float:
    """Return jobs/s of GNU parallel, output grouped and exit codes in a job log."""
    with tempfile.TemporaryDirectory(prefix="tmb-", dir="/tmp") as folder:
        lines = "".join(f"{number}\n" for number in range(jobs))
        env = {**os.environ, "HOME": folder, "PARALLEL_HOME": folder}
        begun = time.perf_counter()
        command = ["parallel", "--will-cite", "-j2", "--joblog", f"{folder}/jobs", "true"]
        subprocess.run(command, input=lines, text=True, env=env, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begun
        assert Path(f"{folder}/jobs").read_text().count("\n") == jobs + 1
        return jobs / seconds


def task_spooler(jobs: int) -> float:
    """Return jobs/s of task-spooler with two slots, to the end of the last job; its server is one of our own."""
    with tempfile.TemporaryDirectory(prefix="tmb-", dir="/tmp") as folder:
        env = {**os.environ, "TS_SOCKET": f"{folder}/socket", "TMPDIR": folder, "TS_MAXFINISHED": str(jobs)}
        subprocess.run(["tsp", "-S", "2"], env=env, check=True)
        try:
            begun = time.perf_counter()
            numbers = [
                subprocess.run(["tsp", TRUE], env=env, check=True, capture_output=True, text=True).stdout.strip() for _ in range(jobs)
            ]
            for number in numbers[-2:]:
                subprocess.run(["tsp", "-w", number], env=env, check=False, stdout=subprocess.DEVNULL)
            return jobs / (time.perf_counter() - begun)
        finally:
            subprocess.run(["tsp", "-K"], env=env, check=False)


def swarm_rate(jobs: int) -> float:
    """Return jobs/s through the swarm of the environment, every one durable."""
    from tmax import Swarm

    with Swarm.connect() as swarm:
        begun = time.perf_counter()
        futures = [swarm.shell([TRUE]) for _ in range(jobs)]
        for future in futures:
            assert future.result().ok
        return jobs / (time.perf_counter() - begun)


def run(sizes: Sizes) -> list[Row]:
    """Take all of them in rounds."""
    jobs = sizes.size("commands", 1000, 20)
    box = Box()
    known = {"posix_spawn loop": spawn_loop, "GNU parallel": gnu_parallel, "task-spooler": task_spooler}
    peers = {name: peer for name, peer in known.items() if peer is spawn_loop or not missing(name)}
    try:
        box.init(2)
        cases = {"tmax": lambda: float(in_child(box, "bench_commands", jobs))}
        cases |= {name: lambda peer=peer: peer(jobs) for name, peer in peers.items()}  # type: ignore[misc]
        taken = in_rounds(cases, sizes.rounds)
    finally:
        box.close()
    what = "commands, captured and recorded"
    bounds = {"posix_spawn loop": 0.6, "GNU parallel": 6.0}
    rows: list[Row] = [
        Figure(
            what=what,
            unit="jobs/s",
            better="higher",
            samples=tuple(taken["tmax"]),
            peer=name,
            peer_samples=tuple(taken[name]),
            target="P5" if name in bounds else "",
            must=Must(comparison=">=", bound=bounds[name]) if name in bounds else None,
        )
        for name in peers
    ]
    return [*rows, *(skipped(what, name) for name in ("GNU parallel", "task-spooler") if name not in peers)]


if __name__ == "__main__":
    print(json.dumps(swarm_rate(int(sys.argv[1]))))
