"""What a command left running ends with it, unless it is kept; real workers, real daemons."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.integration.workers.harness import Bench, call, run, sh, shell
from tests.integration.workers.test_descendants import runs
from tests.wait import wait_until
from tmax_pipes.messages import Started, Stop, Stored
from tmax_pipes.proc_stat import stat_fields

WAYS = {
    "background": "sleep 300 & echo $! >pid",
    "nohup": "nohup sleep 300 >/dev/null 2>&1 & echo $! >pid",
    "session": "setsid sh -c 'echo $$ >pid; exec sleep 300' & while [ ! -s pid ]; do sleep 0.01; done",
    "daemon": "(setsid sh -c 'sleep 300 & echo $! >pid' &) ; while [ ! -s pid ]; do sleep 0.01; done",
    "clean": "env -i setsid /bin/sh -c 'echo $$ >pid; exec sleep 300' & while [ ! -s pid ]; do sleep 0.01; done",
}


def pid_in(folder: Path) -> int:
    """The process that the task left, which wrote its number."""
    wait_until(lambda: (folder / "pid").exists() and (folder / "pid").read_text().strip() != "")
    return int((folder / "pid").read_text())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("split", [False, True])
def test_it_ends_when_its_task_has_ended_well(worker: Bench, folder: Path, way: str, split: bool):
    worker.say(run(1, sh(WAYS[way], cwd=os.fsencode(folder), split=split)))
    report = worker.done(1, timeout_s=5).report
    assert not runs(pid_in(folder))
    assert report.duration_s < 1
    worker.say(run(2, shell("true")))
    worker.done(2)


@pytest.mark.parametrize("way", WAYS)
def test_it_ends_when_its_task_is_cancelled(worker: Bench, folder: Path, way: str):
    worker.say(run(1, sh(WAYS[way] + "; sleep 300", cwd=os.fsencode(folder))))
    pid = pid_in(folder)
    worker.wait(Started, lambda one: one.task == 1 and one.group)
    worker.say(Stop(1, 1))
    assert worker.failed(1).failure.kind == "cancelled"
    assert not runs(pid)


@pytest.mark.parametrize("way", ["background", "daemon"])
def test_it_ends_when_the_time_of_its_task_is_over_also_when_it_is_deaf(worker: Bench, folder: Path, way: str):
    deaf = WAYS[way].replace("sleep 300", "sh -c \"trap '' TERM; while :; do sleep 0.05; done\"") if way == "background" else WAYS[way]
    worker.say(run(1, sh(deaf + "; sleep 300", cwd=os.fsencode(folder)), timeout_s=0.6, grace_s=0.3))
    pid = pid_in(folder)
    assert worker.failed(1).failure.kind == "timeout"
    assert not runs(pid)


def test_a_deaf_one_has_a_second_and_what_it_says_meanwhile_is_kept(worker: Bench):
    worker.say(
        run(1, sh("(trap 'echo asked' TERM; echo up; while :; do sleep 0.05; done) & while ! read -t 0.2 x; do break; done; sleep 0.3"))
    )
    began = time.monotonic()
    done = worker.done(1, timeout_s=10)
    assert time.monotonic() - began < 4
    assert b"asked" in done.report.tail
    assert done.report.duration_s < 1, "its time is that of the command itself"


def test_its_answer_counts_whatever_became_of_what_it_left(worker: Bench):
    worker.say(run(1, sh("(trap '' TERM; while :; do sleep 0.05; done) & exit 3"), grace_s=0.2))
    assert worker.failed(1).failure.exit_code == 3


@pytest.mark.parametrize("way", WAYS)
def test_kept_it_lives_on_past_later_tasks_and_its_worker(worker: Bench, folder: Path, way: str):
    worker.say(run(1, sh(WAYS[way] + "; env >>env", cwd=os.fsencode(folder), keep_background=True)))
    worker.done(1)
    pid = pid_in(folder)
    try:
        worker.say(run(2, sh("sleep 300 & true")), run(3, shell("true")))
        worker.done(3)
        assert runs(pid)
        worker.say(Stored(((1, 1), (2, 1), (3, 1))), Stop(why="drain"))
        worker.wait_gone()
        assert runs(pid)
        assert b"TMAX_LIFE" not in Path(f"/proc/{pid}/environ").read_bytes()
    finally:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not runs(pid))


def test_what_is_kept_of_a_cancelled_task_is_what_left_its_group(worker: Bench, folder: Path):
    text = f"{WAYS['session']}; sleep 300 & echo $! >inside; wait"
    worker.say(run(1, sh(text, cwd=os.fsencode(folder), keep_background=True)))
    pid = pid_in(folder)
    wait_until(lambda: (folder / "inside").exists() and (folder / "inside").read_text() != "")
    worker.say(Stop(1, 1))
    assert worker.failed(1).failure.kind == "cancelled"
    assert not runs(int((folder / "inside").read_text()))
    assert runs(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_worker_that_leaves_takes_along_what_its_running_task_started(worker: Bench, folder: Path):
    worker.say(run(1, sh(WAYS["daemon"] + "; sleep 300", cwd=os.fsencode(folder))))
    pid = pid_in(folder)
    worker.say(Stop(why="now", grace_s=1))
    worker.wait_gone()  # the task did not end, its worker left: nothing is reported
    assert not runs(pid)


def test_orphans_that_end_while_the_command_runs_do_not_pile_up(worker: Bench, folder: Path):
    worker.say(
        run(
            1,
            sh("for i in 1 2 3 4 5 6 7 8; do (sleep 0 &) ; done; echo up; while [ ! -e go ]; do sleep 0.05; done", cwd=os.fsencode(folder)),
        )
    )
    worker.wait_screen("\nup\n")

    def zombies() -> int:
        found = 0
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                state, parent, *_ = stat_fields(name)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
            found += state == b"Z" and int(parent) == worker.pid
        return found

    wait_until(lambda: zombies() == 0, timeout_s=5)
    (folder / "go").touch()
    worker.done(1)


SHARED_MEMORY = """
from multiprocessing.shared_memory import SharedMemory
one = SharedMemory(create=True, size=10)
one.close()
one.unlink()
"""
"""Starts Python's own process that looks after shared memory."""


def test_pythons_own_helper_is_not_what_a_command_left(worker: Bench):
    worker.say(
        run(1, call(exec, SHARED_MEMORY, {})), run(2, sh("sleep 300 & true")), run(3, shell("true")), run(4, call(exec, SHARED_MEMORY, {}))
    )
    for task in range(1, 5):
        assert worker.done(task).report.tail == b""
    assert worker.done(2).report.duration_s < 0.9
