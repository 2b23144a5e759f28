"""A program ends when what it submitted is accepted, or says how many tasks were not, and why."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.box import Box
from tests.wait import wait_until

Script = Callable[..., subprocess.Popen[str]]
COUNT = 300


@pytest.fixture
def held(box: Box) -> Box:
    """A box with a swarm that accepts tasks and runs none."""
    box.init(1)
    box.tmax("hold")
    return box


@pytest.fixture
def stopped(held: Box) -> Iterator[int]:
    """The pid of its controller, which is stopped until the test is over."""
    pid = held.controller_pid()
    os.kill(pid, signal.SIGSTOP)
    yield pid
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass  # the test ended it


def ended(running: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = running.communicate(timeout=60)
    return running.returncode, out, err


def test_a_program_is_told_once_that_the_queue_is_held(held: Box, script: Script) -> None:
    program = "from tmax import Swarm\ns = Swarm.connect()\nfor n in range(3):\n    done = s.submit(abs, n)\n    s.submit(abs, n)\nprint(done.result())"
    running = script(program)
    assert running.stderr is not None
    assert "the queue is held, tasks wait until it is resumed: tmax resume" in running.stderr.readline()
    held.tmax("resume")
    assert ended(running) == (0, "2\n", "")


def test_a_program_is_told_of_each_hold(held: Box, script: Script) -> None:
    program = (
        "from tmax import Swarm\ns = Swarm.connect()\nfor n in range(2):\n    done = s.submit(abs, n)\n    input()\nprint(done.result())"
    )
    running = script(program, stdin=subprocess.PIPE)
    assert running.stderr is not None and running.stdin is not None
    assert "the queue is held" in running.stderr.readline()
    held.tmax("resume")
    held.tmax("hold")
    running.stdin.write("\n")
    running.stdin.flush()
    assert "the queue is held" in running.stderr.readline()
    held.tmax("resume")
    out, err = running.communicate("\n", timeout=60)
    assert (running.returncode, out, err) == (0, "1\n", "")


def program(ending: str, before: str = "") -> str:
    """Return a program that submits COUNT tasks and ends like this."""
    return f"""
