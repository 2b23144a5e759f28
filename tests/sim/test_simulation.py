"""The promise under thousands of seeds, on the shipped code."""

from __future__ import annotations

import pytest

from tests.sim.world import World

SEEDS = 2000


@pytest.mark.parametrize("part", range(8))
def test_every_accepted_task_ends_once_whatever_dies(part: int) -> None:
    for seed in range(part * SEEDS // 8, (part + 1) * SEEDS // 8):
        World(seed).run()


def test_without_faults_every_task_runs_once() -> None:
    for seed in range(200):
        world = World(seed, crashes=False)
        world.run()
        for number, runs in world.executions.items():
            if number and number not in world.cancelled:
                assert len(runs) == 1 + world.disk.tasks[number].failures, f"seed {seed}: task {number} ran {len(runs)} times"
