"""Tasks that submit tasks: their children get a worker although every worker has a task."""

from __future__ import annotations

from msgspec.structs import replace

from tests.unit.core.scheduler_rig import PYTHON, SETTINGS, SchedulerRig
from tmax.core import events as ev
from tmax.core import nesting
from tmax.core.model import TaskState
from tmax.core.settings import Settings, SwarmSettings


def with_limit(limit: int) -> Settings:
    return Settings(swarm=SwarmSettings(nested_workers=limit), tasks=SETTINGS.tasks, worker=SETTINGS.worker)


def run_parent(rig: SchedulerRig, **options: object) -> int:
    """Submit a task and have it started."""
    (number,) = rig.submit(PYTHON, **options)
    rig.started(number)
    return number


def child_of(rig: SchedulerRig, parent: int, count: int = 1) -> tuple[int, ...]:
    return rig.submit(*[replace(PYTHON, parent=parent)] * count)


def names(rig: SchedulerRig) -> list[str]:
    return sorted(life.name for life in rig.state.roster.lives.values() if not life.retiring)


def holder(rig: SchedulerRig, number: int) -> str:
    lease = rig.task(number).lease
    return lease.worker if lease else ""


def test_a_child_gets_a_nested_worker_which_ends_afterwards() -> None:
    rig = SchedulerRig(workers=1)
    parent = run_parent(rig)
    (child,) = child_of(rig, parent)
    assert names(rig) == ["w1", "w2"]
    assert "is running on w1; a worker is being started for it" in rig.scheduler.query.why_waiting(rig.task(child))
    rig.greet_all()
    assert holder(rig, child) == "w2"
    rig.started(child)
    rig.done(child)
    (again,) = child_of(rig, parent)
    assert holder(rig, again) == "w2", "it is still there"
    rig.started(again)
    rig.handle(pass_s=60.0)
    rig.done(again)
    rig.done(parent)
    assert names(rig) == ["w1", "w2"]
    wake = rig.turn.wake_at
    assert wake is not None and wake <= rig.now + nesting.LINGER_S
    rig.handle(pass_s=nesting.LINGER_S + 0.1)
    assert names(rig) == ["w1"]


def test_a_nested_worker_takes_nothing_but_children_of_what_runs() -> None:
    rig = SchedulerRig(workers=1)
    parent = run_parent(rig)
    others = rig.submit(PYTHON, PYTHON, priority="critical")
    (child,) = child_of(rig, parent)
    rig.greet_all()
    assert holder(rig, child) == "w2"
    assert [rig.task(number).state for number in others] == [TaskState.READY] * 2
    rig.done(child)
    assert [rig.task(number).state for number in others] == [TaskState.READY] * 2


def test_no_worker_is_started_while_one_is_free_or_coming() -> None:
    rig = SchedulerRig(workers=2)
    parent = run_parent(rig)
    (child,) = child_of(rig, parent)
    assert (names(rig), holder(rig, child)) == (["w1", "w2"], "w2")
    coming = SchedulerRig(workers=2, ready=False)
    coming.greet(1)
    parent = run_parent(coming)
    child_of(coming, parent)
    assert names(coming) == ["w1", "w2"]


def test_no_task_is_queued_behind_a_task_that_has_children() -> None:
    rig = SchedulerRig(workers=1)
    for _ in range(20):
        (number,) = rig.submit(PYTHON)
        rig.done(number)  # short ones: work would be sent ahead
    parent = run_parent(rig)
    children = child_of(rig, parent, 3)
    (other,) = rig.submit(PYTHON)
    assert [holder(rig, number) for number in (*children, other)] == [""] * 4


def test_the_youngest_child_goes_first_so_that_a_tree_needs_as_many_workers_as_it_is_deep() -> None:
    rig = SchedulerRig(workers=1, settings=with_limit(4))
    running = [run_parent(rig)]
    ran = 0
    while running:
        depth = len(running)
        if depth < 5 and ran < 200:
            child_of(rig, running[-1], 3 if depth < 3 else 1)
        rig.greet_all()
        ready = [task for task in rig.state.ledger.tasks.values() if task.lease is not None and task.id not in running]
        if ready:
            rig.started(ready[0].id)
            running.append(ready[0].id)
            continue
        assert not nesting.deadlock(rig.state), running
        rig.done(running.pop())
        ran += 1
    assert ran > 10
    assert not rig.state.ledger.task_tree.children


def test_at_the_limit_the_reason_names_the_waiting_worker() -> None:
    rig = SchedulerRig(workers=1, settings=with_limit(1))
    parent = run_parent(rig)
    (child,) = child_of(rig, parent)
    rig.greet_all()
    rig.started(child)
    assert not nesting.deadlock(rig.state)
    (grandchild,) = child_of(rig, child)
    rig.greet_all()
    assert names(rig) == ["w1", "w2"]
    told = rig.scheduler.query.why_waiting(rig.task(grandchild))
    assert (
        told
        == f"task {child}, which submitted it, is running on w2; that may be waiting for it, and all 1 nested workers are in use (swarm.nested_workers)"
    )
    assert nesting.deadlock(rig.state).startswith("stuck: 2 running tasks wait for tasks they submitted")
    rig.handle(ev.CancelRequested(token=1, tasks=(grandchild,)))
    assert not nesting.deadlock(rig.state)


