"""CPython's own tests of process pools pass with ``tmax.Executor``."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.box import Box

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "cpython_tests"
APPLY = 47
"""So many of its tests apply; a number of its own, so that none is lost in silence."""
MISSING = 69
PARTS = 2


def run(box: Box, word: str) -> subprocess.CompletedProcess[str]:
    """Run the script with one word."""
    return subprocess.run([sys.executable, str(SCRIPT), word], capture_output=True, text=True, env=box.env, check=False)


def ends_of(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """What became of each test."""
    assert done.stdout, done.stderr
    ends: dict[str, str] = json.loads(done.stdout)["ends"]
    return ends


@pytest.mark.slow
@pytest.mark.timeout(580)
def test_cpythons_tests_of_process_pools_pass(box: Box) -> None:
    prepared = run(box, "Pool.test_submit")
    if prepared.returncode == MISSING:
        pytest.skip(prepared.stderr.strip().splitlines()[-1])
    with ThreadPoolExecutor(PARTS) as threads:
        parts = threads.map(lambda part: run(box, f"{part}/{PARTS}"), range(1, PARTS + 1))
        ends = {name: end for done in parts for name, end in ends_of(done).items()}
    assert {name: end for name, end in ends.items() if end != "passed" and not end.startswith("skipped: Windows")} == {}
    assert list(ends.values()).count("passed") == APPLY
