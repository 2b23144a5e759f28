"""Is anything lost when workers and controllers are killed (-9) under load, or when the controller dies as ``submit`` returns?"""

from __future__ import annotations

import json
import subprocess
import sys

from tests.bench.figures import Figure, Must, Row
from tests.bench.rounds import Sizes
from tests.box import REPOSITORY, Box

TITLE = "kills"
NONE = Must(comparison="<=", bound=0, of="value")


def storm(tasks: int, worker_kills: int, controller_kills: int) -> list[Row]:
    """Run Python tasks through 4 workers; judged from outside (``tests/chaos/storm.py``)."""
    box = Box({"TMAX_SWARM__POOL": "2"})
    try:
        box.init(4)
        env = {**box.env, "PYTHONPATH": f"{REPOSITORY}:{box.env['PYTHONPATH']}"}
        command = [sys.executable, "-m", "tests.chaos.storm", "--folder", str(box.root / "traces"), "--tasks", str(tasks)]
        command += ["--worker-kills", str(worker_kills), "--controller-kills", str(controller_kills)]
        done = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=900, check=False)
        if not done.stdout:
            raise AssertionError(done.stderr[-2000:])
        judged = json.loads(done.stdout)
    finally:
        box.close()
    what = f"{tasks:,} tasks, {worker_kills} workers and {controller_kills} controllers killed"
    # The judge's own verdict counts, too: it looks at more than the numbers below.
    wrong = int(done.returncode != 0 or judged["states"] != {"done": judged["accepted"]})
    rows: list[Row] = [
        Figure(what=f"lost: {what}", unit="tasks", samples=(judged["lost"],), must=NONE),
        Figure(what=f"recorded twice: {what}", unit="tasks", samples=(judged["recorded_twice"],), must=NONE),
        Figure(what=f"otherwise wrong: {what}", unit="runs", samples=(wrong,), must=NONE),
        Figure(what=f"duration: {what}", unit="s", samples=(judged["seconds"],)),
    ]
    if worker_kills:
        least = Must(comparison=">=", bound=1, of="value")
        rows.append(Figure(what=f"executed again: {what}", unit="tasks", samples=(judged["re_executed"],), must=least))
    return rows


def submits(count: int) -> list[Row]:
    """Kill the controller as ``submit`` returns, so many times; every id must be there afterwards."""
    box = Box()
    try:
        box.init(1)
        ids = [box.submit_and_kill("--", "true") for _ in range(count)]
        box.tmax("init")  # to wait does not start a controller
        box.tmax("wait", *map(str, ids), "--ignore-failures", timeout_s=300)
        found = {row["id"] for row in box.json("ps", "--all", "--limit", "100000")["tasks"]}
    finally:
        box.close()
    missing = count - len(set(ids) & found)
    return [Figure(what=f"ids missing: controller killed as submit returns, {count} times", unit="ids", samples=(missing,), must=NONE)]


def run(sizes: Sizes) -> list[Row]:
    """Run all three."""
    tasks = sizes.size("storm-tasks", 10_000, 500)
    kills = (sizes.size("worker-kills", 20, 1), sizes.size("controller-kills", 5, 1))
    return [*storm(tasks, 0, 0), *storm(tasks, *kills), *submits(sizes.size("submits", 300, 3))]
