"""A person at the pane: what is shown, what the keys do, and a pane that goes away."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import cloudpickle
import pytest

from tests.integration.workers.harness import PYTHON, ROOT, Bench, call, run, sh
from tests.wait import wait_until
from tmax_pipes.jobs import PythonJob
from tmax_pipes.messages import Recalled, Started, Stored

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def sleep() -> None:
    threading.Event().wait(60)


def test_the_pane_tells_the_story(bench: Bench, folder: Path):
    (folder / "breaks.py").write_text("raise RuntimeError('not today')\n")
    bench.start("--preload", "json,no_such_module,breaks,wave", env={"PYTHONPATH": f"{ROOT}/workers:{ROOT}/pipes:{folder}"})
    hello = bench.greet()
    assert hello.missing[0].startswith("no_such_module: ModuleNotFoundError")
    assert hello.missing[1] == "breaks: RuntimeError: not today"
    bench.wait_screen("not imported: no_such_module")
    bench.wait_screen("tmax w1 in swarm dev")
    bench.wait_screen("preloaded json, wave; threads 1")
    bench.say(run(12, sh("echo output; exit 3")))
    bench.wait_screen("▶ 12 shell  sh -c echo output; exit 3\noutput\n✘ 12 failed: exit 3 (")
    bench.say(run(13, call(print, "printed")))
    bench.wait_screen("▶ 13 python  print\nprinted\n✔ 13 done")


def test_plain_ascii_where_the_locale_is_not_utf8(bench: Bench):
    bench.start(env={"LC_ALL": "POSIX"})
    bench.greet()
    bench.say(run(1, sh("printf 'caf\\303\\251\\n'")))
    bench.wait_screen("> 1 shell")
    bench.wait_screen("+ 1 done")
    assert "café" in bench.screen, "the task's own bytes are passed on as they are"
    bench.say(run(2, PythonJob(call=b"", label="é", target="no:thing", python=PYTHON)))
    bench.wait_screen("x 2 failed")


def test_control_characters_in_a_name_do_not_reach_the_terminal(worker: Bench):
    label = "a\x1b]0;title\x07b\u202ec\nd" + "x" * 500
    worker.say(run(1, PythonJob(call=b"", label=label, target="no_such:f")))
    worker.wait_screen("✘ 1 failed")
    assert "\x1b" not in worker.screen
    assert "\u202e" not in worker.screen
    worker.wait_screen("▶ 1 python  abc dxxx")


def test_ctrl_c_asks_first_and_cancels_the_second_time(worker: Bench):
    worker.say(run(12, call(sleep)))
    worker.wait(Started)
    worker.wait_screen("▶ 12")
    worker.type(b"\x03")
    worker.wait_screen("Ctrl-C: press again within 3 s to cancel task 12")
    worker.type(b"\x03")
    failure = worker.failed(12).failure
    assert (failure.kind, failure.message) == ("cancelled", "cancelled from the pane")
    worker.wait_screen("✘ 12 cancelled from the pane")


def test_ctrl_c_reaches_a_worker_whose_main_thread_computes(worker: Bench):
    def spin() -> None:
        while True:
            pass

    worker.say(run(1, call(spin)))
    worker.wait_screen("▶ 1")
    worker.type(b"\x03")
    worker.wait_screen("press again")
    worker.type(b"\x03")
    assert worker.failed(1).failure.kind == "cancelled"


def test_ctrl_c_cancels_a_program_too(worker: Bench):
    worker.say(run(1, sh("sleep 60")))
    worker.wait(Started, lambda one: one.group)
    worker.type(b"\x03")
    worker.wait_screen("press again")
    worker.type(b"\x03")
    assert worker.failed(1).failure.message == "cancelled from the pane"


def test_ctrl_c_on_an_idle_worker_says_how_to_leave(worker: Bench):
    worker.type(b"\x03")
    worker.wait_screen("nothing runs here")
    worker.type(b"\x03")
    worker.say(run(1, call(int)))
    worker.done(1)


@pytest.mark.parametrize("keys", [b"\x13", b"\x1c", b"\x1a", b"\x13\x1c\x1a\x04"])
def test_ctrl_s_backslash_z_and_d_are_harmless(worker: Bench, keys: bytes):
    worker.type(keys)
    worker.say(run(1, call(print, "still here")), run(2, sh("echo and here")))
    worker.done(1)
    worker.done(2)
    worker.type(keys)
    worker.say(run(3, call(print, "and afterwards")))
    worker.done(3)
    for text in ("still here", "and here", "and afterwards"):
        worker.wait_screen(text)


def test_modes_a_task_changed_are_put_back(worker: Bench):
    def change() -> None:
        import tty

        tty.setraw(0)

    worker.say(run(1, call(change)))
    worker.done(1)
    worker.wait_screen("✔ 1")
    worker.type(b"\x03")
    worker.wait_screen("nothing runs here")


def test_a_lost_pane_costs_a_view_not_a_task(worker: Bench, folder: Path):
    def outlive(path: str) -> str:
        print("before")
        while not os.path.exists(path):
            threading.Event().wait(0.005)
        print("after")
        return "whole"

    worker.say(run(1, call(outlive, f"{folder}/go")), run(2, call(int)))
    worker.wait_screen("\nbefore\n")
    worker.lose_pane()
    assert worker.wait(Recalled).why == "drain"
    (folder / "go").touch()
    done = worker.done(1)
    assert done.report.tail == b"before\nafter\n"
    assert worker.wait_gone() == 0, "it leaves once its result is stored"


def test_a_lost_pane_does_not_end_a_program(worker: Bench, folder: Path):
    worker.say(run(1, sh(f"echo before; while [ ! -e {folder}/go ]; do sleep 0.02; done; echo after")))
    worker.wait_screen("\nbefore\n")
    worker.lose_pane()
    wait_until(lambda: not worker.pump(0.01) or worker.alive())
    (folder / "go").touch()
    assert worker.done(1).report.tail == b"before\nafter\n"
    assert worker.wait_gone() == 0


def test_it_works_without_any_terminal(bench: Bench):
    bench.start(tty=False)
    bench.greet()
    bench.say(run(1, call(print, "hello")), run(2, sh("tty; echo hello")))
    assert bench.done(1).report.tail == b"hello\n"
    assert b"hello" in bench.done(2).report.tail
    assert bench.drain() == 0


def test_input_of_a_python_task_comes_from_the_pane(worker: Bench):
    def question() -> str:
        with open(0, closefd=False) as keyboard:
            return keyboard.readline()

    worker.say(run(1, call(question)))
    worker.wait_screen("▶ 1")
    worker.type(b"answer\r")
    worker.done(1)
    worker.say(Stored(((1, 1),)))
