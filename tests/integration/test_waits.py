"""Waiting for tasks on a real swarm: over restarts and stops of the controller, with limits and without."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.box import Box
from tests.wait import wait_until


@pytest.fixture
def one(box: Box) -> Box:
    """A box with a swarm of one worker."""
    box.init(1)
    return box


def until_open(gate: Path) -> tuple[str, ...]:
    """Return a command that ends when ``gate`` exists."""
    return ("--", "sh", "-c", f"mkfifo {gate} 2>/dev/null; read line < {gate}")


def open_gate(gate: Path) -> None:
    wait_until(gate.exists)
    gate.write_text("go\n")


def test_a_wait_outlives_a_stopped_and_a_killed_controller(one: Box) -> None:
    gate = one.root / "gate"
    number = one.submit(*until_open(gate))
    waiting = subprocess.Popen(one.command("wait", "-q", str(number)), env=one.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    pid = one.controller_pid()
    os.kill(pid, signal.SIGSTOP)
    assert one.tmax("wait", "--timeout", "0.2", str(number), ok=False).returncode == 75
    assert waiting.poll() is None
    os.kill(pid, signal.SIGCONT)
    one.kill_controller()
    open_gate(gate)
    out, err = waiting.communicate(timeout=30)
    assert (waiting.returncode, out, err) == (0, b"", b"")


def test_one_look_at_a_task_that_has_ended_is_enough(one: Box) -> None:
    numbers = [str(one.submit("--", "true")) for _ in range(5)]
    one.tmax("wait", *numbers)
    for _ in range(5):
        assert one.tmax("wait", "--timeout", "0", *numbers).returncode == 0
    gate = one.root / "gate"
    runs = one.submit(*until_open(gate))
    look = one.tmax("wait", "--timeout", "0", numbers[0], str(runs), ok=False)
    assert look.returncode == 75
    assert f"1 of 2 tasks have not ended: {runs}" in look.stderr
    open_gate(gate)
    one.tmax("wait", str(runs))


def test_ps_shows_all_with_a_limit_of_0(one: Box) -> None:
    one.tmax("hold")
    for _ in range(3):
        one.submit("--", "true")
    assert len(one.json("ps", "--limit", "2")["tasks"]) == 2
    assert len(one.json("ps", "--limit", "0")["tasks"]) == 3
    one.tmax("down", "--now")
    assert len(one.json("ps", "--limit", "0")["tasks"]) == 3
