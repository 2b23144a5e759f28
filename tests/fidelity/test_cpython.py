"""CPython's own tests of process pools pass with ``tmax.Executor``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.box import Box

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "cpython_tests"
APPLY = 54
"""So many of its tests apply; a number of its own, so that none is lost in silence."""
MISSING = 69
PARTS = 2


@pytest.mark.slow
@pytest.mark.timeout(580)
def test_cpythons_tests_of_process_pools_pass(box: Box) -> None:
    prepared = subprocess.run([sys.executable, str(SCRIPT), "Pool.test_submit"], capture_output=True, text=True, env=box.env, check=False)
    if prepared.returncode == MISSING:
        pytest.skip(prepared.stderr.strip().splitlines()[-1])
    running = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), f"{part}/{PARTS}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=box.env
        )
        for part in range(1, PARTS + 1)
    ]
    ends: dict[str, str] = {}
    for one in running:
        stdout, stderr = one.communicate()
        assert stdout, stderr
        ends |= json.loads(stdout)["ends"]
    assert {name: end for name, end in ends.items() if end != "passed" and not end.startswith("skipped: Windows")} == {}
    assert list(ends.values()).count("passed") == APPLY
