"""Starting a missing controller: once, in its own session, with a clear word when it fails.  The controller is the toy, as a process."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.wait import wait_until
from tmax.control.client import connect
from tmax.errors import FolderError, NoSwarm, TmaxError, UsageError, WaitTimedOut
from tmax.launch import answers, down_mark, ensure_controller
from tmax.layout import Layout

MODULE = "tests.integration.control.toy"


@pytest.fixture
def layout(no_leaks: None) -> Iterator[Layout]:
    root = tempfile.mkdtemp(prefix="tml-", dir="/tmp")
    made = Layout("toy", f"{root}/state/tmax/toy", f"{root}/run/tmax/toy")
    yield made
    if answers(made):
        with connect(made) as client:
            client.request("stop")
        wait_until(lambda: not answers(made))
    shutil.rmtree(root)


def start(layout: Layout, **options: Any) -> bool:
    return ensure_controller(layout, module=MODULE, **options)


def say(layout: Layout, what: str) -> None:
    os.makedirs(layout.state, mode=0o700)
    with open(f"{layout.state}/say", "w", encoding="utf-8") as file:
        file.write(what)


def test_it_is_started_once_as_a_daemon(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMUX", "/tmp/x,1,2")
    monkeypatch.setenv("TMUX_PANE", "%1")
    assert start(layout) is True
    assert start(layout) is False
    with connect(layout) as client:
        told = client.request("about")
        assert told == {"cwd": "/", "tmux": [], "session": True, "stdin": "/dev/null"}
        assert client.controller_pid != os.getpid()
    assert stat.S_IMODE(os.stat(layout.init_lock).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(layout.log).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(layout.state).st_mode) == 0o700


def test_several_at_once_start_one(layout: Layout) -> None:
    code = f"""
import sys
from tmax.launch import ensure_controller
from tmax.layout import Layout
print(ensure_controller(Layout({layout.swarm!r}, {layout.state!r}, {layout.runtime!r}), module={MODULE!r}))
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    told = sorted(one.communicate(timeout=30)[0].strip() for one in running)
    assert told == ["False", "False", "False", "True"]


def test_not_started_when_it_is_not_to_be(layout: Layout) -> None:
    with pytest.raises(NoSwarm):
        start(layout, start=False)
    assert not os.path.exists(layout.state)


def test_a_swarm_taken_down_stays_down_until_it_is_forced(layout: Layout) -> None:
    os.makedirs(layout.state, mode=0o700)
    with open(down_mark(layout), "w", encoding="utf-8"):
        pass
    with pytest.raises(NoSwarm, match="was taken down") as caught:
        start(layout)
    assert caught.value.hint == "start it with: tmax init --swarm toy"
    assert start(layout, forced=True)
    assert not os.path.exists(down_mark(layout))


def test_settings_are_put_in_place_only_by_who_starts_it(layout: Layout) -> None:
    root = os.path.dirname(os.path.dirname(os.path.dirname(layout.state)))
    for name, text in (("one", '{"a": 1}'), ("two", '{"a": 2}')):
        with open(f"{root}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    assert start(layout, settings_path=f"{root}/one")
    assert not start(layout, settings_path=f"{root}/two")
    with open(layout.settings, encoding="utf-8") as file:
        assert file.read() == '{"a": 1}'


def test_its_last_words_are_in_the_error_when_it_dies(layout: Layout) -> None:
    say(layout, "die")
    with pytest.raises(TmaxError, match=r"(?s)ended as it started.*boom: the reason stands in the log") as caught:
        start(layout)
    assert layout.log in caught.value.hint


def test_its_own_error_is_raised_as_what_it_is(layout: Layout) -> None:
    say(layout, '{"error": {"code": "usage", "message": "no tmux", "hint": "install it"}}\n')
    with pytest.raises(UsageError, match="no tmux") as caught:
        start(layout)
    assert caught.value.hint == "install it"


def test_one_that_is_not_ready_in_time_is_said_to_be_so(layout: Layout) -> None:
    say(layout, "hang")
    with pytest.raises(WaitTimedOut, match="not ready yet"):
        start(layout, timeout_s=0.5)
    pids = [pid for pid in os.listdir("/proc") if pid.isdigit() and layout.state.encode() in _command(pid)]
    assert len(pids) == 1
    os.kill(int(pids[0]), 9)
    wait_until(lambda: not _command(pids[0]))


def test_somebody_elses_long_start_is_a_timeout(layout: Layout) -> None:
    from filelock import FileLock

    os.makedirs(layout.state, mode=0o700)
    with FileLock(layout.init_lock), pytest.raises(WaitTimedOut, match="another start"):
        start(layout, timeout_s=0.2)


def test_an_unsafe_state_folder_is_refused(layout: Layout) -> None:
    os.makedirs(layout.state, mode=0o755)
    os.chmod(layout.state, 0o755)
    with pytest.raises(FolderError, match="open to others"):
        start(layout)


def _command(pid: str) -> bytes:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""
