"""A task runs only where no other program's code has run; workers change hands by being replaced."""

from __future__ import annotations

import pytest

from tests.unit.core.stage import SHELL, Stage
from tmax.core import contexts
from tmax.core import events as ev
from tmax.core.model import TaskState
from tmax_pipes.jobs import Blob, Context, PythonJob, context_key, encode_context
from tmax_pipes.messages import Recall, Recalled, Run, Stop

S = TaskState


def job(program: str, **fields: object) -> PythonJob:
    """A call from a program in this folder."""
    return PythonJob(call=b"x", label=program, context=encode_context(Context(path=(f"/{program}",))), **fields)  # type: ignore[arg-type]


A, B, C = job("a"), job("b"), job("c")


def context_of(stage: Stage, number: int) -> str:
    return stage.state.roster.lives[stage.life_of(number)].context


def test_what_tells_contexts_apart_is_their_content_however_it_travels() -> None:
    assert context_key(A) == context_key(job("a"))
    assert context_key(A) != context_key(B)
    assert context_key(PythonJob(call=b"", label="", context=Blob("d" * 64, 3))) == "d" * 64
    assert context_key(PythonJob(call=b"", label="")) == context_key(SHELL) == ""
    assert context_key(PythonJob(call=b"", label="", path=("/x",))) != context_key(PythonJob(call=b"", label="", path=("/y",)))


def test_a_worker_takes_the_context_of_its_first_task_and_keeps_it() -> None:
    stage = Stage(workers=1)
    (first,) = stage.submit(A)
    assert context_of(stage, first) == context_key(A)
    life = stage.life_of(first)
    stage.done(first)
    (second,) = stage.submit(A)
    assert stage.life_of(second) == life


def test_two_programs_never_share_a_worker() -> None:
    stage = Stage(workers=2)
    first, second = stage.submit(A, B)
    assert stage.life_of(first) != stage.life_of(second)
    stage.done(first)
    stage.done(second)
    third, fourth = stage.submit(B, A)
    assert context_of(stage, third) == context_key(B)
    assert context_of(stage, fourth) == context_key(A)
    assert not stage.all(ev.StartLife), "each finds its own worker again"


def test_commands_and_kernels_run_in_any_worker_and_leave_its_context() -> None:
    stage = Stage(workers=1)
    for task in (A, SHELL, A):
        (number,) = stage.submit(task)
        assert stage.life_of(number) == 1
        stage.done(number)


def test_an_idle_worker_of_another_program_is_replaced_by_a_warm_one_in_the_same_turn() -> None:
    stage = Stage(workers=1, pool=1)
    (first,) = stage.submit(A)
    stage.done(first)
    stage.greet_all()
    (second,) = stage.submit(B)
    assert stage.life_of(second) != 1
    assert Stop(why="drain", grace_s=1.0) in stage.said(1)
    names = {action.life: action.worker for action in stage.all(ev.NameLife)}
    assert names == {1: "old-1", stage.life_of(second): "w1"}
    assert [message.task for message in stage.said(stage.life_of(second)) if isinstance(message, Run)] == [second]


def test_without_a_warm_worker_a_fresh_one_is_started_and_kept_for_the_task() -> None:
    stage = Stage(workers=1)
    (first,) = stage.submit(A)
    stage.done(first)
    (second,) = stage.submit(B)
    assert stage.one(ev.StartLife).worker == "w1"
    (third,) = stage.submit(A)
    assert not stage.all(ev.StartLife), "the worker that is coming is for the second task"
    stage.greet_all()
    assert context_of(stage, second) == context_key(B)
    assert stage.task(third).state is S.READY


def test_a_busy_worker_is_not_ended_and_after_a_while_its_place_is_given_to_the_one_who_waits() -> None:
    stage = Stage(workers=1)
    running, behind = stage.submit(A, A)
    stage.started(running)
    stage.handle(pass_s=0.001)
    (waiting,) = stage.submit(B)
    (later,) = stage.submit(A)
    stage.handle(pass_s=contexts.SWITCH_S)
    stage.done(running)
    stage.done(behind)
    assert stage.task(later).state is S.READY, "it came after the task that waits"
    stage.greet_all()
    assert context_of(stage, waiting) == context_key(B)


def test_who_waits_is_looked_at_again_without_any_event() -> None:
    stage = Stage(workers=1)
    (running,) = stage.submit(A)
    stage.submit(B)
    assert stage.turn.wake_at == pytest.approx(stage.now + contexts.SWITCH_S)
    stage.handle(pass_s=contexts.SWITCH_S)
    assert stage.turn.wake_at is None or stage.turn.wake_at > stage.now
    assert stage.task(running).state is S.SENT


def test_the_last_worker_of_a_program_with_work_is_not_taken_for_another_that_has_one() -> None:
    stage = Stage(workers=2)
    first_a, first_b, *_ = stage.submit(A, B, A, B, A, B)
    lives = {stage.life_of(first_a), stage.life_of(first_b)}
    for _ in range(5):
        stage.handle(pass_s=contexts.SWITCH_S)
    assert set(stage.state.roster.lives) == lives
    assert not any(life.kept_for for life in stage.state.roster.lives.values())


def test_idle_workers_go_to_whoever_has_work() -> None:
    stage = Stage(workers=4)
    for number in stage.submit(*[A] * 4):
        stage.done(number)
    stage.handle(pass_s=1.0)
    waiting = stage.submit(*[B] * 8)
    stage.greet_all()
    assert {stage.life_of(number) for number in waiting[:4]} == {life for life in stage.state.roster.lives if life > 4}


