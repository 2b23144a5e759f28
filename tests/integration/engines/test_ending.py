"""The end of a worker: no message of it is lost, nothing it started lives on, and it is reported once."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine_rig import PlainSpawner, Rig, kill9, python_run, shell_run
from tests.wait import wait_until
from tmax.core.events import LifeEnded, LifeMessage, LifeSilent
from tmax_pipes.messages import Beat, Done, Failed, Run, Started, Stop
from tmax_pipes.proc_stat import start_ticks

ON_BOTH_ENGINES = pytest.mark.parametrize("rig", ["tmux", "process"], indirect=True)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def test_killed_by_the_kernel(rig: Rig) -> None:
    rig.start(1, 2)
    kill9(rig.pid(1))
    end = rig.ended(1)
    assert (end.cause, end.signal, end.exit_code) == ("killed by SIGKILL", 9, None)
    assert "w1-dead-1" in rig.sessions()
    assert "w1" not in rig.sessions()
    assert not list(Path(rig.layout.workers).glob("1.*")) and not list(Path(rig.layout.workers).glob("life-1*"))
    rig.run_for(0.1)
    assert len(rig.of(LifeEnded)) == 1
    assert rig.compute(2, task=1).result == b"3"


@ON_BOTH_ENGINES
def test_asked_to_leave_it_exits_with_0(rig: Rig) -> None:
    rig.start(1)
    rig.engine.send(1, [Stop(why="drain")])
    assert rig.ended(1).cause == "exited with 0"


@ON_BOTH_ENGINES
def test_ended_by_us_twice_is_reported_once(rig: Rig) -> None:
    rig.start(1)
    rig.engine.kill(1, "too old")
    rig.engine.kill(1, "again")
    rig.engine.kill(99, "nobody")
    assert rig.ended(1).cause == "too old"
    rig.engine.kill(1, "after its end")
    rig.engine.send(1, [Stop()])
    rig.run_for(0.1)
    assert len(rig.of(LifeEnded)) == 1


def test_killed_before_tmux_has_answered(rig: Rig) -> None:
    rig.engine.start([(1, "w1")])
    rig.engine.kill(1, "changed our mind")
    assert rig.ended(1).cause.startswith("changed our mind")
    assert rig.processes() == []


@ON_BOTH_ENGINES
def test_a_result_written_just_before_the_death_counts(rig: Rig) -> None:
    rig.start(1)
    results = rig.engine._lives[1].connection
    assert results is not None
    fd = results._fifos.read_fds()[0]
    rig.engine.send(1, [python_run(5, function="builtins:str.center", args=["a", 3000])])
    # The loop does not run meanwhile: what the worker sends stays in the FIFO.
    wait_until(lambda: struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"0000"))[0] > 3000)
    kill9(rig.pid(1))
    wait_until(lambda: not alive(rig.pid(1)))
    rig.ended(1)
    kinds = [event.message if isinstance(event, LifeMessage) else event for event in rig.events]
    done = next(index for index, one in enumerate(kinds) if isinstance(one, Done) and one.task == 5)
    assert done < next(index for index, one in enumerate(kinds) if isinstance(one, LifeEnded))


@ON_BOTH_ENGINES
def test_nothing_it_started_lives_on(rig: Rig, tmp_path: Path) -> None:
    rig.start(1)
    # One stays in the task's group; one leaves session and group but bears the mark; one drops its environment, not its group.
    script = f"echo $$ > {tmp_path}/a; setsid sleep 1001 & echo $! > {tmp_path}/b; env -i sleep 1002 & echo $! > {tmp_path}/c; wait"
    rig.engine.send(1, [shell_run(3, script)])
    pids = [int(rig.until(lambda name=name: (tmp_path / name).exists() and (tmp_path / name).read_text().strip())) for name in "abc"]
    rig.until(lambda: any(one.group for one in rig.said(1, Started)))
    assert all(map(alive, pids))
    kill9(rig.pid(1))
    rig.ended(1)
    assert [pid for pid in pids if alive(pid)] == []


@ON_BOTH_ENGINES
def test_a_child_forked_without_exec_lives_not_on(rig: Rig, tmp_path: Path) -> None:
    code = f"import os; pid = os.fork(); pid and open({str(tmp_path / 'pid')!r}, 'w').write(str(pid)); pid or os.read(os.pipe()[0], 1)"
    rig.start(1)
    rig.engine.send(1, [python_run(3, function="builtins:exec", args=[code])])
    pid = int(rig.until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    kill9(rig.pid(1))
    rig.ended(1)
    assert not alive(pid)


def test_only_the_last_dead_sessions_are_kept(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    rig.new_engine(lambda rig: PlainSpawner(rig, ["sh", "-c", "exit 1"]))
    rig.open()
    for life in range(1, 6):
        rig.engine.start([(life, "w1")])
        rig.ended(life)
    assert {name for name in rig.sessions() if "dead" in name} == {"w1-dead-3", "w1-dead-4", "w1-dead-5"}


def test_a_name_can_be_used_again_at_once(rig: Rig) -> None:
    rig.start(1)
    kill9(rig.pid(1))
    rig.ended(1)
    rig.engine.start([(2, "w1")])
    rig.greeted(2)
    assert rig.session_of(2)[0] == "w1"


@ON_BOTH_ENGINES
def test_a_connection_that_ends_costs_no_life(rig: Rig) -> None:
    rig.start(1)
    connection = rig.engine._lives[1].connection
    assert connection is not None
    os.write(connection._fifos.write_fds()[0] if connection._fifos.write_fds() else connection._fifos.fds()[1], b"no frame of ours")
    rig.until(lambda: rig.of(LifeSilent, 1))
    rig.until(lambda: len([event for event in rig.events if type(event).__name__ == "LifeConnected"]) == 2)
    assert rig.events[-1].reconnected  # type: ignore[union-attr]
    assert rig.compute(1, task=2).result == b"3"
    assert not rig.of(LifeEnded)


@ON_BOTH_ENGINES
def test_a_task_too_large_for_a_frame_comes_back(rig: Rig) -> None:
    rig.start(1)
    rig.engine.send(1, [python_run(4, args=["x" * 2_000_000]), python_run(5)])
    rig.until(lambda: rig.said(1, Done))
    refused = rig.said(1, Failed)[0]
    assert (refused.task, refused.failure.kind) == (4, "refused")


@ON_BOTH_ENGINES
def test_what_it_used_is_remembered(rig: Rig) -> None:
    rig.start(1)
    rig.engine.send(1, [shell_run(3, "sleep 1000")])
    rig.until(lambda: [beat for beat in rig.said(1, Beat) if beat.rss_bytes])
    kill9(rig.pid(1))
    assert rig.ended(1).peak_rss_bytes > 1_000_000


@ON_BOTH_ENGINES
def test_many_die_at_once(rig: Rig) -> None:
    rig.start(1, 2, 3, 4)
    for life in (1, 2, 3, 4):
        kill9(rig.pid(life))
    rig.until(lambda: len(rig.of(LifeEnded)) == 4)
    assert {event.signal for event in rig.of(LifeEnded)} == {9}
    assert start_ticks(rig.pid(1)) == 0


def test_messages_to_nobody_are_dropped(rig: Rig) -> None:
    rig.engine.send(4, [Run(task=1, attempt=1, job=python_run(1).job)])
    rig.engine.name(4, "w4")
    assert rig.events == []


@ON_BOTH_ENGINES
def test_an_idle_engine_does_not_wake(rig: Rig) -> None:
    rig.start(1, 2)
    rig.run_for(0.5)
    turns = 0
    import time

    end = time.monotonic() + 1.5
    while (left := end - time.monotonic()) > 0:
        rig.reactor.run_once(left)
        turns += 1
    assert turns <= 2, f"{turns} turns in 1.5 s, {sys.getsizeof(rig.events)}"
