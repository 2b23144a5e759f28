"""Tasks that submit to the swarm they run on and wait: on one worker, through the API and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.box import Box
from tests.gate import opened, shut
from tests.wait import wait_until
from tmax import Swarm

PROGRAM = """
import sys
from tmax import Swarm

def slow(number):
    open("gate").close()
    return number

def several(count):
    return sum(Swarm.connect().map(slow, range(count)))

def leaf(number):
    return 10 * number

def tree(depth):
    if not depth:
        return 1
    swarm = Swarm.connect()
    return sum(swarm.map(tree, [depth - 1] * 2))

def late_child(gate):
    open(gate).close()
    return one_child(4)

def one_child(number):
    return Swarm.connect().submit(leaf, number).result()
"""


@pytest.fixture
def one(box: Box) -> Box:
    """A box with a swarm of one worker, and a module for its tasks."""
    (box.root / "nested_work.py").write_text(PROGRAM)
    box.init(1)
    return box


@pytest.fixture
def limited() -> Iterator[Box]:
    """A box with a swarm of one worker that starts no other."""
    box = Box({"TMAX_SWARM__NESTED_WORKERS": "0"})
    box.init(1)
    yield box
    assert not box.close()


def test_a_python_task_submits_to_its_own_swarm_and_waits(one: Box) -> None:
    assert one.tmax("run", "--py", "nested_work:one_child", "4", timeout_s=60).stdout == "40\n"
    assert one.status()["workers_wanted"] == 1


def test_a_tree_of_tasks_ends_with_fewer_workers_than_it_has_tasks(one: Box) -> None:
    assert one.tmax("run", "--py", "nested_work:tree", "3", timeout_s=120).stdout == "8\n"
    assert len(one.workers()) < 15


def test_a_polite_down_finishes_what_a_running_task_has_submitted_and_waits_for(one: Box) -> None:
    gate = shut(one.root / "gate")
    one.tmax("submit", "--py", "nested_work:several", "6")
    wait_until(lambda: len(one.json("ps", "--state", "running")["tasks"]) == 2)
    one.tmax("submit", "--", "true")
    down = subprocess.Popen(one.command("down"), env=one.env, cwd=one.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: one.status()["draining"])
    with opened(gate):
        said, _ = down.communicate(timeout=60)
    assert said.endswith("; 1 task kept in the queue; tmax init resumes it\n")
    assert one.tmax("result", "1").stdout == "15\n"


@pytest.mark.parametrize("held", [False, True])
def test_a_running_task_may_submit_what_it_waits_for_while_a_polite_down_waits_for_it(one: Box, held: bool) -> None:
    gate = shut(one.root / "gate")
    one.tmax("submit", "--py", "nested_work:late_child", str(gate))
    wait_until(lambda: one.task(1)["state"] == "running")
    if held:
        one.tmax("hold")
    down = subprocess.Popen(one.command("down"), env=one.env, cwd=one.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: one.status()["draining"])
    assert "is going down" in one.tmax("submit", "--", "true", ok=False).stderr
    with opened(gate):
        _, told = down.communicate(timeout=60)
    assert down.returncode == 0, told
    if held:
        assert "the swarm is going down" in one.tmax("result", "1", ok=False).stderr, "it would wait for ever"
    else:
        assert one.tmax("result", "1").stdout == "40\n"


def test_a_running_command_may_run_another_while_a_polite_down_waits_for_it(one: Box) -> None:
    inner = f"{sys.executable} -m tmax run -- echo inside"
    one.submit("--", "sh", "-c", f"until [ -e gate ]; do sleep 0.02; done; {inner} && echo done")
    wait_until(lambda: one.task(1)["state"] == "running")
    down = subprocess.Popen(one.command("down"), env=one.env, cwd=one.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: one.status()["draining"])
    (one.root / "gate").touch()
    _, told = down.communicate(timeout=60)
    assert down.returncode == 0, told
    assert one.tmax("logs", "1").stdout.endswith("inside\ndone\n")


@pytest.mark.parametrize("how", ["run -- echo inside", "wait $(tmax submit -q -- echo inside)"])
def test_a_command_runs_commands_on_its_own_swarm(one: Box, how: str) -> None:
    (one.root / "tmax").write_text(f'#!/bin/sh\nexec {sys.executable} -m tmax "$@"\n')
    (one.root / "tmax").chmod(0o755)
    env = {**one.env, "PATH": f"{one.root}:{os.environ['PATH']}"}
    done = one.tmax("run", "--", "sh", "-c", f"tmax {how} && echo done", env=env)
    assert done.stdout.endswith("done\n")
    assert {task["id"]: task["state"] for task in one.json("ps", "--all")["tasks"]} == {1: "done", 2: "done"}


def test_a_nested_worker_is_shown_and_outlives_its_controller(one: Box) -> None:
    gate = one.root / "gate"
    inner = f"{sys.executable} -m tmax run -- sh -c 'mkfifo {gate}; read line < {gate}; echo got $line'"
    parent = one.submit("--", "sh", "-c", inner)
    wait_until(gate.exists, timeout_s=30)
    assert "1 of 1 workers ready, 1 more for nested tasks" in one.tmax("status").stdout
    assert [worker["name"] for worker in one.workers()] == ["w1", "w2"]
    one.kill_controller()
    wait_until(lambda: one.tmax("status", ok=False).returncode == 0, timeout_s=30)  # the command in the task starts another
    assert [worker["name"] for worker in one.workers()] == ["w1", "w2"]
    controller = one.controller_pid()
    gate.write_text("word\n")
    one.tmax("wait", str(parent))
    assert one.controller_pid() == controller, "it does not end with the task whose command started it"
    assert one.tmax("logs", str(parent)).stdout.endswith("got word\n")


def test_without_nested_workers_ps_and_status_say_who_waits_for_whom(limited: Box) -> None:
    parent = limited.submit("--", sys.executable, "-m", "tmax", "run", "--", "true")
    child = parent + 1
    wait_until(lambda: limited.status()["tasks"]["ready"] == 1, timeout_s=30)
    told = f"task {parent}, which submitted it, is running on w1; that may be waiting for it, and no worker is free"
    assert limited.task(child)["why"].startswith(told)
    assert "stuck: 1 running task waits for tasks it submitted" in limited.tmax("status").stdout
    limited.tmax("cancel", str(child))
    assert limited.tmax("wait", str(parent), ok=False).returncode == 1


def test_a_program_whose_tasks_wait_for_each_other_is_told(limited: Box) -> None:
    program = "from tmax import Swarm; import nested_work; print(Swarm.connect().submit(nested_work.one_child, 4).result())"
    (limited.root / "nested_work.py").write_text(PROGRAM)
    words = [sys.executable, "-c", program]
    waiting = subprocess.Popen(words, env=limited.env, cwd=limited.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert waiting.stderr is not None
    told = "stuck: 1 running task waits for tasks it submitted, and no worker may be started for these: raise swarm.nested_workers"
    assert told in waiting.stderr.readline()
    down = subprocess.Popen(limited.command("down"), env=limited.env, cwd=limited.root, stderr=subprocess.PIPE, text=True)
    assert down.stderr is not None
    assert down.stderr.readline().startswith("waiting for 1 running task (tmax down --now ends it)")
    assert down.stderr.readline().startswith(told)
    limited.tmax("cancel", "2")  # the child fails in its parent, which then ends
    _, rest = waiting.communicate(timeout=60)
    assert waiting.returncode == 1 and "CancelledError" in rest
    down.communicate(timeout=60)
    assert down.returncode == 0


def test_a_worker_that_keeps_its_connection_sends_the_task_of_the_moment(one: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in one.env.items():
        monkeypatch.setenv(name, value)
    with Swarm.connect() as swarm:
        for number in range(3):
            assert swarm.submit(_child_of_a_kept_connection, number).result(60) == number


_KEPT: list[Swarm] = []


def _child_of_a_kept_connection(number: int) -> int:
    if not _KEPT:
        _KEPT.append(Swarm.connect())
    return _KEPT[0].submit(_same, number).result()


def _same(number: int) -> int:
    return number
