"""Whatever dies (worker, stub, zygote, controller): workers that live go on, ends are known where anybody can know them, new lives start."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine_rig import kill9, shell_run, waiting_run
from tests.integration.zygote.zygote_rig import ZygoteRig, alive, is_same, settings_for, stat_fields
from tests.wait import wait_until
from tmax.core.events import LifeConnected, LifeEnded
from tmax_pipes.messages import Done, Stored
from tmax_pipes.proc_stat import start_ticks
from tmax_workers.zygote_wire import RequestStatus, ZygoteReady, from_zygote, line_of

MakeRig = Callable[..., ZygoteRig]

THREADED = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"


def stub_of(rig: ZygoteRig, session: str) -> int:
    return int(rig.pane("#{pane_pid}", session))


# -- stub and pane ---------------------------------------------------------------------------------


def test_a_worker_outlives_its_stub(rig: ZygoteRig) -> None:
    rig.start(1)
    go = rig.root / "go"
    rig.engine.send(1, [waiting_run(1, go)])
    rig.until(lambda: rig.said(1, Done) == [] and "while" in rig.screen("w1"))
    kill9(stub_of(rig, "w1"))
    rig.run_for(0.1)
    go.touch()
    rig.until(lambda: rig.said(1, Done))
    rig.engine.send(1, [Stored(((1, 1),))])
    end = rig.ended(1)
    # The pane went with the stub, so it was replaced after its task; the zygote is its parent and knows how it ended.
    assert (end.signal, end.exit_code) == (None, 0)


def test_a_closed_session_ends_no_task(rig: ZygoteRig) -> None:
    rig.start(1)
    stub = stub_of(rig, "w1")
    go = rig.root / "go"
    rig.engine.send(1, [waiting_run(1, go)])
    rig.until(lambda: "while" in rig.screen("w1"))
    rig.tmux("kill-session", "-t", "=w1:")
    rig.run_for(0.1)
    assert alive(rig.pid(1))
    go.touch()
    rig.until(lambda: rig.said(1, Done))
    rig.engine.send(1, [Stored(((1, 1),))])
    assert rig.ended(1).exit_code == 0
    rig.until(lambda: not alive(stub))


def test_a_life_that_is_not_wanted_any_more_is_never_forked(rig: ZygoteRig) -> None:
    zygote = rig.zygote()
    os.kill(zygote, signal.SIGSTOP)
    rig.engine.start([(1, "w1")])
    rig.until(lambda: "w1" in rig.sessions())
    stub = stub_of(rig, "w1")
    rig.run_for(0.1)
    rig.engine.kill(1, "changed our mind")
    assert rig.ended(1).cause == "changed our mind"
    os.kill(zygote, signal.SIGCONT)
    rig.until(lambda: not alive(stub))
    rig.start(2)
    assert rig.of(LifeConnected, 1) == []
    assert [pid for pid in rig.processes() if pid != rig.pid(2)] == []


def test_a_stub_that_dies_first_ends_the_life_at_once(rig: ZygoteRig) -> None:
    zygote = rig.zygote()
    os.kill(zygote, signal.SIGSTOP)
    rig.engine.start([(1, "w1")])
    rig.until(lambda: "w1" in rig.sessions())
    rig.run_for(0.1)
    stub = stub_of(rig, "w1")
    kill9(stub)
    wait_until(lambda: not alive(stub))
    os.kill(zygote, signal.SIGCONT)
    assert rig.ended(1).signal == signal.SIGKILL
    rig.start(2)
    assert rig.of(LifeConnected, 1) == []


# -- zygote ----------------------------------------------------------------------------------------


def test_workers_outlive_the_zygote_and_another_one_forks_the_next(rig: ZygoteRig) -> None:
    rig.start(1, 2)
    first = rig.zygote()
    pane = rig.tmux_sessions.pane_of(1)
    assert pane is not None
    kill9(first)
    second = rig.zygote(other_than=first)
    rig.start(3)
    assert int(stat_fields(rig.pid(3))[1]) == second
    assert [rig.compute(life, task=life).result for life in (1, 2, 3)] == [b"3"] * 3
    assert rig.tmux("display-message", "-p", "-t", pane.pane_id, "#{pane_dead}") == "0"
    kill9(rig.pid(1))
    # Nobody is left who could know; that it has ended is sure, by its pidfd.
    end = rig.ended(1)
    assert (end.cause, end.signal, end.exit_code) == ("exit status unknown", None, None)
    rig.until(lambda: "the exit status of the worker is unknown" in rig.tmux("capture-pane", "-p", "-t", pane.pane_id))
    kill9(rig.pid(3))
    assert rig.ended(3).signal == signal.SIGKILL


def test_a_zygote_that_keeps_dying_is_given_up(rig: ZygoteRig) -> None:
    last = 0
    for _ in range(4):
        last = rig.zygote(other_than=last)
        kill9(last)
    rig.until(lambda: rig.spawner.trouble)
    assert "ended 4 times" in rig.spawner.trouble
    rig.start(1)
    assert not Path(rig.layout.zygote).exists()
    assert stub_of(rig, "w1") == rig.pid(1)


def test_a_zygote_that_cannot_import_leaves_the_panes_to_themselves(make_rig: MakeRig, tmp_path: Path) -> None:
    text = "import os, sys\nif 'tmax_workers.zygote' in sys.orig_argv: os.abort()\n"
    (tmp_path / "deadly_module.py").write_text(text)
    rig = make_rig(settings_for(preload=["deadly_module"]), {"PYTHONPATH": str(tmp_path)})
    rig.start(1, 2)
    rig.until(lambda: rig.spawner.trouble)
    assert "before it was ready" in rig.spawner.trouble
    rig.start(3)
    assert stub_of(rig, "w3") == rig.pid(3)
    kill9(rig.pid(1))
    assert rig.ended(1).signal == signal.SIGKILL


def test_no_worker_is_forked_beside_a_second_thread(make_rig: MakeRig, tmp_path: Path) -> None:
    (tmp_path / "threaded_module.py").write_text(THREADED)
    rig = make_rig(settings_for(preload=["threaded_module"]), {"PYTHONPATH": str(tmp_path)})
    rig.start(1, 2)
    rig.until(lambda: rig.spawner.trouble)
    assert "importing threaded_module started 1 more thread" in rig.spawner.trouble
    for life in (1, 2):
        assert rig.value(life, "'threaded_module' in __import__('sys').modules")
        assert stub_of(rig, f"w{life}") == rig.pid(life)
        assert rig.pane("#{pane_current_command}", f"w{life}").startswith("python")
        assert rig.value(life, "__import__('os').close(__import__('os').open('/dev/tty', 2))") is None
    rig.start(3)
    kill9(rig.pid(3))
    assert rig.ended(3).signal == signal.SIGKILL


def test_a_thread_that_starts_later_stops_the_forking(make_rig: MakeRig, tmp_path: Path) -> None:
    go = tmp_path / "go"
    # The zygote itself runs nothing; a signal handler is how a module could still start something.
    text = f"import signal\nsignal.signal(signal.SIGUSR2, lambda *_: (exec({THREADED!r}, {{}}), open({str(go)!r}, 'w').close()))\n"
    (tmp_path / "late_module.py").write_text(text)
    rig = make_rig(settings_for(preload=["late_module"]), {"PYTHONPATH": str(tmp_path)})
    rig.start(1)
    zygote = rig.zygote()
    assert stat_fields(rig.pid(1))[1] == str(zygote)
    os.kill(zygote, signal.SIGUSR2)
    rig.until(go.exists)
    rig.start(2)
    assert rig.pid(2) == stub_of(rig, "w2")
    assert "1 more thread" in rig.spawner.trouble
    kill9(rig.pid(1))
    assert rig.ended(1).signal == signal.SIGKILL, "it retired, and still knows how its children end"


def test_edited_code_is_in_the_next_worker(make_rig: MakeRig, tmp_path: Path) -> None:
    module = tmp_path / "user_module.py"
    module.write_text("VALUE = 1\n")
    rig = make_rig(settings_for(preload=["user_module"]), {"PYTHONPATH": str(tmp_path)})
    rig.start(1)
    first = rig.zygote()
    assert rig.value(1, "__import__('user_module').VALUE") == 1
    module.write_text("VALUE = 22\n")
    rig.start(2)
    assert rig.value(2, "__import__('user_module').VALUE") == 22
    second = rig.zygote(other_than=first)
    rig.start(3)
    assert int(stat_fields(rig.pid(3))[1]) == second
    assert rig.value(3, "__import__('user_module').VALUE") == 22
    assert rig.spawner.trouble == ""
    kill9(rig.pid(1))
    assert rig.ended(1).signal == signal.SIGKILL
    rig.until(lambda: not alive(first))  # the last of its children has ended


def test_garbage_on_its_socket_does_not_disturb_it(rig: ZygoteRig) -> None:
    zygote = rig.zygote()
    for garbage in (b"{\n", b'{"type":"nonsense"}\n', b"S\xff\xff\xff\xffx", b"S\0\0\0\x05abc", b"\0" * 100_000, b"S\0\0\0\x031\0x"):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(rig.layout.zygote)
            peer.sendall(garbage)
    rig.start(1)
    assert rig.zygote() == zygote
    assert stat_fields(rig.pid(1))[1] == str(zygote)


# -- controller ------------------------------------------------------------------------------------


def test_the_next_controller_takes_the_zygote_over_and_hears_what_was_kept(rig: ZygoteRig) -> None:
    rig.start(1, 2, 3)
    zygote = rig.zygote()
    records = [rig.record(life) for life in (1, 2, 3)]
    rig.let_go()
    os.kill(rig.pid(1), signal.SIGKILL)
    pids = {life: rig.pid(life) for life in (1, 2, 3)}
    wait_until(lambda: not alive(pids[1]))
    rig.succeed(records)
    assert rig.zygote() == zygote
    assert rig.ended(1).signal == signal.SIGKILL
    assert [rig.greeted(life).hello.pid for life in (2, 3)] == [pids[2], pids[3]]
    kill9(pids[2])
    assert rig.ended(2).signal == signal.SIGKILL
    rig.start(4)
    assert stat_fields(rig.pid(4))[1] == str(zygote)
    assert kept_by(rig) == set()


def kept_by(rig: ZygoteRig) -> set[int]:
    """Return the lives whose ends the zygote still keeps."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(rig.layout.zygote)
        peer.sendall(line_of(RequestStatus()))
        with peer.makefile("rb") as lines:
            ready = from_zygote(lines.readline())
    assert isinstance(ready, ZygoteReady)
    return {ended.life for ended in ready.ended}


