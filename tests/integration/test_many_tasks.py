"""Tens of thousands of tasks: who reads, waits for or cancels all of them keeps nobody else waiting."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.box import Box
from tmax.control.client import connect, open_socket
from tmax.layout import Layout, locate

TASKS = 12_000
SUBMIT = f"""
from tmax import Swarm
s = Swarm.connect()
s.shell(["sleep", "1000"])
futures = [s.submit(pow, 1, 1) for _ in range({TASKS})]
for future in futures:
    while future.task_id is None:
        pass
import os
os._exit(0)  # the tasks stay
"""
SUBMIT = SUBMIT.replace("pass\n", "__import__('select').select([], [], [], 0.01)\n")


@pytest.fixture
def many(box: Box) -> Box:
    """A swarm whose one worker is busy for long, with very many tasks behind."""
    box.init(1)
    subprocess.run([sys.executable, "-c", SUBMIT], env=box.env, cwd=box.root, check=True, timeout=60)
    return box


def asked(layout: Layout, **request: Any) -> socket.socket:
    """Ask something whose answer is not read yet."""
    made = open_socket(layout, 5)
    made.sendall(json.dumps(request).encode() + b"\n")
    return made


def longest_s(layout: Layout, running: subprocess.Popen[bytes]) -> float:
    """Return the longest time in which the controller did not answer somebody else while this command ran."""
    longest = 0.0
    with connect(layout) as client:
        while running.poll() is None:
            before = time.monotonic()
            client.request("hello")
            longest = max(longest, time.monotonic() - before)
    return longest


def test_readers_that_do_not_read_hold_up_nobody_and_get_everything_when_they_do(many: Box) -> None:
    layout = locate("default", many.env)
    readers = [asked(layout, verb="ps", limit=0, pieces=True, all=True) for _ in range(5)]
    try:
        assert many.submit("--name", "late", "--", "true") == TASKS + 2
        with connect(layout) as client:
            client.answer_s = 10
            assert client.request("hello")["pid"]
            found: Any = client.request("ps", limit=0)["tasks"]  # who does not ask for pieces gets one line
            assert len(found) == TASKS + 2
        for reader in readers:
            with reader.makefile("rb") as lines:
                rows = []
                for line in lines:
                    answer = json.loads(line)
                    rows += [row["id"] for row in answer["tasks"]]
                    if not answer.get("more"):
                        break
            assert sorted(rows) in (list(range(1, TASKS + 2)), list(range(1, TASKS + 3)))
    finally:
        for reader in readers:
            reader.close()


def test_all_tasks_are_listed_waited_for_and_cancelled_while_others_are_served(many: Box) -> None:
    layout = locate("default", many.env)
    everything = f"2-{TASKS + 1}"
    for line, code in (
        (["ps", "--limit", "0", "--json"], 0),
        (["ps", "--limit", "0"], 0),
        (["wait", everything, "--timeout", "0"], 75),
        (["cancel", "--dry-run", everything], 0),
        (["cancel", everything], 0),
        (["ps", "--all", "--limit", "0"], 0),
        (["wait", everything, "--json"], 1),
    ):
        path = many.root / "out"
        with path.open("wb") as out:
            running = subprocess.Popen(many.command(*line), env=many.env, cwd=many.root, stdout=out, stderr=subprocess.DEVNULL)
            # On a machine that is busy with other things this says little; a stall for all tasks at once would be longer.
            assert longest_s(layout, running) < 2
        assert running.returncode == code, line
        if "--json" in line:
            rows = json.loads(path.read_bytes())["tasks"]
            assert len(rows) == (TASKS + 1 if line[0] == "ps" else TASKS)
        elif line[0] == "ps":
            assert len(path.read_bytes().splitlines()) == TASKS + 2
    os.remove(path)
    assert many.status()["tasks"]["cancelled"] == TASKS


def test_the_place_in_the_queue_is_counted_once_and_is_right(many: Box) -> None:
    rows = [row for row in many.json("ps", "--limit", "3000")["tasks"] if row["state"] == "ready"]
    assert len(rows) > 2500
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)
    ahead = [0 if "it is next" in row["why"] else int(row["why"].split("; ")[1].split()[0]) for row in rows]
    assert ahead == list(range(len(rows)))


def test_a_state_is_looked_for_behind_any_number_of_others(many: Box) -> None:
    running = many.json("ps", "--state", "running")["tasks"]
    assert [row["id"] for row in running] == [1]
    many.tmax("cancel", str(TASKS))
    assert [row["id"] for row in many.json("ps", "--state", "cancelled", "--limit", "1")["tasks"]] == [TASKS]
    assert len(many.json("ps")["tasks"]) == 50


def test_a_wait_whose_time_is_over_at_once_still_knows_who_has_ended(box: Box) -> None:
    box.init(1)
    number = box.submit("--", "true")
    box.tmax("wait", str(number))
    for _ in range(5):
        box.tmax("wait", "--timeout", "0", str(number))
    open_ = box.submit("--", "sleep", "1000")
    done = box.tmax("wait", "--timeout", "0", str(number), str(open_), ok=False)
    assert done.returncode == 75
    assert f"1 of 2 tasks have not ended: {open_}\n" in done.stderr


def test_numbers_that_no_task_has_are_named_some_of_them(box: Box) -> None:
    box.init(1)
    done = box.tmax("wait", *map(str, range(1000, 1500)), ok=False)
    assert done.returncode == 4
    assert (
        done.stderr
        == "error: no task 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009 and 490 more\nhint: tmax ps --all lists tasks\n"
    )
    assert box.tmax("cancel", *map(str, range(1000, 1500)), ok=False).stderr == done.stderr


def test_huge_arguments_make_no_row_wide(box: Box) -> None:
    box.init(1)
    huge = box.submit("--", "true", "x" * 120_000)
    small = box.submit("--", "true")
    box.tmax("wait", str(huge), str(small))
    text = box.tmax("ps", "--all").stdout
    assert len(text) < 1000
    assert not [line for line in text.splitlines() if line != line.rstrip()]
    label = box.task(huge)["label"]
    assert len(label) == 4096
    assert label.endswith("x…")
