"""A swarm without tmux, driven by the command line: what differs from one with tmux, and real kills of all that can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box import Box
from tests.wait import wait_until

NO_TERMINALS = "error: the workers of this swarm have no terminals"


@pytest.fixture(params=["exec", "zygote"])
def box(request: pytest.FixtureRequest, no_leaks: None) -> Iterator[Box]:
    """A box without tmux: whatever calls it fails, and leaves a trace."""
    made = Box({"TMAX_SWARM__ENGINE": "process", "TMAX_SWARM__SPAWNER": request.param, "TMAX_DASHBOARD__ENABLED": "true"})
    (made.root / "bin").mkdir()
    tmux = made.root / "bin" / "tmux"
    tmux.write_text(f"#!/bin/sh\necho called >> {made.root}/tmux-was-called\nexit 1\n")
    tmux.chmod(0o755)
    made.env["PATH"] = f"{tmux.parent}{os.pathsep}{made.env['PATH']}"
    yield made
    was_called = (made.root / "tmux-was-called").exists()
    left = made.close()
    assert not left, "left over:\n" + "\n".join(left)
    assert not was_called


def pids(box: Box) -> list[int]:
    return [worker["pid"] for worker in box.workers()]


def is_running(box: Box, number: int) -> bool:
    return bool(box.task(number)["state"] == "running")


def test_what_a_swarm_without_terminals_says(box: Box) -> None:
    started = box.tmax("init", "-n", "1")
    assert "tmax logs -f TASK" in started.stdout
    assert "attach" not in started.stdout
    assert box.tmax("run", "--", "echo", "hello").stdout == "hello\n"
    for words in (["attach"], ["attach", "w1"], ["tmux", "list-sessions"]):
        refused = box.tmax(*words, ok=False)
        assert refused.returncode == 1
        assert refused.stderr.startswith(NO_TERMINALS)
        assert "hint: tmax logs -f TASK" in refused.stderr
        assert refused.stdout == ""
    (worker,) = box.workers()
    assert (worker["session"], worker["pane"]) == ("", "")
    assert worker["rss_bytes"] > 1_000_000
    assert "hello" in box.tmax("logs", "w1").stdout
    assert "hello" in box.json("logs", "w1")["text"]
    checks = {check["name"]: check for check in box.json("doctor")["checks"]}
    assert (checks["tmux"]["state"], checks["swarm default"]["state"]) == ("ok", "ok")
    assert "engine process" in checks["swarm default"]["detail"]
    assert not (box.runtime / "tmux.sock").exists()
    box.tmax("down")
    assert box.processes() == {}
    assert not (box.state / "worker-logs").exists()


def test_another_engine_for_a_swarm_that_runs_is_refused_with_a_hint(box: Box) -> None:
    box.init(1)
    again = box.tmax("init", "--engine", "tmux")
    assert "it keeps its engine process; for tmux: tmax down, then tmax init --engine tmux" in again.stderr
    unknown = box.tmax("init", "--swarm", "other", "--engine", "dask", ok=False)
    assert unknown.returncode == 2
    assert "'dask' is not one of: tmux, process" in unknown.stderr


def test_a_killed_worker_is_replaced_and_its_task_runs_again(box: Box) -> None:
    box.init(1)
    number = box.submit("--py", "time:sleep", "1")
    wait_until(lambda: is_running(box, number))
    (pid,) = pids(box)
    os.kill(pid, signal.SIGKILL)
    box.tmax("wait", str(number))
    task = box.json("ps", "--all")["tasks"][0]
    assert (task["state"], task["attempt"]) == ("done", 2)
    assert "killed by SIGKILL" in box.story()
    assert pids(box) != [pid]


def test_a_killed_controller_costs_no_worker_and_no_task(box: Box) -> None:
    box.init(2)
    shell = box.submit("--", "sh", "-c", "echo ran >> shell.txt; sleep 1.5; echo ended >> shell.txt")
    python = box.submit("--py", "time:sleep", "1.5")
    wait_until(lambda: is_running(box, shell) and is_running(box, python))
    before = pids(box)
    box.kill_controller()
    assert all(Path(f"/proc/{pid}").exists() for pid in before)
    box.init(2)
    assert pids(box) == before
    box.tmax("wait", str(shell), str(python))
    assert (box.root / "shell.txt").read_text() == "ran\nended\n"
    assert box.task(python)["attempt"] == 1


def test_workers_that_outlive_their_controller_keep_their_engine(box: Box) -> None:
    box.init(1)
    number = box.submit("--", "sh", "-c", "sleep 1.5")
    wait_until(lambda: is_running(box, number))
    before = pids(box)
    box.kill_controller()
    again = box.tmax("init", "-n", "1", "--engine", "tmux")
    assert "it keeps its engine process; for tmux: tmax down, then tmax init --engine tmux" in again.stderr
    assert pids(box) == before
    box.tmax("wait", str(number))
    assert pids(box) == before, "a worker was replaced"
    box.tmax("down")
    assert not (box.state / "worker-logs").exists()


def test_workers_that_die_beside_their_controller_are_replaced(box: Box) -> None:
    box.init(2)
    number = box.submit("--", "sh", "-c", "setsid sleep 1003 & echo $! > child; sleep 100")
    wait_until(lambda: (box.root / "child").exists() and (box.root / "child").read_text().strip())
    child = int((box.root / "child").read_text())
    before = pids(box)
    box.kill_controller()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    box.init(2)
    assert box.task(number)["state"] == "interrupted"
    wait_until(lambda: child not in box.processes())
    assert set(pids(box)).isdisjoint(before)
    assert box.tmax("run", "--", "echo", "again").stdout == "again\n"


def test_everything_killed_at_once_loses_nothing_and_leaves_nothing(box: Box) -> None:
    box.init(2)
    ids = [box.submit("--py", "time:sleep", "0.2") for _ in range(6)]
    for pid in box.processes():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not box.processes())
    box.init(2)
    box.tmax("wait", *map(str, ids), timeout_s=60)
    assert {box.task(number)["state"] for number in ids} == {"done"}
    assert sum("tmax_workers " in text and "--life" in text for text in box.processes().values()) >= 2
    box.tmax("down", "--now")
    assert box.processes() == {}


@pytest.mark.parametrize("box", ["zygote"], indirect=True)
def test_a_killed_zygote_costs_no_worker(box: Box) -> None:
    box.init(2)
    number = box.submit("--py", "time:sleep", "1.5")
    wait_until(lambda: is_running(box, number))
    before = pids(box)
    (zygote,) = [pid for pid, text in box.processes().items() if "tmax_workers.zygote" in text]
    os.kill(zygote, signal.SIGKILL)
    box.tmax("wait", str(number))
    assert box.task(number)["attempt"] == 1
    assert pids(box) == before
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: len(pids(box)) == 2 and before[0] not in pids(box) and all(w["state"] == "idle" for w in box.workers()))


PROGRAM = """
    import tmax

    if __name__ == "__main__":
        with tmax.Swarm(1, engine="process") as swarm:
            (worker,) = [one for one in swarm.workers() if not one.pooled]
            print(swarm.submit(pow, 2, 10).result(), repr(worker.session))
"""


@pytest.mark.parametrize("box", ["zygote"], indirect=True)
def test_a_program_chooses_its_engine(box: Box) -> None:
    del box.env["TMAX_SWARM__ENGINE"]
    (box.root / "program.py").write_text(textwrap.dedent(PROGRAM))
    done = subprocess.run([sys.executable, "program.py"], cwd=box.root, env=box.env, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("1024 ''\n", 0), done.stderr