def test_ends_are_kept_until_somebody_has_used_them(rig: ZygoteRig) -> None:
    rig.start(1)
    rig.zygote()
    pid = rig.pid(1)
    rig.let_go()
    kill9(pid)
    wait_until(lambda: not alive(pid))
    wait_until(lambda: kept_by(rig) == {1})
    assert kept_by(rig) == {1}
    rig.succeed([])
    rig.until(lambda: not list(Path(rig.layout.workers).iterdir()))


def test_a_zygote_that_does_not_fit_any_more_retires(rig: ZygoteRig) -> None:
    rig.start(1)
    first, pid = rig.zygote(), rig.pid(1)
    records = [rig.record(1)]
    rig.let_go()
    rig.settings = settings_for(preload=["json"])
    rig.succeed(records)
    second = rig.zygote(other_than=first)
    assert rig.greeted(1).hello.pid == pid
    rig.start(2)
    assert stat_fields(rig.pid(2))[1] == str(second)
    assert alive(first)
    kill9(pid)
    assert rig.ended(1).signal == signal.SIGKILL
    rig.until(lambda: not alive(first))


def test_a_zygote_that_does_not_answer_is_left_alone(rig: ZygoteRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tmax.engines.zygote.zygote_spawner.GREET_LIMIT_S", 0.1)
    rig.start(1)
    first = rig.zygote()
    records = [rig.record(1)]
    rig.let_go()
    os.kill(first, signal.SIGSTOP)
    rig.succeed(records)
    rig.start(2)
    assert stat_fields(rig.pid(2))[1] == str(rig.zygote(other_than=first))
    os.kill(first, signal.SIGCONT)
    kill9(rig.greeted(1).hello.pid)
    assert rig.ended(1).signal == signal.SIGKILL
    rig.until(lambda: not alive(first))


def test_without_controller_and_children_it_ends(make_rig: MakeRig) -> None:
    rig = make_rig(settings_for(orphan_ttl_s=0.3))
    zygote = rig.zygote()
    ticks = start_ticks(zygote)
    rig.run_for(0.6)
    assert is_same(zygote, ticks), "there is a controller"
    rig.let_go()
    wait_until(lambda: not is_same(zygote, ticks), timeout_s=5)
    rig.succeed([])
    rig.start(1)


def test_down_ends_it(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.start(1)
    zygote = rig.zygote()
    rig.engine.close(sessions=True)
    assert not alive(zygote)
    assert not Path(rig.layout.zygote).exists()


def test_down_ends_one_that_still_imports(make_rig: MakeRig, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never")
    (tmp_path / "endless_module.py").write_text(f"open({str(tmp_path / 'never')!r}).read()\n")
    rig = make_rig(settings_for(preload=["endless_module"]), {"PYTHONPATH": str(tmp_path)})
    pid = next(iter(rig.spawner._processes))
    rig.engine.start([(1, "w1")])
    rig.run_for(0.2)
    rig.engine.close(sessions=True)
    assert not alive(pid)


def test_auto_is_the_zygote_here(make_rig: MakeRig) -> None:
    rig = make_rig(settings_for("auto"))
    assert rig.spawner.trouble == ""
    assert sys.platform == "linux"
    rig.start(1)
    rig.engine.send(1, [shell_run(1, "echo hello from a forked worker")])
    rig.until(lambda: "hello from a forked worker" in rig.screen("w1"))
    assert rig.of(LifeEnded) == []
