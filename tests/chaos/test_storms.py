"""Nothing accepted is lost, whatever is killed: real processes, real kills, judged from outside."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.box import Box

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def storm(box: Box, *args: str) -> dict[str, Any]:
    """Run a storm in a box; return what it tells."""
    env = {**box.env, "PYTHONPATH": f"{REPOSITORY}:{box.env['PYTHONPATH']}"}
    command = [sys.executable, "-m", "tests.chaos.storm", "--folder", str(box.root / "traces"), *args]
    done = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}\n{box.story()}"
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.timeout(330)
def test_worker_and_controller_kills_lose_nothing(box: Box) -> None:
    box.init(3, "--pool", "1")
    told = storm(box, "--tasks", "2000", "--worker-kills", "6", "--controller-kills", "2", "--seconds", "0.002")
    assert told["accepted"] >= 2000
    assert told["states"] == {"done": told["accepted"]}
    assert told["worker_kills"] == 6
    assert told["controller_kills"] == 2
    assert told["re_executed"] >= 1
    assert told["executions"] <= told["accepted"] + told["worker_kills"] + told["kills_that_missed"]


@pytest.mark.timeout(200)
def test_every_id_that_submit_returned_is_there_after_the_controller_was_killed(box: Box) -> None:
    box.init(1)
    ids = [box.submit_and_kill("--", "true") for _ in range(15)]
    box.tmax("init")  # to wait does not start a controller
    box.tmax("wait", *map(str, ids), "--ignore-failures")
    rows = {row["id"]: row["state"] for row in box.json("ps", "--all", "--limit", "1000")["tasks"]}
    assert [number for number in ids if number not in rows] == []
    assert set(rows.values()) == {"done"}
