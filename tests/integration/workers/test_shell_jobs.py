"""Programs in a real worker: terminal, exit codes, environment, cancel of the whole group."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.integration.workers.harness import Bench, call, run, sh, shell
from tests.wait import wait_until
from tmax_pipes.messages import TAIL_BYTES, Go, Started, Stop
from tmax_workers.process_group import running_in_group


def tail(bench: Bench, task: int) -> str:
    """What a task printed, when it fits its report."""
    return bench.outcome(task).report.tail.decode("utf-8", "surrogateescape")


def group_of(bench: Bench, task: int) -> int:
    """The process group of a running task."""
    return bench.wait(Started, lambda one: one.task == task and one.group).group


def test_a_program_ends_well(worker: Bench):
    worker.say(run(1, shell("true")))
    done = worker.done(1)
    assert (done.form, done.report.output_bytes) == ("none", 0)
    assert not worker.log(1).exists(), "no output, no file"


def test_cpu_and_memory_are_those_of_the_program_and_not_of_its_worker(worker: Bench):
    big = f"{sys.executable} -c 'x = bytearray(150_000_000)'"
    worker.say(run(1, sh("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 0.3")), run(2, sh(big)))
    small = worker.done(1).report
    assert small.cpu_s > 0.01
    assert 0 < small.peak_rss_bytes < 10_000_000
    assert 150_000_000 < worker.done(2).report.peak_rss_bytes < 300_000_000


def test_exit_codes_and_signals_are_told(worker: Bench):
    worker.say(run(1, sh("exit 3")), run(2, sh("kill -9 $$")), run(3, sh("kill -11 $$")))
    assert (worker.failed(1).failure.kind, worker.failed(1).failure.exit_code) == ("exit", 3)
    assert (worker.failed(2).failure.kind, worker.failed(2).failure.signal) == ("signal", 9)
    assert worker.failed(3).failure.message == "killed by SIGSEGV"
    worker.wait_screen("✘ 1 failed: exit 3")
    worker.wait_screen("✘ 2 failed: SIGKILL")


def test_what_cannot_be_started_says_so_and_what_to_do(worker: Bench, folder: Path):
    script = folder / "script"
    script.write_text("#!/bin/sh\n")
    nowhere = folder / "nowhere"
    nowhere.write_text("#!/no/such/interpreter\n")
    nowhere.chmod(0o700)
    worker.say(
        run(1, shell("no-such-command-at-all")),
        run(2, shell(str(script))),
        run(3, shell("true", cwd=b"/no/such/folder")),
        run(4, shell(str(nowhere))),
        run(5, shell(str(folder))),
        run(6, shell("true")),
    )
    failures = {task: worker.failed(task).failure for task in range(1, 6)}
    assert [(failures[task].kind, failures[task].exit_code) for task in (1, 2, 3, 4, 5)] == [
        ("notfound", 127),
        ("notfound", 126),
        ("refused", None),
        ("notfound", 127),
        ("notfound", 126),
    ]
    assert all(failure.hint for failure in failures.values())
    assert "no-such-command-at-all" in failures[1].message
    assert "/no/such/folder" in failures[3].message
    worker.done(6)


def test_a_script_without_a_first_line_is_given_to_sh(worker: Bench, folder: Path):
    script = folder / "plain"
    script.write_text("echo from $1\n")
    script.chmod(0o700)
    worker.say(run(1, shell(str(script), "here")))
    assert tail(worker, 1) == "from here\n"


def test_it_has_a_terminal_of_its_own_and_controls_it(worker: Bench):
    worker.say(run(1, sh("tty; test -t 0 && test -t 1 && echo yes; echo to-the-terminal >/dev/tty; ps -o sid= -p $$; echo $$; stty size")))
    lines = [line.strip() for line in tail(worker, 1).splitlines()]
    assert lines[0].startswith("/dev/pts/")
    assert lines[1:3] == ["yes", "to-the-terminal"]
    assert lines[3] == lines[4], "it leads its own session"
    assert lines[5] == "24 80"


def test_lines_come_as_they_are_printed(worker: Bench):
    worker.say(run(1, sh("echo first; read line; echo got $line")))
    worker.wait_screen("first\n")
    assert worker.log(1).read_text() == "first\n", "and the log is found by the task's number while it runs"
    worker.type(b"words\r")
    worker.wait_screen("got words")
    worker.done(1)
    assert not worker.log(1).exists(), "short output lives in the report"


def test_split_gives_two_pipes_and_no_terminal(worker: Bench):
    worker.say(run(1, sh("test -t 1 || echo out; echo err >&2; cat", split=True)))
    assert sorted(tail(worker, 1).split()) == ["err", "out"]


def test_output_beyond_the_report_stays_whole_in_the_log(worker: Bench):
    worker.say(run(1, sh("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done")))
    report = worker.done(1).report
    expected = "".join(f"line {i}\n" for i in range(20000))
    assert worker.log(1).read_text() == expected
    assert (report.output_bytes, report.tail) == (len(expected), b"")
    assert worker.log(1).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("size", [TAIL_BYTES, TAIL_BYTES + 1])
def test_the_border_between_report_and_log(worker: Bench, size: int):
    worker.say(run(1, sh(f"head -c {size} /dev/zero")))
    report = worker.done(1).report
    assert report.output_bytes == size
    assert worker.log(1).exists() == (size > TAIL_BYTES)
    assert len(report.tail) == (0 if size > TAIL_BYTES else size)


def test_a_second_attempt_goes_on_in_the_log_of_the_first(worker: Bench):
    worker.say(run(1, sh("head -c 5000 /dev/zero | tr '\\0' a")))
    worker.done(1)
    worker.say(run(1, sh("echo second"), attempt=2))
    worker.done(1, 2)
    assert worker.log(1).read_text() == "a" * 5000 + "second\n"


def test_bytes_that_are_not_utf8_pass_through_everywhere(worker: Bench, folder: Path):
    odd = os.fsencode(folder) + b"/\xff\xfe"
    os.mkdir(odd)
    env = {b"PATH": os.environb[b"PATH"], b"ODD": b"\xfd"}
    worker.say(run(1, shell("sh", "-c", b'printf "%s %s %s" "$ODD" "$1" "$(pwd)"', "sh", b"\xfc", cwd=odd, env=env)))
    assert worker.done(1).report.tail == b"\xfd \xfc " + odd
    worker.wait_screen("1 done")


def test_the_environment_is_the_submitters_and_ours(worker: Bench):
    env = {b"PATH": os.environb[b"PATH"], b"MINE": b"yes", b"TMUX": b"x", b"TMUX_PANE": b"%1", b"MKL_NUM_THREADS": b"7"}
    worker.say(run(5, shell("env", env=env)))
    found = dict(line.split("=", 1) for line in tail(worker, 5).splitlines())
    wanted = {"TMAX_TASK_ID": "5", "TMAX_ATTEMPT": "1", "TMAX_WORKER": "w1", "TMAX_SWARM": "dev", "TMAX_LIFE": "1"}
    assert {name: found[name] for name in wanted} == wanted
    assert (found["MINE"], found["MKL_NUM_THREADS"], found["OMP_NUM_THREADS"]) == ("yes", "7", "1")
    assert not [name for name in found if name.startswith("TMUX")]


def test_a_task_that_asks_waits_for_go(worker: Bench, folder: Path):
    worker.say(run(1, sh(f"touch {folder}/ran"), needs_go=True))
    worker.wait(Started)
    worker.pump(0.1)
    assert not (folder / "ran").exists()
    worker.say(Go(1, 1))
    worker.done(1)
    assert (folder / "ran").exists()


def test_cancel_ends_the_whole_group(worker: Bench):
    worker.say(run(1, sh("sleep 300 & sleep 300; true")))
    group = group_of(worker, 1)
    wait_until(lambda: len(running_in_group(group)) == 3)
    worker.say(Stop(1, 1))
    failure = worker.failed(1).failure
    assert (failure.kind, failure.signal) == ("cancelled", signal.SIGTERM)
    assert running_in_group(group) == []


def test_what_survives_its_leader_gets_the_grace_and_then_the_end(worker: Bench, folder: Path):
    child = f"trap 'touch {folder}/asked' TERM; while :; do sleep 0.05; done"
    worker.say(run(1, sh(f'sh -c "{child}" & wait'), grace_s=0.4, timeout_s=0.3))
    group = group_of(worker, 1)
    failed = worker.failed(1)
    assert failed.failure.kind == "timeout"
    assert (folder / "asked").exists()
    assert failed.report.duration_s >= 0.6
    assert running_in_group(group) == []


def test_a_program_that_ignores_term_is_killed(worker: Bench):
    worker.say(run(1, sh("trap '' TERM; while :; do sleep 0.05; done"), timeout_s=0.2, grace_s=0.2))
    failure = worker.failed(1).failure
    assert (failure.kind, failure.signal) == ("timeout", signal.SIGKILL)


def test_a_program_that_ends_well_when_asked_to_end_was_cancelled(worker: Bench):
    worker.say(run(1, sh("trap 'exit 0' TERM; echo ready; while :; do sleep 0.05; done")))
    worker.wait_screen("\nready\n")
    worker.say(Stop(1, 1))
    failure = worker.failed(1).failure
    assert (failure.kind, failure.exit_code) == ("cancelled", 0)


def test_a_background_child_that_prints_does_not_delay_the_end(worker: Bench):
    worker.say(run(1, sh("yes &")))
    worker.done(1, timeout_s=5)
    worker.say(run(2, call(int)))
    worker.done(2)


def test_a_program_inherits_its_terminal_and_nothing_else(bench: Bench):
    kept = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(kept, True)
    bench.start()
    os.close(kept)
    bench.greet()
    bench.say(run(1, shell("ls", "/proc/self/fd")))
    assert tail(bench, 1).split() == ["0", "1", "2", "3"], "3 is that of ls itself"


def test_window_size_follows_the_pane(worker: Bench):
    import fcntl
    import struct
    import termios

    worker.say(run(1, sh("trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done")))
    worker.wait_screen("\nready\n")
    fcntl.ioctl(worker.master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
    worker.done(1)
    worker.wait_screen("33 111")


def test_a_size_of_its_submitter_stays_whatever_the_pane_does(worker: Bench, folder: Path):
    import termios

    text = f"trap 'echo changed' WINCH; stty size; while [ ! -e {folder}/go ]; do sleep 0.05; done; stty size"
    worker.say(run(1, sh(text, terminal_size=(40, 91))))
    worker.wait_screen("\n40 91\n")
    termios.tcsetwinsize(worker.master, (33, 111))
    os.kill(worker.pid, signal.SIGWINCH)
    worker.type(b"\r")
    (folder / "go").touch()
    assert tail(worker, 1).split() == ["40", "91", "40", "91"]