import atexit, gc, os, signal, sys, threading
import tmax.api.task_channel as channel
from tmax import Swarm
{textwrap.dedent(before)}
def f(x): return x
s = Swarm.connect()
def submit(count={COUNT}):
    for number in range(count):
        s.submit(f, number)
{textwrap.dedent(ending)}
"""


@pytest.mark.parametrize(
    "ending, code",
    [
        ("submit()", 0),
        ("submit()\nsys.exit(7)", 7),
        ("submit()\nraise ValueError('mine')", 1),
        ("submit()\ndel s\ngc.collect()", 0),
        ("submit()\ns.shutdown(wait=False)", 0),
        ("thread = threading.Thread(target=submit)\nthread.start()", 0),
        ("submit()\nos.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
        ("with s:\n    submit()\n    os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
        ("atexit.register(submit)", 0),
        ("list(map(submit, [1] * 300))", 0),
    ],
)
def test_what_was_submitted_is_accepted_when_the_program_has_ended(held: Box, script: Script, ending: str, code: int) -> None:
    was, _, err = ended(script(program(ending)))
    assert was == code, err
    assert held.status()["tasks"]["ready"] == COUNT
    assert "error:" not in err


def test_a_block_left_by_an_exception_waits_for_what_runs(box: Box, script: Script) -> None:
    box.init(1)
    was, _, err = ended(script(program("with s:\n    submit()\n    raise ValueError('mine')")))
    assert was == 1, err
    assert box.status()["tasks"]["done"] == COUNT


def test_a_stopped_controller_is_waited_for_and_that_is_said(held: Box, stopped: int, script: Script) -> None:
    running = script(program("submit()", "channel.NOTICE_S = 0.3"))
    assert running.stderr is not None
    assert f"waiting until {COUNT} tasks are accepted by swarm 'default'" in running.stderr.readline()
    os.kill(stopped, signal.SIGCONT)
    assert ended(running)[0] == 0
    assert held.status()["tasks"]["ready"] == COUNT


def test_ctrl_c_while_the_end_waits_says_how_many_are_not_accepted(held: Box, stopped: int, script: Script) -> None:
    running = script(program("submit()", "channel.NOTICE_S = 0.3"))
    assert running.stderr is not None
    running.stderr.readline()
    running.send_signal(signal.SIGINT)
    code, _, err = ended(running)
    assert code == 130
    assert err.startswith(f"error: {COUNT} tasks were not accepted by swarm 'default'")
    assert "Traceback" not in err


def test_a_swarm_that_cannot_be_reached_is_an_error_with_the_count(held: Box, stopped: int, script: Script) -> None:
    running = script(program("submit()\nprint('submitted', flush=True)", "channel.GIVE_UP_S = 0.5"))
    assert running.stdout is not None
    assert running.stdout.readline() == "submitted\n"
    settings = held.state / "settings.json"
    good = settings.read_bytes()
    settings.write_text("{")
    os.kill(stopped, signal.SIGKILL)
    code, _, err = ended(running)
    assert code == 1, err
    assert f"error: {COUNT} tasks were not accepted by swarm 'default': the swarm cannot be reached" in err
    settings.write_bytes(good)


def test_a_swarm_that_was_taken_down_is_an_error_with_the_count(held: Box, stopped: int, script: Script) -> None:
    running = script(program("submit()\nprint('submitted', flush=True)"))
    assert running.stdout is not None
    assert running.stdout.readline() == "submitted\n"
    (held.state / "down").touch()
    os.kill(stopped, signal.SIGKILL)
    code, _, err = ended(running)
    assert code == 1, err
    assert f"error: {COUNT} tasks were not accepted by swarm 'default': swarm 'default' was taken down" in err
    (held.state / "down").unlink()


def going_down(box: Box) -> Path:
    """Have the swarm finish its last task before it goes down; return the gate that lets it end."""
    gate = box.root / "gate"
    box.tmax("resume")
    number = box.submit("--", "sh", "-c", f"mkfifo {gate}; read line < {gate}")
    wait_until(lambda: box.task(number)["state"] == "running" and gate.exists())
    return gate


def test_refused_tasks_whose_futures_nobody_looks_at_are_said(held: Box, script: Script) -> None:
    gate = going_down(held)
    go = held.root / "go"
    running = script(
        program(f"print('ready', flush=True)\nsys.stdin.readline()\nopen({str(go)!r}, 'w').write('unwritten until closed')\nsubmit()"),
        stdin=subprocess.PIPE,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    with subprocess.Popen(held.command("down"), env=held.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as down:
        wait_until(lambda: held.status()["draining"])
        out, err = running.communicate("go\n", timeout=60)
        gate.write_text("go\n")
        down.wait(30)
    assert running.returncode == 1, (out, err)
    told = f"error: {COUNT} tasks were not accepted by swarm 'default': the swarm is going down; nothing new is accepted\n"
    assert err == f"{told}hint: tmax init, then submit again\n"


def test_a_failure_that_was_looked_at_is_the_programs_own_affair(held: Box, script: Script) -> None:
    ending = """
        futures = [s.submit(f, lock) for lock in [threading.Lock(), threading.Lock()]]
        try:
            futures[0].result()
        except TypeError:
            assert futures[1].exception()
    """
    assert ended(script(program(ending))) == (0, "", "")
    unseen = "s.submit(f, threading.Lock())\n"
    code, _, err = ended(script(program(unseen)))
    assert code == 1
    assert err.startswith("error: 1 task was not accepted by swarm 'default': cannot pickle")


def test_the_programs_own_endings_are_run_and_its_files_written_before_it_ends_with_an_error(held: Box, script: Script) -> None:
    ending = """
        atexit.register(print, 'last')
        left_open = open('left-open', 'w')
        left_open.write('all of it')
        s.submit(f, threading.Lock())
        print('unflushed', end=' ')
    """
    code, out, err = ended(script(program(ending, "atexit.register(print, 'first, so it is called last')")))
    assert (code, out) == (1, "unflushed last\nfirst, so it is called last\n"), err
    assert (held.root / "left-open").read_text() == "all of it"


def test_a_temporary_swarm_that_was_lost_says_how_many_tasks_were_lost_with_it(box: Box, script: Script) -> None:
    code, _, err = ended(
        script("""
            import subprocess, sys
            from tmax import Swarm
            if __name__ == "__main__":
                s = Swarm(workers=1)
                futures = [s.shell(["sleep", "60"]) for _ in range(3)]
                s._context.channel.wait_accepted()
                quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
                subprocess.run([sys.executable, "-m", "tmax", "--swarm", s.name, "down", "--now"], **quiet)
        """)
    )
    assert code == 3, err
    assert " accepted, and lost before they ended (swarm 'tmp-" in err
