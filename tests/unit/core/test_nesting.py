"""Tasks that submit tasks: their children get a worker although every worker has a task."""

from __future__ import annotations

from msgspec.structs import replace

from tests.unit.core.stage import PYTHON, SETTINGS, Stage
from tmax.core import events as ev
from tmax.core import nesting
from tmax.core.model import TaskState
from tmax.core.settings import Settings, SwarmSettings


def with_limit(limit: int) -> Settings:
    return Settings(swarm=SwarmSettings(nested_workers=limit), tasks=SETTINGS.tasks, worker=SETTINGS.worker)


def run_parent(stage: Stage, **options: object) -> int:
    """Submit a task and have it started."""
    (number,) = stage.submit(PYTHON, **options)
    stage.started(number)
    return number


def child_of(stage: Stage, parent: int, count: int = 1) -> tuple[int, ...]:
    return stage.submit(*[replace(PYTHON, parent=parent)] * count)


def names(stage: Stage) -> list[str]:
    return sorted(life.name for life in stage.state.roster.lives.values() if not life.retiring)


def holder(stage: Stage, number: int) -> str:
    lease = stage.task(number).lease
    return lease.worker if lease else ""


def test_a_child_gets_a_worker_beside_the_number_and_that_one_leaves() -> None:
    stage = Stage(workers=1)
    parent = run_parent(stage)
    (child,) = child_of(stage, parent)
    assert names(stage) == ["w1", "w2"]
    assert "is running on w1; a worker is being started for it" in stage.scheduler.query.why_waiting(stage.task(child))
    stage.greet_all()
    assert holder(stage, child) == "w2"
    stage.started(child)
    stage.done(child)
    (again,) = child_of(stage, parent)
    assert holder(stage, again) == "w2", "it is still there"
    stage.started(again)
    stage.handle(pass_s=60.0)
    stage.done(again)
    stage.done(parent)
    assert names(stage) == ["w1", "w2"]
    wake = stage.turn.wake_at
    assert wake is not None and wake <= stage.now + nesting.LINGER_S
    stage.handle(pass_s=nesting.LINGER_S + 0.1)
    assert names(stage) == ["w1"]


def test_a_nested_worker_takes_nothing_but_children_of_what_runs() -> None:
    stage = Stage(workers=1)
    parent = run_parent(stage)
    others = stage.submit(PYTHON, PYTHON, priority="critical")
    (child,) = child_of(stage, parent)
    stage.greet_all()
    assert holder(stage, child) == "w2"
    assert [stage.task(number).state for number in others] == [TaskState.READY] * 2
    stage.done(child)
    assert [stage.task(number).state for number in others] == [TaskState.READY] * 2


def test_no_worker_is_started_while_one_is_free_or_coming() -> None:
    stage = Stage(workers=2)
    parent = run_parent(stage)
    (child,) = child_of(stage, parent)
    assert (names(stage), holder(stage, child)) == (["w1", "w2"], "w2")
    coming = Stage(workers=2, ready=False)
    coming.greet(1)
    parent = run_parent(coming)
    child_of(coming, parent)
    assert names(coming) == ["w1", "w2"]


def test_nothing_is_put_behind_a_task_that_has_children() -> None:
    stage = Stage(workers=1)
    for _ in range(20):
        (number,) = stage.submit(PYTHON)
        stage.done(number)  # short ones: work would be sent ahead
    parent = run_parent(stage)
    children = child_of(stage, parent, 3)
    (other,) = stage.submit(PYTHON)
    assert [holder(stage, number) for number in (*children, other)] == [""] * 4


def test_the_youngest_child_goes_first_so_that_a_tree_needs_as_many_workers_as_it_is_deep() -> None:
    stage = Stage(workers=1, settings=with_limit(4))
    running = [run_parent(stage)]
    ran = 0
    while running:
        depth = len(running)
        if depth < 5 and ran < 200:
            child_of(stage, running[-1], 3 if depth < 3 else 1)
        stage.greet_all()
        ready = [task for task in stage.state.ledger.tasks.values() if task.lease is not None and task.id not in running]
        if ready:
            stage.started(ready[0].id)
            running.append(ready[0].id)
            continue
        assert not nesting.obstacle(stage.state), running
        stage.done(running.pop())
        ran += 1
    assert ran > 10
    assert not stage.state.ledger.family.children


def test_at_the_limit_it_is_said_that_the_worker_may_wait_for_it() -> None:
    stage = Stage(workers=1, settings=with_limit(1))
    parent = run_parent(stage)
    (child,) = child_of(stage, parent)
    stage.greet_all()
    stage.started(child)
    assert not nesting.obstacle(stage.state)
    (grandchild,) = child_of(stage, child)
    stage.greet_all()
    assert names(stage) == ["w1", "w2"]
    told = stage.scheduler.query.why_waiting(stage.task(grandchild))
    assert (
        told
        == f"task {child}, which submitted it, is running on w2; that may be waiting for it, and all 1 nested workers are in use (swarm.nested_workers)"
    )
    assert nesting.obstacle(stage.state).startswith("stuck: 2 running tasks wait for tasks they submitted")
    stage.handle(ev.CancelRequested(token=1, tasks=(grandchild,)))
    assert not nesting.obstacle(stage.state)


