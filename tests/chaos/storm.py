"""A storm: many Python tasks through a swarm while workers and controllers are killed (-9), judged from outside.

    python -m tests.chaos.storm --tasks 10000 --worker-kills 20 --controller-kills 5

The oracle is the tasks' own trace files and the client's list of accepted ids; the store is only asked at the end.
Prints one JSON object; exits 1 when a promise was broken.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.work import trace
from tests.wait import wait_until
from tmax import Swarm


@dataclass
class Traces:
    """What the trace files say."""

    starts: Counter[int] = field(default_factory=Counter)
    ends: Counter[int] = field(default_factory=Counter)
    spans: dict[int, list[tuple[float, float, int]]] = field(default_factory=lambda: defaultdict(list))
    unfinished: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """pid -> tasks started and never ended there."""


def read_traces(folder: Path) -> Traces:
    """Read every trace file."""
    traces = Traces()
    for path in folder.glob("*.trace"):
        open_since: dict[int, float] = {}
        for line in path.read_text().splitlines():
            what, number, _, at = line.split()
            if what == "start":
                traces.starts[int(number)] += 1
                open_since[int(number)] = float(at)
            else:
                traces.ends[int(number)] += 1
                traces.spans[int(number)].append((open_since.pop(int(number)), float(at), int(path.stem)))
        traces.unfinished[int(path.stem)] = list(open_since)
    return traces


def tmax(*args: str) -> Any:
    """Run a reading command; return its JSON, or None when it failed (the controller may just have been killed)."""
    done = subprocess.run([sys.executable, "-m", "tmax", *args, "--json"], capture_output=True, text=True, timeout=60, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


SPREAD = 0.8
"""The kills are spread over this share of the run: the last one must still find somebody at work."""

MORE = 200
"""Tasks submitted on top, as often as needed, when a slow machine has not met its quota of kills by the end."""


class Killer(threading.Thread):
    """Kills at even distances of progress until each quota is met: workers only while a task has started in them."""

    def __init__(self, folder: Path, futures: list[Any], worker_kills: int, controller_kills: int) -> None:
        super().__init__(daemon=True)
        self.folder, self.futures, self.count = folder, futures, len(futures)
        self.plan = sorted(
            [(SPREAD * (place + 1) / (worker_kills + 1), "worker") for place in range(worker_kills)]
            + [(SPREAD * (place + 0.5) / controller_kills, "controller") for place in range(controller_kills)]
        )
        self.hits = 0
        self.misses = 0
        self.controllers = 0

    def run(self) -> None:
        """Carry out the plan."""
        for share, kind in self.plan:
            wait_until(lambda share=share: self.done() >= share * self.count, timeout_s=600)  # type: ignore[misc]
            if kind == "controller":
                self.kill_controller()
            else:
                wait_until(self.kill_worker, timeout_s=60)

    def done(self) -> int:
        """Return how many futures are done."""
        return sum(future.done() for future in self.futures)

    def kill_controller(self) -> None:
        """Kill the controller."""
        status = wait_until(lambda: tmax("status"), timeout_s=60)
        os.kill(status["controller_pid"], signal.SIGKILL)
        self.controllers += 1

    def kill_worker(self) -> bool:
        """Kill a worker; return whether a task had started in it and not ended."""
        status = tmax("status")
        busy = [worker for worker in (status or {}).get("workers", []) if worker["task"] is not None and not worker["pooled"]]
        if not busy:
            return False
        pid = busy[self.hits % len(busy)]["pid"]
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        hit = bool(read_traces(self.folder).unfinished.get(pid))
        self.hits += hit
        self.misses += not hit
        return hit


def judge(folder: Path, ids: list[int], results: list[int], tasks: int) -> dict[str, Any]:
    """Compare what was promised with what the traces and the store say."""
    traces = read_traces(folder)
    rows = (tmax("ps", "--all", "--limit", str(10 * tasks)) or {"tasks": []})["tasks"]
    states = Counter(row["state"] for row in rows if row["id"] in set(ids))
    recorded = Counter(row["id"] for row in rows)
    overlaps = 0
    for spans in traces.spans.values():
        ordered = sorted(spans)
        overlaps += sum(1 for before, after in itertools.pairwise(ordered) if after[0] < before[1])
    return {
        "accepted": len(set(ids)),
        "states": dict(states),
        "lost": len(set(ids) - set(recorded)),
        "recorded_twice": sum(1 for number in set(ids) if recorded[number] != 1),
        "wrong_results": sum(1 for number, result in enumerate(results) if result != number),
        "never_ran_to_its_end": sum(1 for number in range(tasks) if traces.ends[number] == 0),
        "executions": sum(traces.starts.values()),
        "re_executed": sum(1 for count in traces.starts.values() if count > 1),
        "overlapping_executions": overlaps,
    }


def main() -> int:
    """Run a storm; print what happened."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=0.003)
    parser.add_argument("--worker-kills", type=int, default=20)
    parser.add_argument("--controller-kills", type=int, default=5)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    options.folder.mkdir(exist_ok=True)
    begun = time.monotonic()
    swarm = Swarm.connect()
    futures = [swarm.submit(trace, str(options.folder), number, options.seconds) for number in range(options.tasks)]
    killer = Killer(options.folder, futures, options.worker_kills, options.controller_kills)
    killer.start()
    wait(futures, timeout=900)
    while killer.is_alive() and time.monotonic() - begun < 900:
        more = range(len(futures), len(futures) + MORE)
        futures += [swarm.submit(trace, str(options.folder), number, options.seconds) for number in more]
        wait(futures, timeout=900)
    killer.join(timeout=60)
    results = [future.result(timeout=60) for future in futures]
    ids = [future.task_id for future in futures]
    seconds = time.monotonic() - begun
    story = judge(options.folder, ids, results, len(futures))
    story |= {
        "seconds": round(seconds, 1),
        "worker_kills": killer.hits,
        "kills_that_missed": killer.misses,
        "controller_kills": killer.controllers,
    }
    swarm.shutdown()
    print(json.dumps(story))
    broken = story["accepted"] != len(futures) or any(
        story[key] for key in ("lost", "recorded_twice", "wrong_results", "never_ran_to_its_end", "overlapping_executions")
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
