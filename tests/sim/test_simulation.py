"""The guarantees under thousands of seeds, on the shipped code."""

from __future__ import annotations

import pytest

from tests.sim.world import World
from tmax.core.model import TaskState

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
            if number and number not in world.cancelled | world.withdrawn:
                assert len(runs) == 1 + world.tasks[number].failures, f"seed {seed}: task {number} ran {len(runs)} times"


def test_what_is_withdrawn_before_it_begins_ends_as_cancelled() -> None:
    cancelled = 0
    for seed in range(100):
        world = World(seed, crashes=False)
        world.run()
        for number in world.withdrawn - world.cancelled:
            task = world.tasks[number]
            cancelled += task.state is TaskState.CANCELLED
            assert task.state is not TaskState.CANCELLED or len(world.executions[number]) == task.failures, f"seed {seed}: task {number}"
    assert cancelled
