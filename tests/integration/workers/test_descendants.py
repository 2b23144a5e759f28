"""Ending what a process left running, in a process of its own: sessions, double forks, deaf ones, forks meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wait import wait_until

START = """
import os, signal, subprocess, sys, time
from tests.integration.workers.test_descendants import state_of
from tests.wait import wait_until
from tmax_workers import descendants
descendants.adopt_orphans()
def sh(text):
    subprocess.run(["sh", "-c", text], check=True)
"""


def in_a_process(code: str, **options: object) -> str:
    """Run ``code`` behind START in an interpreter of its own; return what it printed."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", START + code], env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def state_of(pid: int) -> str:
    """Return the letter by which the kernel tells the state of a process; ``X``: there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return "X"


def runs(pid: int) -> bool:
    """Whether a process runs; one that waits to be reaped does not."""
    return state_of(pid) not in "ZX"


def test_nothing_is_left_most_of_the_time() -> None:
    out = in_a_process("print(descendants.has_children(), descendants.left_running(), descendants.end_all())")
    assert out == "False [] []\n"


@pytest.mark.parametrize(
    "text",
    [
        "sleep 300 & echo $!",
        "nohup sleep 300 >/dev/null 2>&1 & echo $!",
        "setsid sh -c 'echo $$; exec sleep 300' & sleep 0.2",
        "(setsid sh -c 'sleep 300 & echo $!' &) ; sleep 0.2",
        "env -i setsid sh -c 'echo $$; exec sleep 300' & sleep 0.2",
    ],
)
def test_whatever_it_did_to_get_away_it_is_found_and_ended(text: str) -> None:
    code = f"""
sh("exec >&2; " + {text!r})
left = descendants.left_running()
began = time.monotonic()
print(len(left), descendants.end_all(), descendants.has_children(), time.monotonic() - began < 0.9)
"""
    assert in_a_process(code) == "1 [] False True\n"


def test_a_deaf_one_is_killed_after_the_grace_and_one_that_is_stopped_too() -> None:
    code = """
sh("f=$(mktemp -u); (trap '' TERM; : > $f; while :; do sleep 0.05; done) & while ! test -e $f; do sleep 0.01; done; rm $f; (kill -STOP $(exec sh -c 'echo $PPID')) &")
began = time.monotonic()
print(descendants.end_all(0.3), descendants.has_children(), 0.25 < time.monotonic() - began < 2)
"""
    assert in_a_process(code) == "[] False True\n"


def test_what_is_started_while_it_ends_is_ended_too() -> None:
    code = """
sh("(trap 'setsid sleep 301 & exit' TERM; echo; while :; do sleep 0.02; done) & sleep 0.2")
print(descendants.end_all(1.0), descendants.has_children())
"""
    assert in_a_process(code) == "\n[] False\n"


def test_those_who_are_spared_live_on() -> None:
    code = """
one = subprocess.Popen(["sleep", "300"])
sh("sleep 300 &")
print(descendants.end_all(1.0, {one.pid}), one.poll(), descendants.left_running() == [one.pid], descendants.left_running({one.pid}))
one.kill()
print(one.wait())
"""
    assert in_a_process(code) == "[] None True []\n-9\n"


def test_children_of_other_threads_are_found() -> None:
    code = """
import threading
ready, leave = threading.Event(), threading.Event()
def work():
    subprocess.Popen(["sleep", "300"])
    ready.set()
    leave.wait()
thread = threading.Thread(target=work)
thread.start()
ready.wait()
print(descendants.end_all(), descendants.has_children())
leave.set()
"""
    assert in_a_process(code) == "[] False\n"


def test_ended_orphans_are_reaped_and_the_spared_are_not() -> None:
    code = """
one = subprocess.Popen(["sh", "-c", "exec sleep 300"])
sh("(sleep 0 &) ; (sleep 0 &)")
wait_until(lambda: list(map(state_of, descendants.children())).count("Z") == 2)
descendants.reap({one.pid})
print(descendants.left_running() == [one.pid])
one.kill()
one.wait()
print(descendants.has_children())
"""
    assert in_a_process(code) == "True\nFalse\n"


def test_without_adoption_orphans_leave_the_tree() -> None:
    code = """
descendants.adopt_orphans(wanted=False)
out = subprocess.run(["sh", "-c", "sleep 300 >/dev/null 2>&1 & echo $!"], capture_output=True, text=True).stdout
descendants.adopt_orphans()
print(out.strip(), descendants.has_children())
"""
    pid, has = in_a_process(code).split()
    assert has == "False"
    assert runs(int(pid))
    os.kill(int(pid), 9)
    wait_until(lambda: not runs(int(pid)))
