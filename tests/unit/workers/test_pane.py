"""The pane's lines and its buffer, over a pipe."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import pytest

from tmax_pipes.jobs import PythonJob, ShellJob
from tmax_pipes.messages import Done, Failed, Failure, Report, Run
from tmax_workers.pane import BUFFER_BYTES, Pane, duration_text, failure_text, is_utf8_locale, printable_label
from tmax_workers.terminal import CONFIRM_S, CancelConfirmation


class Screen:
    """A pane and the reading end of its pipe."""

    def __init__(self, *, unicode: bool = True) -> None:
        self.end, out = os.pipe()
        os.set_blocking(out, False)
        os.set_blocking(self.end, False)
        self.out = out
        self.pane = Pane(out, unicode=unicode)

    def text(self) -> str:
        found = b""
        while True:
            try:
                data = os.read(self.end, 65536)
            except BlockingIOError:
                return found.decode()
            if not data:
                return found.decode()
            found += data

    def close(self) -> None:
        for fd in (self.end, self.out):
            os.close(fd)


@pytest.fixture
def screen(no_leaks: None) -> Iterator[Screen]:
    made = Screen()
    yield made
    made.close()


def run(task: int, attempt: int = 1) -> Run:
    return Run(task=task, attempt=attempt, job=ShellJob(argv=(b"python", b"train.py")))


def done(task: int, duration_s: float = 3.2) -> Done:
    return Done(task, 1, Report(duration_s=duration_s))


def failed(task: int, failure: Failure) -> Failed:
    return Failed(task, 1, Report(duration_s=0.4), failure)


def test_a_task_is_told_in_two_lines(screen: Screen):
    screen.pane.begin(run(12), 5.0)
    screen.pane.end(done(12), 8.2)
    assert screen.text() == "▶ 12 shell  python train.py\n✔ 12 done 3.2 s\n"


def test_a_line_of_ours_begins_on_a_line_of_its_own(screen: Screen):
    screen.pane.write(b"no newline")
    screen.pane.end(failed(12, Failure("exit", "exit 3", exit_code=3)), 5.0)
    assert screen.text() == "no newline\n✘ 12 failed: exit 3 (0.4 s)\n"


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (Failure("exit", "exit 3", exit_code=3), "exit 3"),
        (Failure("signal", "killed", signal=9), "SIGKILL"),
        (Failure("signal", "killed", signal=63), "signal 63"),
        (Failure("exception", "ValueError: no\nmore"), "ValueError: no"),
        (Failure("timeout", "timed out after 3 s"), "timed out after 3 s"),
        (Failure("exception", "\x1b[31m"), "exception"),
        (Failure("refused", ""), "refused"),
    ],
)
def test_failures_in_a_few_words(failure: Failure, words: str):
    assert failure_text(failure) == words


def test_twenty_tasks_in_a_second_are_lines_and_more_are_one(screen: Screen):
    pane = screen.pane
    for task in range(1, 101):
        pane.begin(run(task), 10.0)
        pane.end(done(task) if task % 10 else failed(task, Failure("exit", "", exit_code=1)), 10.0)
    assert screen.text().count("done") + screen.text().count("failed") <= 20
    assert pane.deadline() == 11.0
    pane.tick(11.0)
    assert screen.text() == "⋯ 100 tasks in 1.0 s: 90 done, 10 failed\n"
    assert pane.deadline() is None, "nothing is held back, so nothing wakes an idle worker"


def test_after_a_flood_a_task_that_lasts_is_shown_within_a_second(screen: Screen):
    pane = screen.pane
    for task in range(1, 50):
        pane.begin(run(task), 10.0)
        pane.end(done(task), 10.0)
    pane.begin(run(50), 10.0)
    pane.tick(11.0)
    assert screen.text().endswith("▶ 50 shell  python train.py\n")
    pane.end(done(50), 13.0)
    assert "✔ 50" in screen.text(), "and its second has lines again"


def test_what_the_terminal_does_not_take_waits_then_is_dropped(screen: Screen):
    size = fcntl.fcntl(screen.out, fcntl.F_GETPIPE_SZ)
    data = b"x" * (size + BUFFER_BYTES + 1000)
    screen.pane.write(data[: size + 100])
    assert screen.pane.wants_write
    screen.pane.write(data[size + 100 :])
    shown = 0
    while screen.pane.wants_write:
        shown += len(screen.text())
        screen.pane.pump()
    assert shown + len(screen.text()) == size + BUFFER_BYTES


def test_the_end_of_a_task_whose_output_was_cut_is_shown_on_a_line_of_its_own(screen: Screen):
    size = fcntl.fcntl(screen.out, fcntl.F_GETPIPE_SZ)
    screen.pane.write(b"x" * (size + BUFFER_BYTES + 1000) + b"\n")
    screen.pane.end(done(7), 10.0)
    shown = screen.text()
    while screen.pane.wants_write:
        screen.pane.pump()
        shown += screen.text()
    assert shown.endswith("x\n✔ 7 done 3.2 s\n")


def test_a_pane_that_is_gone_is_noticed_and_never_raises(screen: Screen):
    os.close(screen.end)
    screen.pane.show_line("hello")
    assert screen.pane.lost
    screen.pane.begin(run(1), 1.0)
    screen.end = os.open("/dev/null", os.O_RDONLY)


def test_plain_ascii(no_leaks: None):
    screen = Screen(unicode=False)
    screen.pane.begin(Run(task=1, attempt=4, tries=2, job=PythonJob(call=b"", label="café")), 5.0)
    screen.pane.end(done(1, 0.01), 5.0)
    assert screen.text() == "> 1 python  caf? (try 2)\n+ 1 done 10.0 ms\n"
    screen.close()


def test_without_a_terminal_nothing_happens():
    pane = Pane(-1, unicode=True)
    pane.show_line("hello")
    assert not pane.wants_write
    assert not pane.lost


def test_nothing_a_terminal_could_obey_is_left():
    assert printable_label("a\x1b[31mb\x9b\u202ec\u200bd\udcffe\tf\ng") == "abcd\ufffde f g"
    assert len(printable_label("x" * 1000)) == 200


def test_durations():
    assert [duration_text(value) for value in (0.0004, 0.4, 3.21, 119.9, 180)] == ["0.4 ms", "0.4 s", "3.2 s", "119.9 s", "3.0 min"]


@pytest.mark.parametrize(
    ("env", "answer"),
    [
        ({"LANG": "de_DE.UTF-8"}, True),
        ({"LC_ALL": "C.utf8", "LANG": "C"}, True),
        ({"LC_ALL": "POSIX", "LANG": "en_US.UTF-8"}, False),
        ({"LC_CTYPE": "C.UTF-8"}, True),
        ({}, False),
    ],
)
def test_the_locale_decides_about_signs(env: dict[str, str], answer: bool):
    assert is_utf8_locale(env) is answer


def test_only_the_second_ctrl_c_for_the_same_task_in_time_cancels():
    offer = CancelConfirmation()
    assert not offer.press(12, 10.0)
    assert offer.press(12, 10.0 + CONFIRM_S)
    assert not offer.press(12, 13.5), "a third press offers again"
    assert not offer.press(12, 13.5 + CONFIRM_S + 0.1), "too late"
    assert not offer.press(13, 17.0), "another task meanwhile"
    assert not offer.press(0, 17.0)
    assert not offer.press(0, 17.1)


@pytest.mark.parametrize("data", [b"x" * 10, b"x" * BUFFER_BYTES])
def test_a_full_disk_costs_output_and_not_the_worker(data: bytes) -> None:
    """Where there is no terminal the pane is a file."""
    full = os.open("/dev/full", os.O_WRONLY)
    pane = Pane(full, unicode=True)
    pane.write(data)
    assert (pane.lost, pane.wants_write) == (False, False)
    os.close(full)
