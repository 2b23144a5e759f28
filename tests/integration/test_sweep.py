"""The controller's search for bodies that no task names, in slices."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.contract.stores import new, open_store, place
from tests.unit.core.scheduler_rig import PYTHON
from tests.wait import wait_until
from tmax.controller.housekeeping import STEP_TASKS, Housekeeping
from tmax.controller.slices import Slicer
from tmax.core.model import Task
from tmax.core.scheduler import Scheduler
from tmax.core.settings import Settings
from tmax.layout import Layout
from tmax.reactor import Reactor
from tmax.storage.task_store import TaskStore
from tmax_pipes import blobs


def housekeeping(layout: Layout, store: TaskStore, reactor: Reactor, tasks: list[Task]) -> Housekeeping:
    scheduler = Scheduler(Settings(), workers=1, pool=0, tasks=tasks, now=0.0)
    return Housekeeping(scheduler.query, store=store, slicer=Slicer(reactor), reactor=reactor, layout=layout, keep_ended=0)


def test_what_a_waiting_task_shares_with_others_stays_and_what_no_task_names_goes(tmp_path: Path) -> None:
    layout, reactor = place(tmp_path), Reactor()
    os.makedirs(layout.blobs)
    named, unnamed, young = (blobs.put(layout.blobs, body) for body in (b"named", b"unnamed", b"young"))
    long_ago = time.time() - 7200
    for blob in (named, unnamed):
        os.utime(f"{layout.blobs}/{blob.digest}", (long_ago, long_ago))
    last = 3 * STEP_TASKS
    tasks = [new(number, PYTHON) for number in range(1, last)] + [new(last, replace(PYTHON, function=named))]
    store = open_store(layout)
    housekeeping(layout, store, reactor, tasks).trim()

    def swept() -> bool:
        reactor.run_once(0.01)
        return not os.path.exists(f"{layout.blobs}/{unnamed.digest}")

    wait_until(swept)
    store.close()
    reactor.close()
    assert set(os.listdir(layout.blobs)) == {named.digest, young.digest}


def test_a_state_folder_that_was_removed_is_not_logged_as_an_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layout, reactor = place(tmp_path), Reactor()
    store = open_store(layout)
    keeper = housekeeping(layout, store, reactor, [])
    keeper._remove_files([1])
    reactor.run_once(0.0)
    store.close()
    reactor.close()
    assert not os.path.exists(layout.blobs)
    assert caplog.records == []
