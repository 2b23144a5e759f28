"""Following a log: files that appear, grow, vanish into the task's row, begin again; with a real log folder and a toy controller."""

from __future__ import annotations

import base64
import os
import threading
from pathlib import Path

import pytest

from tests.integration.cli.toy import Answer, Toy
from tests.wait import wait_until
from tmax.cli import follow as follow_module
from tmax.cli.follow import follow
from tmax.cli.output import Common


class Story:
    """A task whose log a test writes, and which ends when the test says so."""

    def __init__(self, toy: Toy) -> None:
        self.log = toy.state / "logs" / "5.log"
        self.log.parent.mkdir()
        self.tail = b""
        self.shown = b""
        self._ended = threading.Event()
        toy.replies.update(logs=self._logs, wait=self._wait)
        self._view: Answer = {}
        self._thread = threading.Thread(target=self._follow)

    def _logs(self, request: Answer) -> Answer:
        tail = base64.b64encode(self.tail).decode()
        return {
            "ok": True,
            "task": 5,
            "file": str(self.log) if self.log.exists() else None,
            "wanted_file": str(self.log),
            "tail": tail,
            "live": True,
        }

    def _wait(self, request: Answer) -> Answer:
        assert self._ended.wait(20)
        return {"ok": True, "tasks": [{"id": 5, "state": "done"}]}

    def _follow(self) -> None:
        self._view = follow(Common(), 5, put=self._put)

    def _put(self, data: bytes) -> None:
        self.shown += data

    def start(self) -> None:
        self._thread.start()

    def write(self, text: bytes) -> None:
        with self.log.open("ab") as file:
            file.write(text)

    def sees(self, text: bytes) -> None:
        wait_until(lambda: self.shown == text, timeout_s=5, story=lambda: repr(self.shown))

    def end(self) -> bytes:
        self._ended.set()
        self._thread.join(10)
        assert self._view == {"id": 5, "state": "done"}
        return self.shown


@pytest.fixture
def story(toy: Toy) -> Story:
    return Story(toy)


def test_a_log_that_is_there_and_grows(story: Story) -> None:
    story.write(b"one\n")
    story.start()
    story.sees(b"one\n")
    story.write(b"two\n")
    story.sees(b"one\ntwo\n")
    story.write(b"three\n")
    assert story.end() == b"one\ntwo\nthree\n"


def test_a_log_that_appears_later(story: Story) -> None:
    story.start()
    (story.log.parent / "6.log").write_bytes(b"another task's")
    story.write(b"mine\n")
    story.sees(b"mine\n")
    assert story.end() == b"mine\n"


def test_a_log_that_appears_as_a_second_name_of_a_file_and_vanishes_into_the_row(story: Story) -> None:
    """So it is with Python tasks: the worker's scratch file gets the task's name while it runs, and is used again after it."""
    scratch = story.log.parent / ".life-1"
    scratch.write_bytes(b"")
    story.start()
    with scratch.open("ab") as file:
        file.write(b"shown ")
        file.flush()
        os.link(scratch, story.log)
        story.sees(b"shown ")
        story.tail = b"shown and not yet shown"
        story.log.unlink()
        file.truncate(0)
        file.write(b"the next task's, longer than what was shown before")
        file.flush()
    assert story.end() == b"shown and not yet shown"


def test_a_task_that_printed_nothing(story: Story) -> None:
    story.start()
    assert story.end() == b""


def test_a_short_output_that_never_had_a_file(story: Story) -> None:
    story.start()
    story.tail = b"short"
    assert story.end() == b"short"


def test_a_new_attempt_begins_its_log_anew(story: Story) -> None:
    story.write(b"first attempt\n")
    story.start()
    story.sees(b"first attempt\n")
    fresh = story.log.with_suffix(".new")
    fresh.write_bytes(b"second\n")
    fresh.rename(story.log)
    story.sees(b"first attempt\nsecond\n")
    assert story.end() == b"first attempt\nsecond\n"


def test_without_inotify_it_polls(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unavailable(follow_module._InotifyWatch):
        def __init__(self) -> None:
            super().__init__()
            self.close()

    monkeypatch.setattr(follow_module, "_InotifyWatch", Unavailable)
    story.start()
    story.write(b"x")
    story.sees(b"x")
    story.write(b"y")
    assert story.end() == b"xy"


def test_a_large_log_in_many_pieces(story: Story, tmp_path: Path) -> None:
    story.start()
    whole = b""
    for number in range(200):
        piece = b"%d " % number * 500
        story.write(piece)
        whole += piece
    assert story.end() == whole
