"""Two cheap benches end to end: JSON with machine and samples, the history, and the comparison of two runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.box import PACKAGE_PATH, REPOSITORY

pytestmark = pytest.mark.slow


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.bench", *arguments, "--history", str(folder / "history.jsonl")]
    env = {**os.environ, "PYTHONPATH": PACKAGE_PATH}
    return subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=110, check=False)


def test_run_history_and_compare(tmp_path: Path) -> None:
    for number in (1, 2):
        output = tmp_path / f"{number}.json"
        done = bench(tmp_path, "cli", "commands", "--small", "--rounds", "1", "--set", "commands=7", "--output", str(output))
        assert done.returncode == 0, done.stderr
        assert "### commands" in done.stdout and "Not a quiet run" in done.stdout
    run = json.loads((tmp_path / "1.json").read_text())
    assert set(run["machine"]) == {"cpu", "cores", "memory_gib", "kernel", "python", "tmux"}
    assert run["small"] and not run["quiet"] and run["sizes"] == {"commands": 7} and len(run["load_before"]) == 3
    rows = {row["what"]: row for row in run["benches"]["commands"] if "peer" in row}
    row = rows["commands, captured and recorded"]
    assert row["target"] == "P5" and len(row["samples"]) == len(row["peer_samples"]) == 1
    assert row["ratio"] == pytest.approx(row["samples"][0] / row["peer_samples"][0])
    for skipped in (row for row in run["benches"]["commands"] if "skipped" in row):
        assert skipped["skipped"] and f"skipped: {skipped['what']}: {skipped['skipped']}" in done.stdout + done.stderr
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 2
    compared = bench(tmp_path, "compare", "-2", "-1")
    assert compared.returncode == 0, compared.stderr
    assert "| cli: tmax status, beside python -c pass |" in compared.stdout
    assert bench(tmp_path, "compare", str(tmp_path / "1.json"), str(tmp_path / "2.json")).stdout == compared.stdout


def test_wrong_command_lines(tmp_path: Path) -> None:
    done = bench(tmp_path, "compare")
    assert done.returncode == 2 and "error: the history has 0 runs" in done.stderr
    done = bench(tmp_path, "init", "--set", "workers")
    assert done.returncode == 2 and "not SIZE=N" in done.stderr
    done = bench(tmp_path, "cli", "--small", "--write")
    assert done.returncode == 2 and "--write is for measurements" in done.stderr
    done = bench(tmp_path, "unknown-bench")
    assert done.returncode == 2 and "unknown bench" in done.stderr


def test_a_regression_ends_with_1(tmp_path: Path) -> None:
    """Five equal quiet runs, then one at half the rate."""
    figure = {"what": "a", "unit": "x/s", "better": "higher", "peer": "b", "target": "", "must": None, "peer_samples": [1.0]}
    machine = {"cpu": "c", "cores": 1, "memory_gib": 1, "kernel": "k", "python": "p", "tmux": "t"}
    lines = [
        {
            "schema_version": 1,
            "at": f"2026-01-0{day}",
            "commit": "c",
            "machine": machine,
            "quiet": True,
            "benches": {"n": [{**figure, "samples": [rate]}]},
        }
        for day, rate in enumerate([1.0, 1.0, 1.0, 1.0, 1.0, 0.5], 1)
    ]
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = bench(tmp_path, "compare")
    assert done.returncode == 1, done.stderr
    assert "machine allow: 1\n" in done.stdout and "**worse**" in done.stdout
    assert bench(tmp_path, "compare", "-3", "-2").returncode == 0
    lines[-1] |= {"quiet": False, "not_quiet_because": ["load 3 on 1 cores before the start"]}
    (tmp_path / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = bench(tmp_path, "compare")
    assert done.returncode == 0 and "not quiet: load 3 on 1 cores before the start" in done.stdout
