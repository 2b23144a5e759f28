"""tmux fails in every way it can; tasks do not."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine_rig import Rig, kill9, waiting_run
from tests.wait import wait_until
from tmax.core.events import LifeConnected, LifeEnded, LifePaneless
from tmax.engines.tmux import libtmux_adapter as tmux
from tmax.errors import TmuxError
from tmax_pipes.messages import Done, Started


class Person:
    """A tmux client in a terminal, as a person has."""

    def __init__(self, rig: Rig, session: str, *flags: str) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            command = tmux.attach_command(rig.layout, session, env={**os.environ, "TERM": "xterm", "TMUX": ""})
            os.execvpe("tmux", command.argv, dict(command.env))
        os.set_blocking(self.fd, False)

    def screen(self) -> bytes:
        seen = b""
        while select.select([self.fd], [], [], 0.1)[0]:
            try:
                seen += os.read(self.fd, 65536)
            except OSError:
                break
        return seen

    def leave(self) -> None:
        os.kill(self.pid, signal.SIGHUP)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def attach(rig: Rig) -> Iterator[Callable[..., Person]]:
    people: list[Person] = []

    def make(session: str) -> Person:
        people.append(Person(rig, session))
        return people[-1]

    yield make
    for person in people:
        person.leave()


def test_a_killed_server_costs_panes_not_tasks(rig: Rig, tmp_path: Path) -> None:
    rig.start(1, 2)
    for life in (1, 2):
        rig.engine.send(life, [waiting_run(life, tmp_path / "go")])
    rig.terminals.monitor({"dashboard": ["sleep", "1000"], "log": ["sleep", "1001"]})
    rig.until(lambda: "tmax" in rig.sessions())
    kill9(rig.tmux_sessions.control.server_pid)
    rig.until(lambda: len(rig.of(LifePaneless)) == 2)
    assert rig.paneless() == {1, 2}
    rig.engine.start([(3, "w3")])
    rig.greeted(3)
    assert rig.session_of(3)[0] == "w3"
    rig.until(lambda: {"ctl", "w3", "tmax"} == rig.sessions())
    (tmp_path / "go").touch()
    rig.until(lambda: rig.said(1, Done) and rig.said(2, Done))
    kill9(rig.pid(2))
    assert rig.ended(2).cause == "left, because its session was closed"


def test_a_session_closed_by_a_person_costs_no_task(rig: Rig, tmp_path: Path) -> None:
    rig.start(1, 2)
    for life in (1, 2):
        rig.engine.send(life, [waiting_run(life, tmp_path / "go")])
        rig.until(lambda life=life: rig.said(life, Started))
    rig.tmux("kill-session", "-t", "=w1:")
    rig.until(lambda: rig.of(LifePaneless))
    assert [event.life for event in rig.of(LifePaneless)] == [1]
    rig.tmux("kill-pane", "-t", rig.session_of(2)[1])
    rig.until(lambda: len(rig.of(LifePaneless)) == 2)
    (tmp_path / "go").touch()
    rig.until(lambda: rig.said(1, Done) and rig.said(2, Done))


def test_a_killed_client_is_opened_again_on_the_same_server(rig: Rig) -> None:
    rig.start(1)
    control = rig.tmux_sessions.control
    assert control._client is not None
    server, client = control.server_pid, control._client.pid
    answers: list[tuple[bool, list[str]]] = []
    kill9(client)
    control.send("list-sessions", lambda ok, lines: answers.append((ok, lines)))
    rig.until(lambda: answers and control._client is not None and control._client.pid != client)
    rig.until(lambda: not control._open)
    assert control.server_pid == server
    assert len(answers) == 1  # with an answer or a failure: the server reads our pipe itself, and may be quicker than the death
    control.send("list-sessions", lambda ok, lines: answers.append((ok, lines)))
    rig.until(lambda: len(answers) == 2)
    assert answers[1][0]
    assert rig.of(LifePaneless) == []
    kill9(rig.pid(1))
    assert rig.ended(1).signal == 9


def test_a_stopped_server_delays_a_death_and_no_more(rig: Rig) -> None:
    rig.start(1, 2)
    server = rig.tmux_sessions.control.server_pid
    os.kill(server, signal.SIGSTOP)
    try:
        kill9(rig.pid(1))
        begun = time.monotonic()
        assert rig.ended(1).cause == "exit status unknown"
        assert time.monotonic() - begun < 2.0
        assert rig.compute(2, task=1).result == b"3"
        rig.engine.start([(3, "w3")])
        assert "did not answer" in rig.ended(3).cause
    finally:
        os.kill(server, signal.SIGCONT)
    rig.engine.start([(4, "w4")])
    rig.greeted(4)
    assert rig.session_of(4)[0] == "w4"
    rig.until(lambda: len(rig.processes()) == 2)


def test_a_stopped_server_is_told_when_a_controller_starts(rig: Rig) -> None:
    server = rig.tmux_sessions.control.server_pid
    rig.let_go()
    os.kill(server, signal.SIGSTOP)
    try:
        rig.new_engine()
        rig.tmux_sessions.control.open_limit_s = 0.3
        with pytest.raises(TmuxError, match="does not answer"):
            rig.open()
        with pytest.raises(TmuxError, match="did not answer"):
            tmux.sessions(rig.layout)
    finally:
        os.kill(server, signal.SIGCONT)


@pytest.mark.parametrize(
    "script, said",
    [
        ("", "not installed"),
        (
            "#!/bin/sh\nprintf '%%begin 1 1 0\\n%%end 1 1 0\\n'; read x; printf '%%begin 1 2 1\\n77 2.9a\\n%%end 1 2 1\\n'; cat >/dev/null",
            "too old",
        ),
        ("#!/bin/sh\necho 'open terminal failed'; exit 1", "open terminal failed"),
    ],
)
def test_tmux_missing_too_old_or_broken(make_rig: Callable[..., Rig], tmp_path: Path, monkeypatch, script: str, said: str) -> None:
    for name in ("cat", "sh"):
        os.symlink(f"/bin/{name}", tmp_path / name)
    if script:
        (tmp_path / "tmux").write_text(script)
        (tmp_path / "tmux").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    rig = make_rig()
    with pytest.raises(TmuxError, match=said) as caught:
        rig.open()
    assert caught.value.hint


def test_viewers_are_people_at_the_monitor(rig: Rig, attach: Callable[..., Person]) -> None:
    changes: list[int] = []
    rig.terminals.on_viewers(lambda: changes.append(rig.terminals.viewers()))
    rig.terminals.monitor({"dashboard": ["sh", "-c", "echo DASH; sleep 1000"], "log": ["sleep", "1001"]})
    rig.until(lambda: "tmax" in rig.sessions())
    assert rig.tmux("list-windows", "-t", "=tmax:", "-F", "#{window_name}").split() == ["dashboard", "log"]
    rig.run_for(0.1)
    assert rig.terminals.viewers() == 0
    person = attach("tmax")
    rig.until(lambda: rig.terminals.viewers() == 1)
    wait_until(lambda: b"DASH" in person.screen())
    attach("ctl")
    rig.run_for(0.3)
    assert rig.terminals.viewers() == 1
    rig.tmux("detach-client", "-s", "=tmax:")
    rig.until(lambda: rig.terminals.viewers() == 0)
    assert changes == [1, 0]


def test_a_window_of_the_monitor_that_ended_is_started_again(rig: Rig) -> None:
    windows = {"dashboard": ["sh", "-c", "exit 0"], "log": ["sleep", "1001"]}

    def dead() -> list[str]:
        return rig.tmux("list-panes", "-s", "-t", "=tmax:", "-F", "#{pane_dead}").split()

    rig.terminals.monitor(windows)
    rig.until(lambda: "tmax" in rig.sessions())
    rig.until(lambda: dead() == ["1", "0"])
    rig.terminals.monitor({**windows, "dashboard": ["sleep", "1002"]})
    rig.until(lambda: dead() == ["0", "0"])


def test_attach_from_inside_the_users_own_tmux(rig: Rig, tmp_path: Path) -> None:
    rig.start(1)
    theirs = str(rig.root / "theirs.sock")
    env = {key: value for key, value in os.environ.items() if not key.startswith("TMUX")}
    user = ["tmux", "-S", theirs, "-f", "/dev/null"]
    subprocess.run([*user, "new-session", "-d", "-x", "100", "-y", "30", "sleep", "1000"], env=env, check=True, timeout=10)
    try:
        command = tmux.attach_command(rig.layout, "w1", env={**env, "TMUX": f"{theirs},1,0", "TERM": "screen"})
        assert not command.replaces
        assert "C-b C-b d" in tmux.attach(command)

        def screen() -> str:
            return subprocess.run(
                [*user, "capture-pane", "-p", "-t", "tmax:w1"], capture_output=True, text=True, env=env, check=False
            ).stdout

        def windows() -> str:
            return subprocess.run(
                [*user, "list-windows", "-F", "#{window_name}"], capture_output=True, text=True, env=env, check=False
            ).stdout

        wait_until(lambda: "tmax:w1" in windows())
        name = next(line for line in windows().split("\n") if "w1" in line)
        wait_until(
            lambda: (
                "life 1"
                in subprocess.run(
                    [*user, "capture-pane", "-p", "-t", f":={name}"], capture_output=True, text=True, env=env, check=False
                ).stdout
            ),
            story=screen,
        )
    finally:
        subprocess.run([*user, "kill-server"], env=env, check=False, timeout=10)
        os.unlink(theirs)
    assert rig.of(LifeEnded) == []
    assert len(rig.of(LifeConnected)) == 1


def test_attach_from_inside_the_swarms_own_tmux(rig: Rig, attach: Callable[..., Person]) -> None:
    rig.start(1)
    rig.terminals.monitor({"dashboard": ["sleep", "1000"]})
    attach("tmax")
    rig.until(lambda: rig.terminals.viewers() == 1)
    client = rig.tmux("list-clients", "-t", "=tmax:", "-F", "#{client_name}")
    command = tmux.attach_command(rig.layout, "w1", pane=rig.session_of(1)[1], env={**os.environ, "TMUX": f"{rig.layout.tmux},1,0"})
    assert tmux.attach(command) == ""
    rig.until(lambda: rig.terminals.viewers() == 0)
    assert rig.tmux("list-clients", "-F", "#{client_name} #{client_session}").split("\n")[-1] == f"{client} w1" or client in rig.tmux(
        "list-clients", "-t", "=w1:", "-F", "#{client_name}"
    )


@pytest.mark.parametrize("name", ["", "-t", "a;", "a b", "../x", "#(touch x)", "w1\n", "=w1", "W1"])
def test_a_target_that_is_no_name_of_ours(rig: Rig, name: str) -> None:
    with pytest.raises(TmuxError):
        tmux.attach_command(rig.layout, name)
    with pytest.raises(TmuxError):
        tmux.attach_command(rig.layout, "w1", pane=name or "%")