def test_a_worker_kept_for_a_task_that_was_cancelled_works_on() -> None:
    stage = Stage(workers=1)
    running, *_ = stage.submit(A)
    stage.started(running)
    (waiting,) = stage.submit(B)
    (behind,) = stage.submit(A)
    stage.handle(pass_s=contexts.SWITCH_S)
    assert stage.state.roster.lives[1].kept_for
    stage.handle(ev.CancelRequested(token=2, tasks=(waiting,)))
    stage.done(running)
    assert stage.life_of(behind) == 1


def test_more_programs_than_workers_all_get_their_turn() -> None:
    stage = Stage(workers=1, pool=1)
    numbers = stage.submit(A, B, C, A, B, C)
    for _ in range(40):
        stage.handle(pass_s=contexts.SWITCH_S)
        stage.greet_all()
        for number in numbers:
            if number not in stage.ended and stage.task(number).lease:
                stage.done(number)
        for life in [life for life in stage.state.roster.lives.values() if life.retiring]:
            stage.handle(ev.LifeEnded(life=life.id, cause="exited with 0", exit_code=0))
    assert sorted(stage.ended) == list(numbers)


def test_a_fresh_task_runs_in_a_process_that_ran_nothing_and_is_the_last_there() -> None:
    stage = Stage(workers=1, pool=1)
    (first,) = stage.submit(job("a", fresh=True))
    life = stage.life_of(first)
    stage.done(first)
    assert stage.state.roster.lives[life].retiring
    (second,) = stage.submit(A)
    assert stage.life_of(second) != life
    stage.done(second)
    stage.greet_all()
    (third,) = stage.submit(job("a", fresh=True))
    assert stage.life_of(third) not in (life, 2)


def test_fresh_commands_get_a_worker_of_their_own_too() -> None:
    stage = Stage(workers=1, pool=1)
    (first,) = stage.submit(SHELL)
    stage.done(first)
    (second,) = stage.submit(type(SHELL)(argv=(b"true",), fresh=True))
    assert stage.life_of(second) != 1


def test_a_new_controller_knows_whose_code_a_worker_runs() -> None:
    stage = Stage(workers=1)
    (first,) = stage.submit(A)
    stage.done(first)
    record = stage.state.roster.lives[1].record
    assert record.context == context_key(A)
    assert record.used


def test_a_worker_that_is_not_to_run_more_is_replaced_even_when_it_holds_nothing() -> None:
    stage = Stage(workers=1, pool=1)
    (number,) = stage.submit(A)
    stage.done(number)
    stage.say(1, Recalled(0, 0, "stale"))
    assert stage.state.roster.lives[1].retiring
    assert stage.state.roster.slots()["w1"].id == 2


def test_commands_that_come_later_do_not_keep_a_program_from_the_only_worker() -> None:
    stage = Stage(workers=1)
    (first,) = stage.submit(A)
    stage.done(first, duration_s=1.0)  # so that nothing is sent ahead
    (running,) = stage.submit(SHELL)
    (waiting,) = stage.submit(B)
    stage.handle(pass_s=0.001)
    commands = stage.submit(*[SHELL] * 5)
    stage.handle(pass_s=contexts.SWITCH_S)
    stage.done(running)
    assert all(stage.task(number).state is S.READY for number in commands), "they came after the task that waits"
    stage.greet_all()
    assert context_of(stage, waiting) == context_key(B)


def test_a_command_on_the_worker_that_was_started_for_a_fresh_task_only_delays_that_task() -> None:
    stage = Stage(workers=1)
    (first,) = stage.submit(A)
    stage.done(first)
    (fresh,) = stage.submit(job("b", fresh=True))
    (command,) = stage.submit(SHELL, priority="critical")
    stage.greet_all()
    life = stage.life_of(command)
    stage.done(command)
    stage.greet_all()
    assert stage.life_of(fresh) != life
    stage.done(fresh)
    (other,) = stage.submit(C)
    stage.greet_all()
    assert context_of(stage, other) == context_key(C)


def test_what_waits_behind_a_long_task_gets_the_idle_worker_of_another_program() -> None:
    stage = Stage(workers=2)
    first, other = stage.submit(A, B)
    stage.done(first)
    stage.done(other)
    tasks = stage.submit(*[A] * 6)
    long = stage.life_of(tasks[0])
    assert {stage.life_of(number) for number in tasks} == {long}, "so far its tasks were short"
    stage.started(tasks[0])
    for _ in range(6):
        stage.handle(pass_s=0.03)
        asked = [message for message in stage.said(long) if isinstance(message, Recall)]
        stage.say(long, *[Recalled(message.task, message.attempt, "asked") for message in asked])
        stage.greet_all()
    assert {context_of(stage, number) for number in tasks if stage.task(number).lease} == {context_key(A)}
    assert any(stage.life_of(number) != long for number in tasks if stage.task(number).lease)


def test_a_worker_whose_task_was_cancelled_before_it_was_ready_is_anybodys() -> None:
    stage = Stage(workers=1)
    (first,) = stage.submit(A)
    stage.done(first)
    (second,) = stage.submit(B)
    stage.one(ev.StartLife)
    stage.handle(ev.CancelRequested(token=1, tasks=(second,)))
    stage.greet_all()
    (third,) = stage.submit(C)
    assert not stage.all(ev.StartLife), "it need not be replaced"
    assert context_of(stage, third) == context_key(C)
