"""Tasks that tasks submit, of several contexts: a child runs only in a worker of its context, also in a nested one."""

from __future__ import annotations

from msgspec.structs import replace

from tests.unit.core.scheduler_rig import PYTHON, SchedulerRig
from tmax.core import contexts, nesting
from tmax_pipes.jobs import Context, encode_context

A, B = (replace(PYTHON, context=encode_context(Context(path=(f"/{name}",)))) for name in "ab")


def names(rig: SchedulerRig) -> list[str]:
    return sorted(life.name for life in rig.state.roster.lives.values() if not life.retiring)


def holder(rig: SchedulerRig, number: int) -> str:
    lease = rig.task(number).lease
    return lease.worker if lease else ""


def run_parent(rig: SchedulerRig) -> int:
    (parent,) = rig.submit(A)
    rig.started(parent)
    return parent


def test_a_nested_worker_is_started_for_the_context_of_the_child_and_replaced_for_another_at_once() -> None:
    rig = SchedulerRig(workers=1)
    parent = run_parent(rig)
    for job in (B, A, B):
        (child,) = rig.submit(replace(job, parent=parent))
        assert names(rig) == ["w1", "w2"]
        rig.greet_all()
        assert holder(rig, child) == "w2"
        rig.started(child)
        rig.done(child)


def test_a_child_that_wants_a_process_of_its_own_gets_one_each_time() -> None:
    rig = SchedulerRig(workers=1)
    parent = run_parent(rig)
    lives = set()
    for _ in range(3):
        (child,) = rig.submit(replace(A, fresh=True, parent=parent))
        rig.greet_all()
        lease = rig.task(child).lease
        assert lease is not None and lease.worker == "w2"
        lives.add(lease.life)
        rig.started(child)
        rig.done(child)
    assert len(lives) == 3


def test_a_worker_from_the_pool_takes_a_child_in_the_same_turn() -> None:
    rig = SchedulerRig(workers=1, pool=1)
    rig.greet_all()
    parent = run_parent(rig)
    (child,) = rig.submit(replace(B, parent=parent))
    assert holder(rig, child) == "w2"


def test_a_worker_whose_slot_was_given_to_another_is_no_nested_one() -> None:
    rig = SchedulerRig(workers=1)
    (first,) = rig.submit(A)
    rig.done(first)
    rig.submit(B)
    rig.handle(pass_s=contexts.SWITCH_S + 0.01)
    old = [life for life in rig.state.roster.lives.values() if life.name.startswith("old-")]
    assert old
    assert not any(map(rig.state.roster.is_nested, old))


def test_neither_a_nested_worker_nor_one_whose_task_waits_is_taken_for_another_context() -> None:
    rig = SchedulerRig(workers=1)
    parent = run_parent(rig)
    (child,) = rig.submit(replace(A, parent=parent))
    rig.greet_all()
    rig.started(child)
    rig.done(child)
    (other,) = rig.submit(B)
    for _ in range(5):
        rig.handle(pass_s=contexts.SWITCH_S)
        assert names(rig) == ["w1", "w2"]
        assert not any(life.kept_for for life in rig.state.roster.lives.values() if life.name == "w2")
    assert "busy" in rig.scheduler.query.why_waiting(rig.task(other))
    rig.submit(replace(A, parent=parent))
    rig.handle(pass_s=contexts.SWITCH_S)
    assert not any(life.kept_for for life in rig.state.roster.lives.values())


def test_a_child_that_a_nested_worker_takes_replaces_no_worker_of_another_context() -> None:
    rig = SchedulerRig(workers=2)
    parent = run_parent(rig)
    (other,) = rig.submit(B)
    rig.started(other)
    (child,) = rig.submit(replace(A, parent=parent))
    rig.greet_all()
    assert holder(rig, child) == "w3"
    rig.done(other)
    rig.handle(pass_s=1.0)
    rig.done(child)
    (again,) = rig.submit(replace(A, parent=parent))
    assert (holder(rig, again), names(rig)) == ("w3", ["w1", "w2", "w3"])
    assert rig.state.roster.slots()["w2"].context not in {"", rig.state.roster.slots()["w1"].context}


def test_a_nested_worker_that_takes_long_to_start_is_waited_for() -> None:
    rig = SchedulerRig(workers=1)
    parent = run_parent(rig)
    (child,) = rig.submit(replace(B, parent=parent))
    coming = rig.state.roster.slots()["w2"].id
    for _ in range(5):
        rig.handle(pass_s=nesting.LINGER_S)
    assert rig.state.roster.slots()["w2"].id == coming
    rig.greet_all()
    assert holder(rig, child) == "w2"
