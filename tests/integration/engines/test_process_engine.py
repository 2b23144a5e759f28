"""Workers as plain processes: no tmux anywhere, output in files, ends and adoption as far as a parent can know them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engine_rig import PlainSpawner, Rig, kill9, python_run, settings_of, shell_run, waiting_run
from tests.integration.engines.test_ending import alive
from tests.wait import wait_until
from tmax.core.events import LifeConnected, LifeEnded, LifePaneless, LifeStarted
from tmax.core.settings import SwarmSettings
from tmax.engines.life_mark import mark_of
from tmax.engines.process import output_files
from tmax.engines.process.process_host import ProcessHost
from tmax.engines.zygote.zygote_spawner import ZygoteSpawner
from tmax_pipes.messages import Done, Started, Stop

MakeRig = Callable[..., Rig]

BY_ANY_SPAWNER = pytest.mark.parametrize("rig", ["process-exec", "process-zygote"], indirect=True)
BY_EXEC = pytest.mark.parametrize("rig", ["process-exec"], indirect=True)
BY_ZYGOTE = pytest.mark.parametrize("rig", ["process-zygote"], indirect=True)


def zygote_of(rig: Rig, other_than: int = 0) -> int:
    """Return the pid of the zygote that forks now, once it is ready."""
    spawner = rig.engine._spawner
    assert isinstance(spawner, ZygoteSpawner)

    def ready() -> int:
        link = spawner._link
        return link.pid if link is not None and link.ready is not None and link.pid != other_than else 0

    return int(rig.until(ready))


def output_of(rig: Rig, life: int) -> str:
    return Path(rig.engine.output_file(life)).read_text()


# -- starting --------------------------------------------------------------------------------------


@BY_ANY_SPAWNER
def test_workers_are_processes_of_their_own_session_without_a_terminal(rig: Rig) -> None:
    rig.start(1, 2)
    for life in (1, 2):
        pid = rig.pid(life)
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        group, session, terminal = map(int, fields[2:5])
        assert (group, session, terminal) == (pid, pid, 0)
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
        files = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
        assert rig.engine.output_file(life) in files
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert not [one for one in environment if one.startswith(b"TMUX")]
        assert rig.of(LifeStarted, life)[0].session == ""
        assert rig.compute(life, task=life).result == b"3"
    assert not Path(rig.layout.tmux).exists()


@BY_ANY_SPAWNER
def test_tmux_is_not_needed(make_rig: MakeRig, rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tmux").write_text(f"#!/bin/sh\ntouch {tmp_path}/called\nexit 1\n")
    (tmp_path / "tmux").chmod(0o755)
    for name in ("sh", "touch"):
        os.symlink(f"/bin/{name}", tmp_path / name)
    monkeypatch.setenv("PATH", str(tmp_path))
    other = make_rig(rig.settings).open()
    other.start(1)
    assert other.compute(1, task=1).result == b"3"
    kill9(other.pid(1))
    assert other.ended(1).signal == signal.SIGKILL
    other.engine.close(sessions=True)
    assert not (tmp_path / "called").exists()


def test_many_are_started_one_a_turn(make_rig: MakeRig) -> None:
    rig = make_rig(settings_of("process"))
    rig.new_engine(lambda rig: PlainSpawner(rig, ["sleep", "1000"]))
    rig.open().engine.start([(life, f"w{life}") for life in range(1, 17)])
    rig.reactor.run_once(0.0)
    assert len(rig.of(LifeStarted)) < 16
    rig.until(lambda: len(rig.of(LifeStarted)) == 16)


def test_an_interpreter_that_does_not_exist(make_rig: MakeRig) -> None:
    settings = settings_of("process")
    rig = make_rig(replace(settings, swarm=replace(settings.swarm, python="/nonexistent/python")))
    rig.open().engine.start([(1, "w1")])
    assert rig.ended(1).cause == "/nonexistent/python cannot be started: No such file or directory"


def test_a_worker_that_cannot_begin_says_why(make_rig: MakeRig) -> None:
    rig = make_rig(settings_of("process"))
    rig.new_engine(lambda rig: PlainSpawner(rig, ["sh", "-c", "echo first; echo 'no module named x' >&2; exit 3"]))
    rig.open().engine.start([(1, "w1")])
    end = rig.ended(1)
    assert (end.exit_code, end.signal, end.cause) == (3, None, "exited with 3: no module named x")


def test_a_worker_that_does_not_greet_in_time_is_ended(make_rig: MakeRig) -> None:
    rig = make_rig(replace(settings_of("process"), swarm=SwarmSettings(preload=(), engine="process", spawner="exec", start_timeout_s=0.4)))
    rig.new_engine(lambda rig: PlainSpawner(rig, ["sleep", "1000"]))
    rig.open().engine.start([(1, "w1")])
    assert rig.ended(1).cause == "did not start in 0.4 s"
    assert rig.processes() == []


# -- output ----------------------------------------------------------------------------------------


@BY_ANY_SPAWNER
def test_what_a_pane_would_show_is_in_the_output_file(rig: Rig) -> None:
    rig.start(1)
    rig.engine.send(1, [shell_run(5, "echo from the task; echo and its stderr >&2")])
    rig.until(lambda: 5 in {one.task for one in rig.said(1, Done)})
    rig.until(lambda: "and its stderr" in output_of(rig, 1))
    assert "from the task" in output_of(rig, 1)
    assert os.stat(rig.engine.output_file(1)).st_mode & 0o777 == 0o600


@BY_EXEC
def test_an_output_file_that_grows_is_cut_to_its_end(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_files, "LIMIT_BYTES", 20_000)
    monkeypatch.setattr(output_files, "KEPT_BYTES", 5_000)
    rig.start(1)
    rig.engine.send(1, [shell_run(5, "seq 10000; sleep 1000")])
    file = Path(rig.engine.output_file(1))
    rig.until(lambda: output_of(rig, 1).split()[-1:] == ["10000"] and file.stat().st_size <= 5_000)
    numbers = output_of(rig, 1).split()
    assert numbers == [str(number) for number in range(int(numbers[0]), 10001)]


def test_the_output_of_the_last_dead_workers_is_kept(make_rig: MakeRig) -> None:
    rig = make_rig(settings_of("process"))
    rig.new_engine(lambda rig: PlainSpawner(rig, ["sh", "-c", "echo out; exit 1"]))
    rig.open()
    for life in range(1, 6):
        rig.engine.start([(life, "w1")])
        rig.ended(life)
    assert sorted(os.listdir(rig.layout.worker_logs)) == ["3.log", "4.log", "5.log"]
    rig.let_go()
    rig.succeed([])
    assert sorted(os.listdir(rig.layout.worker_logs)) == ["3.log", "4.log", "5.log"]
    rig.start(6)
    kill9(rig.pid(6))
    rig.ended(6)
    assert sorted(os.listdir(rig.layout.worker_logs)) == ["4.log", "5.log", "6.log"]
    rig.engine.close(sessions=True)
    assert not Path(rig.layout.worker_logs).exists()


@BY_EXEC
def test_a_worker_starts_where_its_output_cannot_be_kept(rig: Rig) -> None:
    Path(rig.layout.worker_logs).rmdir()
    rig.start(1)
    assert rig.compute(1, task=1).result == b"3"


# -- ends ------------------------------------------------------------------------------------------


@BY_ANY_SPAWNER
def test_exit_statuses_are_known_while_the_parent_lives(rig: Rig) -> None:
    rig.start(1, 2, 3)
    os.kill(rig.pid(1), signal.SIGSEGV)
    rig.engine.send(2, [Stop(why="drain")])
    rig.engine.send(3, [python_run(1, function="os:_exit", args=[37])])
    ends = [rig.ended(life) for life in (1, 2, 3)]
    assert [(end.signal, end.exit_code) for end in ends] == [(signal.SIGSEGV, None), (None, 0), (None, 37)]


@BY_ANY_SPAWNER
def test_no_zombie_and_no_descriptor_stays(rig: Rig) -> None:
    def open_fds() -> int:
        return len(os.listdir("/proc/self/fd"))

    rig.start(1)
    before = open_fds()
    for life in (2, 3, 4):
        rig.start(life)
        kill9(rig.pid(life))
        rig.ended(life)
    host = rig.host
    assert isinstance(host, ProcessHost)
    rig.until(lambda: set(host._children) <= {1})
    assert open_fds() == before
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert [pid for pid in children if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"] == []


# -- adoption --------------------------------------------------------------------------------------


@BY_ANY_SPAWNER
def test_workers_outlive_their_controller_and_are_adopted(rig: Rig, tmp_path: Path) -> None:
    rig.start(1, 2)
    rig.engine.send(1, [waiting_run(5, tmp_path / "go")])
    rig.until(lambda: rig.said(1, Started))
    records, pids = [rig.record(life) for life in (1, 2)], [rig.pid(life) for life in (1, 2)]
    rig.let_go()
    rig.succeed(records)
    assert [rig.greeted(life).hello.pid for life in (1, 2)] == pids
    assert [(one.task, one.state) for one in rig.greeted(1).hello.holding] == [(5, "running")]
    assert rig.of(LifePaneless) == []
    (tmp_path / "go").touch()
    rig.until(lambda: [done for done in rig.said(1, Done) if done.task == 5])
    assert "while [" in output_of(rig, 1)
    rig.start(3)
    assert rig.compute(3, task=6).result == b"3"


@BY_EXEC
def test_the_exit_status_of_an_adopted_worker_is_unknown(rig: Rig) -> None:
    rig.start(1, 2)
    records = [rig.record(life) for life in (1, 2)]
    pid = rig.pid(1)
    rig.let_go()
    kill9(pid)
    rig.succeed(records)
    end = rig.ended(1)
    assert (end.cause, end.signal, end.exit_code) == ("exit status unknown", None, None)
    rig.greeted(2)
    kill9(records[1].pid)
    assert rig.ended(2).cause == "exit status unknown"


@BY_ZYGOTE
def test_the_zygote_reports_the_exit_status_to_the_next_controller(rig: Rig) -> None:
    rig.start(1)
    record, pid = rig.record(1), rig.pid(1)
    rig.let_go()
    kill9(pid)
    rig.succeed([record])
    assert rig.ended(1).cause == "killed by SIGKILL"


def test_a_process_without_a_place_yet_is_found_by_its_mark(make_rig: MakeRig) -> None:
    rig = make_rig(settings_of("process"))
    rig.new_engine(lambda rig: PlainSpawner(rig, ["sleep", "1000"]))
    rig.open().engine.start([(1, "w1")])
    rig.until(lambda: rig.of(LifeStarted))
    record, pid = replace_pid(rig), rig.pid(1)
    rig.let_go()
    rig.succeed([record])
    assert rig.of(LifeStarted)[0].pid == pid
    rig.engine.kill(1, "enough")
    assert rig.ended(1).cause == "enough"


def replace_pid(rig: Rig):
    """The record of a life whose controller died before it knew the process."""
    return rig.record(1, pid=0, ticks=0, session="")


@BY_ANY_SPAWNER
def test_lives_the_store_does_not_know_are_ended(rig: Rig) -> None:
    rig.start(1, 2)
    keep, strange = rig.record(1), rig.pid(2)
    rig.let_go()
    rig.succeed([keep])
    rig.greeted(1)
    rig.until(lambda: not alive(strange))
    rig.until(lambda: not list(Path(rig.layout.workers).glob("*-2.json")))
    assert rig.of(LifeEnded) == []


@BY_EXEC
def test_what_a_living_stranger_publishes_before_its_end_is_removed_too(rig: Rig, tmp_path: Path) -> None:
    """It had no file in the folder when the next controller looked there."""
    rig.let_go()
    stranger = subprocess.Popen(["sleep", "1000"], env={**os.environ, "TMAX_LIFE": mark_of(rig.layout, 9)}, start_new_session=True)
    try:
        rig.succeed()
        published = Path(rig.layout.workers) / "life-9.json"
        published.write_text("{}")
        rig.until(lambda: stranger.poll() is not None)
        rig.until(lambda: not published.exists())
    finally:
        stranger.kill()
        stranger.wait()


@BY_EXEC
def test_a_worker_that_starts_while_strangers_are_ended_is_none_of_them(rig: Rig) -> None:
    rig.let_go()
    stranger = subprocess.Popen(["sleep", "1000"], env={**os.environ, "TMAX_LIFE": mark_of(rig.layout, 9)}, start_new_session=True)
    try:
        rig.succeed()
        rig.engine.start([(10, "w10")])
        rig.until(lambda: rig.of(LifeStarted, 10))
        pid = rig.pid(10)
        rig.until(lambda: b"TMAX_LIFE=" in Path(f"/proc/{pid}/environ").read_bytes())
        rig.until(lambda: stranger.poll() is not None)
        rig.greeted(10)
        assert rig.of(LifeEnded) == []
    finally:
        stranger.kill()
        stranger.wait()


# -- the zygote is killed --------------------------------------------------------------------------


@BY_ZYGOTE
def test_workers_outlive_the_zygote_and_another_one_forks_the_next(rig: Rig) -> None:
    rig.start(1, 2)
    first = zygote_of(rig)
    kill9(first)
    zygote_of(rig, other_than=first)
    rig.start(3)
    assert [rig.compute(life, task=life).result for life in (1, 2, 3)] == [b"3"] * 3
    kill9(rig.pid(1))
    end = rig.ended(1)
    assert (end.cause, end.signal, end.exit_code) == ("exit status unknown", None, None)
    kill9(rig.pid(3))
    assert rig.ended(3).signal == signal.SIGKILL


@BY_ZYGOTE
def test_controller_and_zygote_are_killed_while_a_worker_is_forked(rig: Rig) -> None:
    zygote = zygote_of(rig)
    os.kill(zygote, signal.SIGSTOP)
    rig.engine.start([(1, "w1")])
    rig.until(lambda: rig.host._children)
    rig.let_go()
    kill9(zygote)
    wait_until(lambda: not alive(zygote))
    # Its stub finds that nothing was forked, and becomes the worker.
    wait_until(lambda: len(rig.processes()) == 1)
    from tmax.core.model import LifeRecord

    rig.succeed([LifeRecord(life=1, worker="w1")])
    rig.greeted(1)
    assert rig.of(LifeConnected, 1)
    assert rig.compute(1, task=1).result == b"3"


# -- both engines ----------------------------------------------------------------------------------


def test_workers_of_the_tmux_engine_are_adopted_by_the_process_engine(make_rig: MakeRig) -> None:
    rig = make_rig(settings_of("tmux")).open()
    rig.start(1)
    record = rig.record(1)
    rig.let_go()
    rig.settings = settings_of("process")
    rig.succeed([record])
    rig.greeted(1)
    assert rig.compute(1, task=1).result == b"3"
    assert rig.of(LifePaneless) == []
    rig.start(2)
    # Its end takes the tmux server along: ``Rig.close`` finds nothing that is left.


def test_workers_of_the_process_engine_are_adopted_by_the_tmux_engine(make_rig: MakeRig) -> None:
    rig = make_rig(settings_of("process")).open()
    rig.start(1)
    record = rig.record(1)
    rig.let_go()
    rig.settings = settings_of("tmux")
    rig.succeed([record])
    rig.greeted(1)
    assert [event.life for event in rig.of(LifePaneless)] == [1], "it is replaced by one with a session once it is idle"
