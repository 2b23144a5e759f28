"""Is anything lost when workers and controllers are killed (-9) under load, or when the controller dies as ``submit`` returns?"""

from __future__ import annotations

import json
import subprocess
import sys

from tests.bench.figures import Figure
from tests.box import REPOSITORY, Box

TITLE = "kills"
TASKS = 10_000
SUBMITS = 300


def storm(worker_kills: int, controller_kills: int) -> Figure:
    """Run 10,000 Python tasks through 4 workers; judged from outside (``tests/chaos/storm.py``)."""
    box = Box({"TMAX_SWARM__POOL": "2"})
    try:
        box.init(4)
        env = {**box.env, "PYTHONPATH": f"{REPOSITORY}:{box.env['PYTHONPATH']}"}
        command = [sys.executable, "-m", "tests.chaos.storm", "--folder", str(box.root / "traces"), "--tasks", str(TASKS)]
        command += ["--worker-kills", str(worker_kills), "--controller-kills", str(controller_kills)]
        done = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=900, check=False)
        if not done.stdout:
            raise AssertionError(done.stderr[-2000:])
        told = json.loads(done.stdout)
    finally:
        box.close()
    again = f"{told['re_executed']} executed again" if worker_kills else f"{told['executions']} executions"
    return Figure(
        what=f"{TASKS:,} tasks, {told['worker_kills']} workers and {told['controller_kills']} controllers killed",
        ours=f"{told['accepted']:,} accepted, {told['lost']} lost, {told['recorded_twice']} recorded twice, {again}, {told['seconds']} s",
        must="0 lost, one result each" + (", >= 1 executed again" if worker_kills else ""),
        holds=done.returncode == 0 and told["states"] == {"done": told["accepted"]} and (told["re_executed"] >= 1 or not worker_kills),
    )


def submits() -> Figure:
    """Kill the controller as ``submit`` returns, 300 times; every id must be there afterwards."""
    box = Box()
    try:
        box.init(1)
        ids = [box.submit_and_kill("--", "true") for _ in range(SUBMITS)]
        box.tmax("init")  # to wait does not start a controller
        box.tmax("wait", *map(str, ids), "--ignore-failures", timeout_s=300)
        rows = {row["id"] for row in box.json("ps", "--all", "--limit", "100000")["tasks"]}
        missing = [number for number in ids if number not in rows]
    finally:
        box.close()
    return Figure(
        what=f"controller killed as submit returns, {SUBMITS} times",
        ours=f"{len(set(ids))} ids, {len(missing)} missing",
        must="every id is there",
        holds=not missing and len(set(ids)) == SUBMITS,
    )


def run() -> list[Figure]:
    """All three."""
    return [storm(0, 0), storm(20, 5), submits()]
