"""A new controller finds the workers of the one before: identity is pid and start ticks, never a name."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine_rig import PlainSpawner, Rig, kill9, python_run, shell_run, waiting_run
from tests.integration.engines.test_ending import ON_BOTH_ENGINES, alive
from tests.wait import wait_until
from tmax.core.events import LifeConnected, LifeEnded, LifePaneless, LifeStarted
from tmax.core.model import LifeRecord
from tmax_pipes.messages import Done, Started
from tmax_pipes.proc_stat import start_ticks


@pytest.fixture
def canary() -> Iterator[subprocess.Popen[bytes]]:
    """A process of nobody's concern."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        assert process.poll() is None, "a process that is none of ours was ended"
        process.kill()


def test_workers_live_on_and_greet_the_next_controller(rig: Rig, tmp_path: Path) -> None:
    rig.start(1, 2)
    rig.engine.send(1, [waiting_run(5, tmp_path / "go")])
    records = [rig.record(life) for life in (1, 2)]
    pids = [rig.pid(life) for life in (1, 2)]
    rig.until(lambda: rig.said(1, object))
    rig.let_go()
    rig.succeed(records)
    greetings = [rig.greeted(life) for life in (1, 2)]
    assert [greeting.hello.pid for greeting in greetings] == pids
    assert all(greeting.reconnected for greeting in greetings)
    assert [(one.task, one.state) for one in greetings[0].hello.holding] == [(5, "running")]
    assert rig.of(LifeStarted) == []
    assert rig.session_of(1)[0] == "w1"
    (tmp_path / "go").touch()
    rig.until(lambda: [done for done in rig.said(1, Done) if done.task == 5])
    assert rig.compute(2, task=6).result == b"3"


@ON_BOTH_ENGINES
def test_a_result_kept_by_a_worker_reaches_the_next_controller(rig: Rig, tmp_path: Path) -> None:
    rig.start(1)
    rig.engine.send(1, [python_run(5, function="os:mkdir", args=[str(tmp_path / "made")])])
    record = rig.record(1)
    rig.let_go()
    wait_until((tmp_path / "made").exists)
    rig.succeed([record])
    rig.until(lambda: [done for done in rig.said(1, Done) if done.task == 5])


def test_died_while_nobody_looked(rig: Rig, tmp_path: Path) -> None:
    rig.start(1, 2)
    rig.engine.send(1, [shell_run(5, f"setsid sleep 1003 & echo $! > {tmp_path}/child; wait")])
    child = int(rig.until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip()))
    records = [rig.record(life) for life in (1, 2)]
    pid = rig.pid(1)
    rig.let_go()
    kill9(pid)
    rig.succeed(records)
    assert rig.ended(1).cause == "killed by SIGKILL"
    assert not alive(child)
    rig.greeted(2)
    assert [event.life for event in rig.of(LifeEnded)] == [1]
    assert not list(Path(rig.layout.workers).glob("*1.*"))


@ON_BOTH_ENGINES
def test_the_controller_died_before_it_knew_the_process(rig: Rig) -> None:
    rig.start(1)
    record, pid = rig.record(1, pid=0, ticks=0, session=""), rig.pid(1)
    rig.let_go()
    rig.succeed([record, LifeRecord(life=2, worker="w2")])
    assert rig.greeted(1).hello.pid == pid
    assert [event.pid for event in rig.of(LifeStarted)] == [pid]
    assert rig.ended(2).cause == "was not started: its controller ended first"


def test_a_process_without_a_place_yet_is_found_by_its_mark(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    rig.new_engine(lambda rig: PlainSpawner(rig, ["sleep", "1000"]))
    rig.open().engine.start([(1, "w1")])
    rig.until(lambda: rig.of(LifeStarted))
    pid = rig.pid(1)
    rig.let_go()
    rig.succeed([LifeRecord(life=1, worker="w1")])
    assert rig.of(LifeStarted)[0].pid == pid
    assert rig.session_of(1)[0] == "w1"
    rig.engine.kill(1, "enough")
    assert rig.ended(1).cause == "enough"


def test_lives_the_store_does_not_know_are_ended(rig: Rig, canary: subprocess.Popen[bytes]) -> None:
    rig.start(1, 2)
    rig.tmux("new-session", "-d", "-s", "mine", "sleep", "1000")
    keep, strange = rig.record(1), rig.pid(2)
    rig.let_go()
    rig.succeed([keep])
    rig.greeted(1)
    rig.until(lambda: not alive(strange))
    rig.until(lambda: not list(Path(rig.layout.workers).glob("*-2.json")))
    rig.until(lambda: "w2" not in rig.sessions())
    assert {"w1", "mine"} <= rig.sessions()
    assert rig.of(LifeEnded) == []


@ON_BOTH_ENGINES
def test_a_number_that_is_another_process_now_is_left_alone(rig: Rig, canary: subprocess.Popen[bytes]) -> None:
    """As after a reboot: the pid of a record belongs to somebody else, once even with the same start ticks."""
    ticks = start_ticks(canary.pid)
    records = [
        LifeRecord(life=1, worker="w1", pid=canary.pid, ticks=ticks - 1, session="w1"),
        LifeRecord(life=2, worker="w2", pid=canary.pid, ticks=ticks, session="w2"),
    ]
    rig.engine.adopt(records)
    for life in (1, 2):
        assert rig.ended(life).cause == "ended with the whole swarm"
    rig.engine.kill(2, "once more")
    rig.run_for(0.05)


def test_tmux_was_killed_too(rig: Rig, tmp_path: Path) -> None:
    rig.start(1)
    rig.engine.send(1, [waiting_run(5, tmp_path / "go")])
    record = rig.record(1)
    server = rig.tmux_sessions.control.server_pid
    rig.until(lambda: rig.said(1, Started))
    rig.let_go()
    kill9(server)
    wait_until(lambda: not alive(server))
    rig.succeed([record])
    rig.greeted(1)
    assert [event.life for event in rig.of(LifePaneless)] == [1]
    assert rig.paneless() == {1}
    assert rig.session_of(1) == ("", "")
    (tmp_path / "go").touch()
    rig.until(lambda: rig.said(1, Done))


@ON_BOTH_ENGINES
def test_dead_records_are_not_looked_at(rig: Rig) -> None:
    rig.engine.adopt([LifeRecord(life=1, worker="w1", pid=os.getpid(), ticks=start_ticks(os.getpid()), alive=False)])
    rig.run_for(0.05)
    assert rig.events == []


@ON_BOTH_ENGINES
def test_an_announcement_of_an_unknown_life_is_its_end(rig: Rig) -> None:
    rig.start(1)
    pid = rig.pid(1)
    rig.let_go()
    rig.succeed([])
    rig.until(lambda: not alive(pid))
    rig.engine.announced(1, f"{rig.layout.workers}/1.1", pid)
    rig.engine.announced(2, f"{rig.layout.workers}/2.1", os.getpid())  # a liar is not obeyed: we live on
    rig.run_for(0.1)
    assert rig.of(LifeConnected) == []
