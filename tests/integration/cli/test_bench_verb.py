"""``tmax bench`` on a real swarm: it reports what it did and leaves no task behind, however it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from dataclasses import replace

import pytest

from tests.box import Box
from tests.wait import wait_until
from tmax import Swarm
from tmax.loadgen.load_generator import run_load
from tmax.loadgen.load_plan import load_plan


def live_tasks(box: Box) -> list[object]:
    tasks: list[object] = box.json("ps")["tasks"]
    return tasks


def test_a_mix_runs_and_nothing_stays(box: Box) -> None:
    box.init(2)
    done = box.tmax("bench", "--duration", "2", "--submitters", "2", "--json")
    report = json.loads(done.stdout)
    assert not done.stderr
    assert report["schema_version"] == 1 and report["swarm"] == "default" and not report["interrupted"]
    tasks = report["tasks"]
    assert tasks["failed"] == 0 and tasks["done"] > 0
    assert tasks["submitted"] == tasks["done"] + tasks["cancelled"]
    assert set(report["latency_s"]) == {"python", "command", "kernel"}
    assert report["usage"]["controller"]["peak_rss_bytes"] > 0 and report["usage"]["workers"]["count"] == 2
    assert not live_tasks(box)


def test_what_waits_at_the_end_is_cancelled(box: Box) -> None:
    """The queue is held while it submits, so that every task of it waits at the end."""
    box.init(1)
    box.tmax("hold")
    report = json.loads(box.tmax("bench", "--profile", "stress", "--duration", "0.5", "--submitters", "3", "--json").stdout)
    assert report["tasks"]["done"] == 0
    assert report["tasks"]["cancelled"] == report["tasks"]["submitted"] > 0
    assert not live_tasks(box)


def test_ctrl_c_prints_the_report_and_leaves_nothing(box: Box) -> None:
    box.init(2)
    command = [*box.command("bench"), "--profile", "stress", "--submitters", "2", "--kind", "python"]
    with subprocess.Popen(
        command, env=box.env, cwd=box.root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        wait_until(lambda: box.status()["tasks"].get("done", 0) > 0, timeout_s=30)
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=60)
    assert program.returncode == 130, err
    assert "tasks/s" in out and "profile stress" in out
    assert err.startswith("load on swarm default: profile stress, 2 submitters, 300 s\n")
    assert not live_tasks(box)


def test_what_runs_for_long_is_cancelled(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.init(1)
    for name, value in box.env.items():
        monkeypatch.setenv(name, value)
    endless = replace(load_plan("medium", duration_s=1.0, submitters=1, kinds=("python",)), in_flight=2, python_items=10**13)
    with Swarm.connect() as swarm:
        report = run_load(endless, swarm, threading.Event(), lambda *_: None, finish_s=0.1)
    assert report["tasks"] == {"submitted": 2, "done": 0, "failed": 0, "cancelled": 2}
    assert not live_tasks(box)


def test_a_temporary_swarm_is_gone_afterwards(box: Box) -> None:
    done = box.tmax("bench", "--temporary", "--workers", "1", "--duration", "1", "--submitters", "1", "--kind", "command")
    assert "swarm tmp-" in done.stdout and "latency   command" in done.stdout
    assert not list((box.root / "state" / "tmax").glob("*"))


@pytest.mark.parametrize(
    "words, message",
    [
        (("--kind", "sql"), "unknown kind 'sql'"),
        (("--duration", "0"), "the duration must be longer than 0 s"),
        (("--workers", "2"), "--workers is the size of a temporary swarm"),
        (("--temporary", "--swarm", "a"), "--temporary makes a swarm of its own"),
        (("--profile", "huge"), "'huge' is not one of"),
    ],
)
def test_wrong_options_are_usage_errors(box: Box, words: tuple[str, ...], message: str) -> None:
    done = box.tmax("bench", *words, ok=False)
    assert done.returncode == 2 and message in done.stderr and not done.stdout


def test_a_dry_run_needs_no_swarm_and_makes_none(box: Box) -> None:
    plan = json.loads(box.tmax("bench", "--dry-run", "--profile", "light", "--json").stdout)
    assert plan["plan"]["submitters"] == 2 and plan["swarm"] == "default"
    assert "profile medium" in box.tmax("bench", "--dry-run").stdout
    assert not list((box.root / "state").rglob("*"))


def test_without_a_swarm_it_is_an_error(box: Box) -> None:
    done = box.tmax("bench", "--duration", "1", ok=False)
    assert done.returncode == 3 and "hint:" in done.stderr
