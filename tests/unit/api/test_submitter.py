"""What a program says of itself, when two of its threads submit at the same time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tmax.bodies import Bodies
from tmax.searchpath import SearchPath
from tmax.submitter import Submitter
from tmax_pipes import blobs
from tmax_pipes.jobs import Body, Surroundings, decode_surroundings


class SlowBodies(Bodies):
    """A disk on which the first body takes as long as the test wants."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.begun, self.may_go_on = threading.Event(), threading.Event()

    def of(self, data: bytes, inline_bytes: int) -> Body:
        if not self.begun.is_set():
            self.begun.set()
            assert self.may_go_on.wait(10)
        return super().of(data, inline_bytes)


def test_no_thread_gets_the_surroundings_that_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = SlowBodies(str(tmp_path))
    submitter = Submitter(bodies, SearchPath())
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    found: list[Body] = []
    slow = threading.Thread(target=lambda: found.append(submitter.surroundings()))
    slow.start()
    assert bodies.begun.wait(10)
    found.append(submitter.surroundings())  # while the other thread has seen the change and not yet written it down
    bodies.may_go_on.set()
    slow.join(10)
    read: list[Surroundings] = [decode_surroundings(blobs.load(str(tmp_path), body)) for body in found]
    assert [one.cwd for one in read] == [bytes(here)] * 2
