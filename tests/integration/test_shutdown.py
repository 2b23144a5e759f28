"""Signals from outside: to one process of a swarm, to all of them in any order, to everything at once."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.box import Box
from tests.wait import wait_until

WORK = '''
import os, pathlib, threading, time

def note(folder, name, text):
    with open(os.path.join(folder, name), "a") as file:
        file.write(text + "\\n")

def wait(folder, name):
    """Note that it runs, wait until there is a file, note how it ended."""
    note(folder, name, "begun")
    try:
        while not os.path.exists(os.path.join(folder, "go")):
            threading.Event().wait(0.01)
    finally:
        note(folder, name, "ended")
    return name

def stubborn(folder, name):
    """Swallows every exception until there is a file."""
    note(folder, name, "begun")
    while not os.path.exists(os.path.join(folder, "go")):
        try:
            threading.Event().wait(0.01)
        except BaseException:  # that it is asked to end
            pass
    return name
'''


@pytest.fixture
def box() -> Iterator[Box]:
    box = Box()
    (box.root / "work.py").write_text(WORK)
    yield box
    assert box.close() == []


def notes(box: Box, name: str) -> list[str]:
    path = box.root / name
    return path.read_text().split() if path.exists() else []


def begun(box: Box, *names: str) -> None:
    wait_until(lambda: all("begun" in notes(box, name) for name in names), 20, story=box.story)


def py(box: Box, name: str, *options: str, function: str = "wait") -> int:
    return box.submit(*options, "--py", f"work:{function}", str(box.root), name)


SHELL = 'echo begun >> "$1"; while :; do sleep 0.05; done'


def sh(box: Box, name: str, *options: str, script: str = SHELL) -> int:
    return box.submit(*options, "--", "sh", "-c", script, "sh", str(box.root / name))


def worker_of(box: Box, task: int) -> dict[str, Any]:
    return next(worker for worker in box.workers() if worker["task"] == task)


def result(box: Box, task: int) -> dict[str, Any]:
    """The whole story of a task."""
    told: dict[str, Any] = json.loads(box.tmax("result", str(task), "--json", ok=False).stdout)["task"]
    return told


def ended(box: Box, task: int) -> str:
    box.tmax("wait", str(task), "--timeout", "30", ok=False)
    return str(box.task(task)["state"])


# -- one process -----------------------------------------------------------------------------------


def test_a_worker_that_is_sent_term_runs_its_finally_blocks_and_its_python_task_runs_again(box: Box) -> None:
    box.init(2)
    task = py(box, "a")
    begun(box, "a")
    os.kill(worker_of(box, task)["pid"], signal.SIGTERM)
    wait_until(lambda: notes(box, "a") == ["begun", "ended", "begun"], 20, story=box.story)
    (box.root / "go").touch()
    assert ended(box, task) == "done"
    (crash,) = result(box, task)["crashes"]
    assert (crash["signal"], crash["cause"]) == (15, "killed by SIGTERM")


def test_a_worker_that_is_sent_term_gives_its_queue_back_and_is_replaced_when_idle(box: Box) -> None:
    box.init(1)
    (before,) = box.workers()
    os.kill(before["pid"], signal.SIGTERM)
    wait_until(lambda: box.workers() and box.workers()[0]["pid"] not in {0, before["pid"]} and box.workers()[0]["state"] == "idle", 20)
    assert box.tmax("run", "--", "echo", "fine").stdout == "fine\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_whose_worker_was_sent_a_signal_is_interrupted_everywhere(box: Box, number: signal.Signals) -> None:
    box.init(1)
    task = sh(box, "a", script='echo begun; echo begun >> "$1"; sleep 100')
    begun(box, "a")
    os.kill(worker_of(box, task)["pid"], number)
    assert ended(box, task) == "interrupted"
    story = result(box, task)
    assert story["exit_code"] is None and story["failure"]["signal"] == number and number.name in story["why"]
    assert box.tmax("wait", str(task), ok=False).returncode == 1
    assert "interrupted" in box.tmax("result", str(task), ok=False).stderr
    assert box.tmax("logs", str(task)).stdout == "begun\n", "what it printed is there"


@pytest.mark.parametrize("script", ["trap 'exit 0' TERM", "trap 'exit 1' TERM", "trap '' TERM"])
def test_how_a_command_takes_the_term_of_its_worker_makes_no_difference(box: Box, script: str) -> None:
    box.init(1)
    task = sh(box, "a", script=f"{script}; {SHELL}")
    begun(box, "a")
    os.kill(worker_of(box, task)["pid"], signal.SIGTERM)
    assert ended(box, task) == "interrupted"
    assert notes(box, "a") == ["begun"]


def test_a_command_that_is_killed_itself_has_failed_by_that_signal(box: Box) -> None:
    box.init(1)
    run = subprocess.Popen(
        box.command("run", "--", "sh", "-c", f"echo $$ > {box.root}/pid; sleep 100"), env=box.env, cwd=box.root, stdin=subprocess.DEVNULL
    )
    pid = int(wait_until(lambda: (box.root / "pid").exists() and (box.root / "pid").read_text().strip(), 20))
    os.kill(pid, signal.SIGTERM)
    assert run.wait(20) == 143
    story = result(box, 1)
    assert (story["state"], story["signal"], story["exit_code"], story["why"]) == ("failed", 15, None, "killed by SIGTERM")


def test_a_function_that_does_not_end_upon_term_is_ended_after_its_grace(box: Box) -> None:
    box.init(2)
    task = py(box, "a", function="stubborn")
    begun(box, "a")
    os.kill(worker_of(box, task)["pid"], signal.SIGTERM)
    wait_until(lambda: notes(box, "a") == ["begun", "begun"], 20, story=box.story)
    (box.root / "go").touch()
    assert ended(box, task) == "done"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT])
def test_a_worker_that_is_sent_hup_or_one_int_goes_on(box: Box, number: signal.Signals) -> None:
    box.init(1)
    task = py(box, "a")
    begun(box, "a")
    os.kill(worker_of(box, task)["pid"], number)
    (box.root / "go").touch()
    assert ended(box, task) == "done"
    assert notes(box, "a") == ["begun", "ended"]


def test_a_worker_that_is_sent_quit_has_died(box: Box) -> None:
    box.init(1)
    task = sh(box, "a")
    begun(box, "a")
    os.kill(worker_of(box, task)["pid"], signal.SIGQUIT)
    assert ended(box, task) == "interrupted"


@pytest.mark.parametrize("who", ["tmax_workers.zygote", "stub.py", "tmux -S"])
def test_term_to_what_stands_around_the_workers_costs_no_task(box: Box, who: str) -> None:
    box.init(1)
    python = py(box, "a")
    begun(box, "a")
    for pid, text in box.processes().items():
        if who in text and "--life" not in text.split("--")[0]:
            os.kill(pid, signal.SIGTERM)
    queued = sh(box, "b", script='echo begun >> "$1"')
    (box.root / "go").touch()
    assert ended(box, python) == "done" and notes(box, "a") == ["begun", "ended"]
    assert ended(box, queued) == "done" and notes(box, "b") == ["begun"]


def test_term_to_the_controller_leaves_the_work_alone_and_loses_nothing(box: Box) -> None:
    box.init(2)
    python, shell = py(box, "a"), sh(box, "b", script='echo begun >> "$1"; while [ ! -e go ]; do sleep 0.02; done; echo ended >> "$1"')
    begun(box, "a", "b")
    pid = box.controller_pid()
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: pid not in box.processes(), 5)
    (box.root / "go").touch()
    wait_until(lambda: "ended" in notes(box, "a") and "ended" in notes(box, "b"), 20)
    box.init(2)
    assert ended(box, python) == "done" and ended(box, shell) == "done"
    assert notes(box, "a") == notes(box, "b") == ["begun", "ended"]


# -- everything ------------------------------------------------------------------------------------


def kill_all(box: Box, number: int, order: random.Random) -> list[int]:
    """Send a signal to every process of the swarm, running commands included, in this order; return the order."""
    pids = list(box.processes())
    order.shuffle(pids)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):  # ended by what was done a moment ago
            os.kill(pid, number)
    if number == signal.SIGKILL and box.processes():
        kill_all(box, number, order)  # what was begun meanwhile
    return pids


def again(box: Box) -> None:
    """Start it as a person does after a reboot."""
    wait_until(lambda: not box.processes(), 10, story=box.story)
    box.tmax("init", "-n", "3")
    box.tmax("resume", ok=False)


@pytest.mark.parametrize("seed", range(4))
def test_a_shutdown_loses_and_misstates_nothing(box: Box, seed: int) -> None:
    order = random.Random(seed)
    box.init(3)
    early = box.submit("--", "true")
    assert ended(box, early) == "done"
    python = py(box, "a")
    plain = sh(box, "b")
    sly = sh(box, "c", script=f"trap 'exit 0' TERM; {SHELL}")
    begun(box, "a", "b", "c")
    queued = [py(box, "d"), sh(box, "e", script='echo begun >> "$1"')]
    commands = {pid for pid, text in box.processes().items() if "trap 'exit 0'" in text}
    holder = next(worker["pid"] for worker in box.workers() if worker["task"] == sly)
    told = kill_all(box, signal.SIGTERM, order)
    with contextlib.suppress(AssertionError):  # some may stay, as those do that were begun meanwhile
        wait_until(lambda: not box.processes(), order.choice([1.0, 2.0]))
    kill_all(box, signal.SIGKILL, order)
    again(box)
    (box.root / "go").touch()
    assert ended(box, python) == "done"
    assert [ended(box, task) for task in queued] == ["done", "done"]
    assert ended(box, plain) == "interrupted", box.story()
    # Whoever leaves with 0 when it is told to has said that it is done; it is believed if its worker was told only later.
    is_first = told.index(holder) < min(map(told.index, commands))
    assert ended(box, sly) in ({"interrupted"} if is_first else {"interrupted", "done"}), box.story()
    assert notes(box, "b") == notes(box, "c") == notes(box, "e") == ["begun"]
    assert notes(box, "a").count("begun") >= 2
    assert box.task(early)["state"] == "done"
    assert result(box, python)["crashes"] == [], "nobody is to blame"


def test_three_reboots_make_no_task_dead(box: Box) -> None:
    box.init(2)
    python = py(box, "a")
    for times in range(1, 5):
        wait_until(lambda times=times: notes(box, "a").count("begun") >= times, 20, story=box.story)  # type: ignore[misc]
        kill_all(box, signal.SIGKILL, random.Random(times))
        again(box)
    (box.root / "go").touch()
    assert ended(box, python) == "done"


CLIENT = """
import sys
from tmax import Swarm
from tmax.api.task_errors import TaskInterrupted
sys.path.insert(0, sys.argv[1])
import work
swarm = Swarm.connect()
python = swarm.submit(work.wait, sys.argv[1], "a")
shell = swarm.shell(["sh", "-c", "echo begun >> b; sleep 100"], cwd=sys.argv[1])
try:
    print("status", shell.result().returncode, flush=True)
except TaskInterrupted as error:
    print("interrupted", error.task, flush=True)
print(python.result(), flush=True)
"""


def test_a_waiting_client_is_told_the_truth_after_everything_was_killed(box: Box) -> None:
    (box.root / "client.py").write_text(CLIENT)
    box.init(2)
    client = subprocess.Popen(
        [sys.executable, str(box.root / "client.py"), str(box.root)],
        env={key: text for key, text in box.env.items() if key != "TMAX_TEST_ROOT"},  # it is not one of those that are killed
        cwd=box.root,
        stdout=subprocess.PIPE,
        text=True,
    )
    begun(box, "a", "b")
    kill_all(box, signal.SIGKILL, random.Random(1))
    box.tmax("init", "-n", "2")
    wait_until(lambda: notes(box, "a").count("begun") == 2, 30, story=box.story)
    (box.root / "go").touch()
    try:
        out, _ = client.communicate(timeout=30)
    finally:
        client.kill()
        client.communicate()
    assert out.split() == ["interrupted", "2", "a"], box.story()
