"""The ready queue: order, ageing, removal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.scheduler_rig import PYTHON
from tmax.core.model import PRIORITIES, Task
from tmax.core.queue import ReadyQueue
from tmax_pipes.options_struct import TaskOptions

LEVELS = st.sampled_from(sorted(PRIORITIES))


def task(number: int, priority: str, submitted_at: float) -> Task:
    return Task(id=number, job=PYTHON, kind="python", options=TaskOptions(priority=priority), submitted_at=submitted_at)


@given(st.lists(st.tuples(LEVELS, st.floats(0, 1e6)), max_size=60), st.sets(st.integers(0, 59)))
def test_tasks_are_taken_in_order_of_score_after_any_removals(given_tasks: list[tuple[str, float]], gone: set[int]) -> None:
    queue = ReadyQueue(360.0)
    tasks = [task(number, level, at) for number, (level, at) in enumerate(given_tasks)]
    for one in tasks:
        queue.add(one)
    for number in gone:
        queue.discard(number)
    expected = [one.id for one in sorted(tasks, key=queue.key) if one.id not in gone]
    assert queue.first(1000) == expected
    assert [queue.take("") for _ in range(len(queue))] == expected
    assert queue.take("") is None


@given(LEVELS, LEVELS, st.floats(0, 1e5), st.floats(0, 1e5), st.floats(0, 1e6))
def test_the_order_of_two_tasks_never_changes_with_time(first: str, second: str, a: float, b: float, later: float) -> None:
    queue = ReadyQueue(360.0)

    def score(level: str, at: float, now: float) -> float:
        return PRIORITIES[level] + (now - at) / 360.0

    now = max(a, b)
    ahead = queue.key(task(1, first, a))[0] < queue.key(task(2, second, b))[0]
    for moment in (now, now + later):
        difference = score(first, a, moment) - score(second, b, moment)
        if abs(difference) > 1e-6:
            assert (difference > 0) == ahead


def test_a_task_that_is_added_again_keeps_its_position() -> None:
    queue = ReadyQueue(360.0)
    tasks = [task(number, "normal", float(number)) for number in range(3)]
    for one in tasks:
        queue.add(one)
    assert queue.take("") == 0
    queue.add(tasks[0])
    assert queue.first(3) == [0, 1, 2]
    assert queue.ahead_of(2) == 2
    assert queue.ahead_of(99) == 0


def test_it_can_be_iterated_while_it_changes() -> None:
    queue = ReadyQueue(360.0)
    for number in range(6):
        queue.add(task(number, "normal", float(number)))
    seen = queue.in_order()
    assert next(seen) == 0
    queue.discard(2)
    queue.add(task(9, "critical", 0.0))
    queue.discard(3)
    queue.add(task(3, "normal", 3.0))  # left and came back: its first entry is still there
    assert list(seen) == [1, 3, 4, 5]
    assert queue.first(3) == [9, 0, 1]
    assert [queue.ahead_of(number) for number in (9, 3, 2)] == [0, 3, 0]


def test_removed_tasks_do_not_stay_in_memory() -> None:
    queue = ReadyQueue(360.0)
    for number in range(10_000):
        queue.add(task(number, "normal", float(number)))
    for number in range(9_990):
        queue.discard(number)
    assert sum(map(len, queue._heaps.values())) < 2_000
    assert queue.first(100) == list(range(9_990, 10_000))