def test_at_down_a_held_queue_keeps_running_tasks_from_their_end() -> None:
    rig = SchedulerRig(workers=1, settings=with_limit(1))
    parent = run_parent(rig)
    rig.handle(ev.HoldSet(held=True))
    child_of(rig, parent)
    assert not nesting.deadlock(rig.state), "a person holds the queue and knows it"
    rig.handle(ev.Leaving(now=False))
    assert nesting.deadlock(rig.state) == "1 running task waits for tasks it submitted, and the queue is held: tmax resume"
    rig.handle(ev.HoldSet(held=False))
    assert not nesting.deadlock(rig.state)


def test_at_down_now_nothing_waits_for_good() -> None:
    for limit, held in ((0, False), (1, True)):
        rig = SchedulerRig(workers=1, settings=with_limit(limit))
        parent = run_parent(rig)
        rig.handle(ev.HoldSet(held=held))
        child_of(rig, parent)
        rig.handle(ev.Leaving(now=False))
        assert nesting.deadlock(rig.state)
        rig.handle(ev.Leaving(now=True))
        assert not nesting.deadlock(rig.state)


def test_a_limit_of_0_starts_none_and_the_reason_names_it() -> None:
    rig = SchedulerRig(workers=1, settings=with_limit(0))
    parent = run_parent(rig)
    (child,) = child_of(rig, parent)
    rig.greet_all()
    assert names(rig) == ["w1"]
    assert "no worker is free (swarm.nested_workers is 0)" in rig.scheduler.query.why_waiting(rig.task(child))
    assert nesting.deadlock(rig.state).startswith("stuck: 1 running task waits for tasks it submitted")
    rig.done(parent)
    assert holder(rig, child) == "w1"


def test_a_new_controller_keeps_the_nested_worker_and_its_child() -> None:
    rig = SchedulerRig(workers=1)
    parent = run_parent(rig)
    first, second = child_of(rig, parent, 2)
    rig.greet_all()
    assert holder(rig, second) == "w2"
    state = rig.state
    after = SchedulerRig(workers=1, ready=False)
    after.scheduler = type(rig.scheduler)(
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
    assert after.state.ledger.task_tree.children == {parent: {first, second}}


def test_a_hold_and_an_end_start_none() -> None:
    rig = SchedulerRig(workers=1)
    parent = run_parent(rig)
    rig.handle(ev.HoldSet(held=True))
    child_of(rig, parent)
    assert names(rig) == ["w1"]
    rig.handle(ev.HoldSet(held=False))
    assert names(rig) == ["w1", "w2"]


def test_a_parent_that_is_not_known_is_no_parent() -> None:
    rig = SchedulerRig(workers=1)
    run_parent(rig)
    child_of(rig, 99)
    assert names(rig) == ["w1"]


def test_down_finishes_what_running_tasks_have_submitted_and_nothing_else() -> None:
    rig = SchedulerRig(workers=1)
    parent = run_parent(rig)
    rig.handle(ev.HoldSet(held=True))
    first, second = child_of(rig, parent, 2)
    (other,) = rig.submit(PYTHON)
    rig.handle(ev.HoldSet(held=False), ev.Leaving(now=False))
    for child in (second, first):
        rig.greet_all()
        assert holder(rig, child) == "w2"
        rig.started(child)
        rig.done(child)
    rig.done(parent)
    assert rig.task(other).state is TaskState.READY
    assert [life.retiring for life in rig.state.roster.lives.values()] == [True, True]
    for life in list(rig.state.roster.lives):
        rig.die(life)
    assert rig.one(ev.SwarmEmpty)
    assert not rig.all(ev.StartLife)


def test_a_nested_worker_keeps_running_at_down_and_ends_at_once_when_it_is_not_needed() -> None:
    rig = SchedulerRig(workers=1)
    parent = run_parent(rig)
    first, second = child_of(rig, parent, 2)
    rig.greet_all()
    rig.started(second)
    rig.handle(ev.Leaving(now=False))
    rig.done(second)
    assert holder(rig, first) == "w2"
    rig.started(first)
    nested = rig.life_of(first)
    rig.done(first)
    rig.handle()
    assert rig.state.roster.lives[nested].retiring


def test_a_child_that_kills_its_workers_is_charged_at_down_too() -> None:
    rig = SchedulerRig(workers=1)
    parent = run_parent(rig)
    rig.handle(ev.Leaving(now=False))
    (child,) = child_of(rig, parent)
    for _ in range(3):
        rig.handle(pass_s=60.0)
        rig.greet_all()
        rig.started(child)
        rig.die(rig.life_of(child))
    assert rig.task(child).state is TaskState.DEAD


def test_down_now_starts_none() -> None:
    rig = SchedulerRig(workers=1)
    parent = run_parent(rig)
    rig.handle(ev.Leaving(now=True))
    child_of(rig, parent)
    rig.handle(pass_s=10.0)
    assert [life.name for life in rig.state.roster.lives.values()] == ["w1"]
