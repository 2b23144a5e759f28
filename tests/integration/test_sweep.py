"""The controller's look for bodies that no task names, in slices."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.contract.stores import new, open_store, place
from tests.unit.core.stage import PYTHON
from tests.wait import wait_until
from tmax.controller.loop import Controller
from tmax.controller.waiters import LOOKED_AT
from tmax.core.scheduler import Scheduler
from tmax.core.settings import Settings
from tmax_pipes import blobs


def test_what_a_waiting_task_shares_with_others_stays_and_what_nobody_names_goes(tmp_path: Path) -> None:
    house = Controller(place(tmp_path), time.monotonic())
    os.makedirs(house.layout.blobs)
    named, unnamed, young = (blobs.put(house.layout.blobs, body) for body in (b"named", b"unnamed", b"young"))
    long_ago = time.time() - 7200
    for blob in (named, unnamed):
        os.utime(f"{house.layout.blobs}/{blob.digest}", (long_ago, long_ago))
    last = 3 * LOOKED_AT
    tasks = [new(number, PYTHON) for number in range(1, last)] + [new(last, replace(PYTHON, function=named))]
    house.scheduler = Scheduler(Settings(), workers=1, pool=0, tasks=tasks, now=0.0)
    house.store = open_store(house.layout)
    house._trimmed([])

    def swept() -> bool:
        house.reactor.run_once(0.01)
        return not os.path.exists(f"{house.layout.blobs}/{unnamed.digest}")

    wait_until(swept)
    house.store.close()
    house.reactor.close()
    assert set(os.listdir(house.layout.blobs)) == {named.digest, young.digest}


def test_a_state_folder_that_was_removed_is_no_mistake_of_ours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    house = Controller(place(tmp_path), time.monotonic())
    house.scheduler = Scheduler(Settings(), workers=1, pool=0, now=0.0)
    house._trimmed([1])
    house.reactor.run_once(0.0)
    house.reactor.close()
    assert not os.path.exists(house.layout.blobs)
    assert caplog.records == []
