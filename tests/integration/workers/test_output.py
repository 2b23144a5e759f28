"""Output of tasks in this process: found by task id, alive or dead, whatever printed it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import cloudpickle

from tests.integration.workers.harness import Bench, call, run
from tests.wait import wait_until
from tmax_pipes.messages import TAIL_BYTES, Started
from tmax_workers.capture import rescue

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def wait_for(path: str) -> None:
    """In the worker: wait until the test makes a file."""
    while not os.path.exists(path):
        threading.Event().wait(0.005)


def test_everything_that_prints_is_kept_whatever_way_it_prints(worker: Bench):
    def prints() -> None:
        import ctypes

        print("python")
        os.write(1, b"descriptor\n")
        os.write(2, b"error\xff\n")
        ctypes.CDLL(None).puts(b"c")
        subprocess.run(["echo", "child"], check=True)
        sys.stdout.write("no newline")

    worker.say(run(1, call(prints)))
    report = worker.done(1).report
    assert report.tail == b"python\ndescriptor\nerror\xff\nc\nchild\nno newline"
    assert report.output_bytes == len(report.tail)
    worker.wait_screen("no newline\n✔ 1 done")
    assert not worker.log(1).exists()


def test_no_output_no_file(worker: Bench):
    worker.say(*[run(task, call(int)) for task in range(1, 100)])
    worker.done(99)
    assert [path.name for path in (worker.state / "logs").iterdir()] == [".life-1"]


def test_a_child_that_empties_the_output_takes_no_worker_along(worker: Bench):
    def empties(rest: str) -> int:
        print("x" * 1000, flush=True)
        while os.fstat(1).st_nlink < 2:  # until the worker has looked at it: it has the task's name then
            threading.Event().wait(0.005)
        subprocess.run(["sh", "-c", ": > /dev/stderr"], check=True)
        print(rest, end="")
        return os.getpid()

    worker.say(run(1, call(empties, "the rest")), run(2, call(empties, "")), run(3, call(print, "next")))
    assert worker.done(1).report.tail == b"the rest"
    assert worker.done(2).report.tail == b""
    assert worker.done(3).report.tail == b"next\n"
    assert not worker.log(2).exists()


def test_output_is_shown_and_found_by_task_id_while_the_task_runs(worker: Bench, folder: object):
    def slow(flag: str) -> None:
        print("so far", flush=True)
        wait_for(flag)
        print("the rest")

    worker.say(run(12, call(slow, f"{folder}/go")))
    worker.wait_screen("so far")
    assert worker.log(12).read_bytes() == b"so far\n"
    (worker.rt.parent / "go").touch()
    assert worker.done(12).report.tail == b"so far\nthe rest\n"
    assert not worker.log(12).exists()


def test_more_than_the_report_holds_stays_as_a_log_and_the_next_task_begins_empty(worker: Bench):
    worker.say(run(1, call(lambda: print("x" * 6000))), run(2, call(lambda: print("short"))), run(3, call(lambda: print("y" * 6000))))
    assert worker.done(1).report.tail == b""
    assert worker.done(1).report.output_bytes == 6001
    assert worker.done(2).report.tail == b"short\n"
    worker.done(3)
    assert worker.log(1).read_bytes() == b"x" * 6000 + b"\n"
    assert worker.log(3).read_bytes() == b"y" * 6000 + b"\n"
    assert worker.log(1).stat().st_mode & 0o777 == 0o600
    assert not worker.log(2).exists()


def test_the_border_between_report_and_log(worker: Bench):
    for task, size in ((1, TAIL_BYTES), (2, TAIL_BYTES + 1)):
        worker.say(run(task, call(lambda size=size: os.write(1, bytes(size)))))
        assert len(worker.done(task).report.tail) == (TAIL_BYTES if size == TAIL_BYTES else 0)
        assert worker.log(task).exists() == (size > TAIL_BYTES)


def test_a_second_attempt_goes_on_in_the_log_of_the_first(worker: Bench):
    worker.say(run(1, call(lambda: print("x" * 6000))))
    worker.done(1)
    worker.say(run(1, call(lambda: print("second")), attempt=2, tries=2), run(2, call(lambda: print("other"))))
    report = worker.done(1, 2).report
    assert (report.output_bytes, report.tail) == (7, b"")
    assert worker.log(1).read_bytes() == b"x" * 6000 + b"\nsecond\n"
    assert worker.done(2).report.tail == b"other\n"
    worker.wait_screen("▶ 1 python  <lambda> (try 2)")


def test_what_was_printed_before_a_kill_is_found(worker: Bench):
    def printing() -> None:
        print("before the end", flush=True)
        threading.Event().wait(60)

    worker.say(run(7, call(printing)))
    wait_until(worker.log(7).exists, story=worker.story)
    worker.kill()
    assert worker.log(7).read_bytes() == b"before the end\n"
    assert rescue(str(worker.state / "logs"), 1, 7)
    assert [path.name for path in (worker.state / "logs").iterdir()] == ["7.log"]


def test_what_was_printed_in_the_moment_of_a_crash_is_rescued(worker: Bench):
    def crash() -> None:
        os.write(1, b"last words\n")
        os.kill(os.getpid(), signal.SIGKILL)

    worker.say(run(7, call(crash)))
    assert worker.wait_gone() == -signal.SIGKILL
    worker.wait(Started)
    logs = str(worker.state / "logs")
    assert rescue(logs, 1, 7)
    assert rescue(logs, 1, 7), "again is harmless"
    assert worker.log(7).read_bytes() == b"last words\n"


def test_a_crash_tells_where_in_the_pane(worker: Bench):
    def crash() -> None:
        import ctypes

        ctypes.string_at(0)

    worker.say(run(1, call(crash)))
    assert worker.wait_gone() == -signal.SIGSEGV
    worker.wait_screen("Segmentation fault")
    worker.wait_screen("in crash")


def test_a_flood_is_whole_in_the_log_although_the_pane_takes_nothing(worker: Bench):
    worker.freeze_pane()

    def flood() -> None:
        for number in range(60_000):
            print(f"line {number} " + "x" * 10)

    worker.say(run(1, call(flood)))
    report = worker.done(1, timeout_s=20).report
    expected = "".join(f"line {number} " + "x" * 10 + "\n" for number in range(60_000))
    assert len(expected) > 1_000_000
    assert report.output_bytes == len(expected)
    assert worker.log(1).read_text() == expected


def test_a_print_under_the_gil_cannot_block(worker: Bench):
    """More than any pipe holds, in one call, from the only running thread."""
    worker.freeze_pane()
    worker.say(run(1, call(lambda: os.write(1, bytes(4_000_000)))))
    assert worker.done(1).report.output_bytes == 4_000_000


def test_many_short_tasks_are_one_line_a_second(worker: Bench):
    worker.say(*[run(task, call(int)) for task in range(1, 1501)])
    worker.done(1500, timeout_s=20)
    worker.wait_screen("tasks in")
    assert worker.screen.count("✔") < 100
