"""Lives started, ended, and their stubs and zygotes killed, at any moment: each ends once, and no process outlives its life."""

from __future__ import annotations

import random

import pytest

from tests.engine_rig import kill9
from tests.integration.zygote.zygote_rig import ZygoteRig, alive
from tmax.core.events import LifeConnected, LifeEnded


def trouble(rig: ZygoteRig, life: int, dice: random.Random, zygotes_left: int) -> int:
    """Maybe do something to this life that was just ordered; return how many zygotes may still be killed."""
    rig.run_for(dice.random() * 0.03)
    what = dice.random()
    link = rig.spawner._link
    if what < 0.5:
        rig.engine.kill(life, "stormy")
    elif what < 0.6 and zygotes_left and link is not None and link.ready is not None:
        kill9(link.pid)
        return zygotes_left - 1
    elif what < 0.75:
        stub = rig.spawner._host_pids.get(life, 0)
        if stub and alive(stub):
            kill9(stub)
    return zygotes_left


@pytest.mark.parametrize("seed", [31, 41, 118])
def test_every_life_ends_once_and_leaves_nothing(rig: ZygoteRig, seed: int) -> None:
    dice, lives, zygotes_left = random.Random(seed), 0, 3
    for _ in range(10):
        batch = range(lives + 1, lives + dice.randint(1, 6) + 1)
        lives = batch[-1]
        rig.engine.start([(life, f"w{life}") for life in batch])
        for life in batch:
            zygotes_left = trouble(rig, life, dice, zygotes_left)
    everybody = range(1, lives + 1)
    rig.until(lambda: all(rig.of(LifeEnded, life) or rig.of(LifeConnected, life) for life in everybody), 30)
    # A stub that was killed leaves a worker without a pane, which goes on its own: who lives is asked anew at each look.
    rig.until(lambda: set(rig.processes()) == {rig.pid(life) for life in everybody if not rig.of(LifeEnded, life)})
    for life in everybody:
        rig.engine.kill(life, "the storm is over")
    rig.until(lambda: len(rig.of(LifeEnded)) >= lives)
    rig.until(lambda: rig.processes() == [])
    assert sorted(end.life for end in rig.of(LifeEnded)) == list(everybody)
    spawner = rig.spawner
    assert (spawner._stubs, spawner._forked, spawner._ends, spawner._waiting, spawner._host_pids) == ({}, {}, {}, {}, {})