def test_at_down_a_held_queue_keeps_running_tasks_from_their_end() -> None:
    stage = Stage(workers=1, settings=with_limit(1))
    parent = run_parent(stage)
    stage.handle(ev.HoldSet(held=True))
    child_of(stage, parent)
    assert not nesting.obstacle(stage.state), "a person holds the queue and knows it"
    stage.handle(ev.Leaving(now=False))
    assert nesting.obstacle(stage.state) == "1 running task waits for tasks it submitted, and the queue is held: tmax resume"
    stage.handle(ev.HoldSet(held=False))
    assert not nesting.obstacle(stage.state)


def test_at_down_now_nothing_waits_for_good() -> None:
    for limit, held in ((0, False), (1, True)):
        stage = Stage(workers=1, settings=with_limit(limit))
        parent = run_parent(stage)
        stage.handle(ev.HoldSet(held=held))
        child_of(stage, parent)
        stage.handle(ev.Leaving(now=False))
        assert nesting.obstacle(stage.state)
        stage.handle(ev.Leaving(now=True))
        assert not nesting.obstacle(stage.state)


def test_a_limit_of_0_starts_none_and_says_so() -> None:
    stage = Stage(workers=1, settings=with_limit(0))
    parent = run_parent(stage)
    (child,) = child_of(stage, parent)
    stage.greet_all()
    assert names(stage) == ["w1"]
    assert "no worker is free (swarm.nested_workers is 0)" in stage.scheduler.query.why_waiting(stage.task(child))
    assert nesting.obstacle(stage.state).startswith("stuck: 1 running task waits for tasks it submitted")
    stage.done(parent)
    assert holder(stage, child) == "w1"


def test_a_new_controller_keeps_the_nested_worker_and_its_child() -> None:
    stage = Stage(workers=1)
    parent = run_parent(stage)
    first, second = child_of(stage, parent, 2)
    stage.greet_all()
    assert holder(stage, second) == "w2"
    state = stage.state
    after = Stage(workers=1, ready=False)
    after.scheduler = type(stage.scheduler)(
        SETTINGS,
        workers=1,
        pool=0,
        tasks=state.ledger.tasks.values(),
        lives=[life.record for life in state.roster.lives.values()],
        next_task=state.ledger.next_task,
        next_life=state.roster.next_life,
        now=after.now,
    )
    after.handle()
    assert names(after) == ["w1", "w2"]
    assert after.state.ledger.family.children == {parent: {first, second}}


def test_a_hold_and_an_end_start_none() -> None:
    stage = Stage(workers=1)
    parent = run_parent(stage)
    stage.handle(ev.HoldSet(held=True))
    child_of(stage, parent)
    assert names(stage) == ["w1"]
    stage.handle(ev.HoldSet(held=False))
    assert names(stage) == ["w1", "w2"]


def test_a_parent_that_is_not_known_is_no_parent() -> None:
    stage = Stage(workers=1)
    run_parent(stage)
    child_of(stage, 99)
    assert names(stage) == ["w1"]


def test_a_polite_end_finishes_what_running_tasks_have_submitted_and_nothing_else() -> None:
    stage = Stage(workers=1)
    parent = run_parent(stage)
    stage.handle(ev.HoldSet(held=True))
    first, second = child_of(stage, parent, 2)
    (other,) = stage.submit(PYTHON)
    stage.handle(ev.HoldSet(held=False), ev.Leaving(now=False))
    for child in (second, first):
        stage.greet_all()
        assert holder(stage, child) == "w2"
        stage.started(child)
        stage.done(child)
    stage.done(parent)
    assert stage.task(other).state is TaskState.READY
    assert [life.retiring for life in stage.state.roster.lives.values()] == [True, True]
    for life in list(stage.state.roster.lives):
        stage.die(life)
    assert stage.one(ev.SwarmEmpty)
    assert not stage.all(ev.StartLife)


def test_a_nested_worker_that_is_there_goes_on_at_a_polite_end_and_leaves_at_once_when_it_is_not_needed() -> None:
    stage = Stage(workers=1)
    parent = run_parent(stage)
    first, second = child_of(stage, parent, 2)
    stage.greet_all()
    stage.started(second)
    stage.handle(ev.Leaving(now=False))
    stage.done(second)
    assert holder(stage, first) == "w2"
    stage.started(first)
    nested = stage.life_of(first)
    stage.done(first)
    stage.handle()
    assert stage.state.roster.lives[nested].retiring


def test_a_child_that_kills_its_workers_is_charged_at_a_polite_end_too() -> None:
    stage = Stage(workers=1)
    parent = run_parent(stage)
    stage.handle(ev.Leaving(now=False))
    (child,) = child_of(stage, parent)
    for _ in range(3):
        stage.handle(pass_s=60.0)
        stage.greet_all()
        stage.started(child)
        stage.die(stage.life_of(child))
    assert stage.task(child).state is TaskState.DEAD


def test_an_end_at_once_starts_none() -> None:
    stage = Stage(workers=1)
    parent = run_parent(stage)
    stage.handle(ev.Leaving(now=True))
    child_of(stage, parent)
    stage.handle(pass_s=10.0)
    assert [life.name for life in stage.state.roster.lives.values()] == ["w1"]
