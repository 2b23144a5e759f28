"""Tasks that tasks submit, of several contexts: a child runs only in a worker of its own, also beside the number."""

from __future__ import annotations

from msgspec.structs import replace

from tests.unit.core.stage import PYTHON, Stage
from tmax.core import contexts, nesting
from tmax_pipes.jobs import Context, encode_context

A, B = (replace(PYTHON, context=encode_context(Context(path=(f"/{name}",)))) for name in "ab")


def names(stage: Stage) -> list[str]:
    return sorted(life.name for life in stage.state.roster.lives.values() if not life.retiring)


def holder(stage: Stage, number: int) -> str:
    lease = stage.task(number).lease
    return lease.worker if lease else ""


def run_parent(stage: Stage) -> int:
    (parent,) = stage.submit(A)
    stage.started(parent)
    return parent


def test_a_nested_worker_is_started_for_the_context_of_the_child_and_replaced_for_another_at_once() -> None:
    stage = Stage(workers=1)
    parent = run_parent(stage)
    for job in (B, A, B):
        (child,) = stage.submit(replace(job, parent=parent))
        assert names(stage) == ["w1", "w2"]
        stage.greet_all()
        assert holder(stage, child) == "w2"
        stage.started(child)
        stage.done(child)


def test_a_child_that_wants_a_process_of_its_own_gets_one_each_time() -> None:
    stage = Stage(workers=1)
    parent = run_parent(stage)
    lives = set()
    for _ in range(3):
        (child,) = stage.submit(replace(A, fresh=True, parent=parent))
        stage.greet_all()
        lease = stage.task(child).lease
        assert lease is not None and lease.worker == "w2"
        lives.add(lease.life)
        stage.started(child)
        stage.done(child)
    assert len(lives) == 3


def test_a_worker_from_the_pool_takes_a_child_in_the_same_turn() -> None:
    stage = Stage(workers=1, pool=1)
    stage.greet_all()
    parent = run_parent(stage)
    (child,) = stage.submit(replace(B, parent=parent))
    assert holder(stage, child) == "w2"


def test_a_worker_whose_slot_was_given_to_another_is_no_nested_one() -> None:
    stage = Stage(workers=1)
    (first,) = stage.submit(A)
    stage.done(first)
    stage.submit(B)
    stage.handle(pass_s=contexts.SWITCH_S + 0.01)
    old = [life for life in stage.state.roster.lives.values() if life.name.startswith("old-")]
    assert old
    assert not any(map(stage.state.roster.is_nested, old))


def test_neither_a_nested_worker_nor_one_whose_task_waits_is_taken_for_another_context() -> None:
    stage = Stage(workers=1)
    parent = run_parent(stage)
    (child,) = stage.submit(replace(A, parent=parent))
    stage.greet_all()
    stage.started(child)
    stage.done(child)
    (other,) = stage.submit(B)
    for _ in range(5):
        stage.handle(pass_s=contexts.SWITCH_S)
        assert names(stage) == ["w1", "w2"]
        assert not any(life.kept_for for life in stage.state.roster.lives.values() if life.name == "w2")
    assert "busy" in stage.scheduler.query.why_waiting(stage.task(other))
    stage.submit(replace(A, parent=parent))
    stage.handle(pass_s=contexts.SWITCH_S)
    assert not any(life.kept_for for life in stage.state.roster.lives.values())


def test_a_child_that_a_nested_worker_takes_replaces_no_worker_of_another_context() -> None:
    stage = Stage(workers=2)
    parent = run_parent(stage)
    (other,) = stage.submit(B)
    stage.started(other)
    (child,) = stage.submit(replace(A, parent=parent))
    stage.greet_all()
    assert holder(stage, child) == "w3"
    stage.done(other)
    stage.handle(pass_s=1.0)
    stage.done(child)
    (again,) = stage.submit(replace(A, parent=parent))
    assert (holder(stage, again), names(stage)) == ("w3", ["w1", "w2", "w3"])
    assert stage.state.roster.slots()["w2"].context not in {"", stage.state.roster.slots()["w1"].context}


def test_a_nested_worker_that_takes_long_to_start_is_waited_for() -> None:
    stage = Stage(workers=1)
    parent = run_parent(stage)
    (child,) = stage.submit(replace(B, parent=parent))
    coming = stage.state.roster.slots()["w2"].id
    for _ in range(5):
        stage.handle(pass_s=nesting.LINGER_S)
    assert stage.state.roster.slots()["w2"].id == coming
    stage.greet_all()
    assert holder(stage, child) == "w2"
