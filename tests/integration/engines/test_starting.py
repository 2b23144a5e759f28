"""Workers come to be in sessions of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.engine_rig import SETTINGS, PlainSpawner, Rig
from tmax.core.events import LifeConnected, LifeEnded, LifeStarted
from tmax.core.settings import SwarmSettings
from tmax.engines.tmux.libtmux_adapter import server_version, sessions, version


def test_workers_start_in_sessions_of_their_names_and_compute(rig: Rig) -> None:
    rig.start(1, 2, 3)
    assert {"ctl", "w1", "w2", "w3"} == rig.sessions()
    for life in (1, 2, 3):
        started = next(index for index, event in enumerate(rig.events) if isinstance(event, LifeStarted) and event.life == life)
        greeted = next(index for index, event in enumerate(rig.events) if isinstance(event, LifeConnected) and event.life == life)
        assert started < greeted
        assert rig.greeted(life).reconnected
        assert rig.greeted(life).hello.pid == rig.pid(life)
        assert rig.session_of(life)[0] == f"w{life}"
        assert rig.tmux("display-message", "-p", "-t", rig.session_of(life)[1], "#{pane_pid} #{@life}") == f"{rig.pid(life)} {life}"
    assert rig.compute(2, task=9).result == b"3"
    assert rig.paneless() == set()


def test_what_a_worker_inherits(rig: Rig) -> None:
    rig.start(1)
    environment = dict(
        entry.split("=", 1) for entry in Path(f"/proc/{rig.pid(1)}/environ").read_text(errors="replace").split("\0") if "=" in entry
    )
    assert not [name for name in environment if name.startswith("TMUX")]
    assert environment["TMAX_SWARM"] == "rig"
    assert environment["OMP_NUM_THREADS"] == "1"
    assert environment["TMAX_LIFE"].endswith(":1")
    assert os.readlink(f"/proc/{rig.pid(1)}/cwd") == "/"
    server = rig.tmux_sessions.control.server_pid
    assert os.readlink(f"/proc/{server}/cwd") == "/"
    assert os.stat(rig.layout.tmux_conf).st_mode & 0o777 == 0o600


def test_sixteen_sessions_are_one_write(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    rig.new_engine(lambda rig: PlainSpawner(rig, ["sleep", "1000"]))
    rig.open()
    begun = time.monotonic()
    rig.engine.start([(life, f"w{life}") for life in range(1, 17)])
    rig.until(lambda: len(rig.of(LifeStarted)) == 16)
    assert time.monotonic() - begun < 2.0
    assert len(rig.sessions()) == 17


def test_a_worker_that_cannot_begin_says_why(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    rig.new_engine(lambda rig: PlainSpawner(rig, ["sh", "-c", "echo first; echo 'no module named x'; sleep 0.1; exit 3"]))
    rig.open().engine.start([(1, "w1")])
    end = rig.ended(1)
    assert (end.exit_code, end.signal, end.cause) == (3, None, "exited with 3: no module named x")
    assert rig.session_of(1) == ("", "")
    assert "w1-dead-1" in rig.sessions()


def test_an_interpreter_that_does_not_exist(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(replace(SETTINGS, swarm=SwarmSettings(preload=(), spawner="exec", python="/nonexistent/python")))
    rig.open().engine.start([(1, "w1")])
    # Not asked: its words. tmux 3.3a drops the output of every tenth process that ends right after it.
    assert rig.ended(1).cause.startswith("exited with 127")


def test_a_worker_that_does_not_greet_in_time_is_ended(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig(replace(SETTINGS, swarm=SwarmSettings(preload=(), spawner="exec", start_timeout_s=0.4)))
    rig.new_engine(lambda rig: PlainSpawner(rig, ["sleep", "1000"]))
    rig.open().engine.start([(1, "w1")])
    assert rig.ended(1).cause == "did not start in 0.4 s"
    assert rig.processes() == []


def test_a_name_in_use_is_freed_and_nothing_in_it_is_harmed(rig: Rig) -> None:
    rig.tmux("new-session", "-d", "-s", "w1", "sleep", "1000")
    pid = rig.tmux("display-message", "-p", "-t", "=w1:", "#{pane_pid}")
    rig.start(1)
    assert rig.tmux("display-message", "-p", "-t", "=w1-before-1:", "#{pane_pid}") == pid
    assert rig.tmux("display-message", "-p", "-t", "=w1:", "#{pane_pid}") == str(rig.pid(1))


def test_a_pooled_worker_that_is_taken_gets_its_name(rig: Rig) -> None:
    rig.engine.start([(7, "pool-7")])
    rig.greeted(7)
    rig.engine.name(7, "w2")
    rig.until(lambda: len(rig.of(LifeConnected, 7)) == 2)
    assert not rig.of(LifeConnected, 7)[1].reconnected
    assert rig.session_of(7)[0] == "w2"
    rig.until(lambda: "w2" in rig.sessions())
    assert "pool-7" not in rig.sessions()
    assert rig.compute(7, task=1).result == b"3"


def test_a_session_renamed_by_a_person_is_still_found(rig: Rig) -> None:
    rig.start(1)
    rig.tmux("rename-session", "-t", "=w1:", "mine")
    rig.until(lambda: rig.session_of(1)[0] == "mine")


def test_what_a_pane_shows_can_be_read(rig: Rig) -> None:
    rig.start(1)
    told: list[str] = []
    rig.terminals.capture(1, told.append)
    rig.terminals.capture(99, told.append)
    rig.until(lambda: len(told) == 2)
    assert "" in told
    assert any("life 1" in text for text in told)


def test_two_swarms_of_one_name_do_not_meet(make_rig: Callable[..., Rig]) -> None:
    one, other = make_rig().open(), make_rig().open()
    one.start(1)
    other.start(1)
    one.let_go()
    one.succeed([])  # knows no lives: everything marked as this swarm's is ended
    one.until(lambda: one.processes() == [])
    assert len(other.processes()) == 1
    assert not other.of(LifeEnded)


def test_sessions_and_versions_for_people(rig: Rig) -> None:
    assert sessions(rig.layout) == ["ctl"]
    assert server_version(rig.layout) == version() == rig.tmux_sessions.control.version
