"""A task runs only in a process that has run no other program's code; a worker of another program is replaced."""

from __future__ import annotations

import pytest

from tests.unit.core.scheduler_rig import SHELL, SchedulerRig
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


def context_of(rig: SchedulerRig, number: int) -> str:
    return rig.state.roster.lives[rig.life_of(number)].context


def test_contexts_are_compared_by_content_whatever_their_encoding() -> None:
    assert context_key(A) == context_key(job("a"))
    assert context_key(A) != context_key(B)
    assert context_key(PythonJob(call=b"", label="", context=Blob("d" * 64, 3))) == "d" * 64
    assert context_key(PythonJob(call=b"", label="")) == context_key(SHELL) == ""
    assert context_key(PythonJob(call=b"", label="", path=("/x",))) != context_key(PythonJob(call=b"", label="", path=("/y",)))


def test_a_worker_takes_the_context_of_its_first_task_and_keeps_it() -> None:
    rig = SchedulerRig(workers=1)
    (first,) = rig.submit(A)
    assert context_of(rig, first) == context_key(A)
    life = rig.life_of(first)
    rig.done(first)
    (second,) = rig.submit(A)
    assert rig.life_of(second) == life


def test_two_programs_never_share_a_worker() -> None:
    rig = SchedulerRig(workers=2)
    first, second = rig.submit(A, B)
    assert rig.life_of(first) != rig.life_of(second)
    rig.done(first)
    rig.done(second)
    third, fourth = rig.submit(B, A)
    assert context_of(rig, third) == context_key(B)
    assert context_of(rig, fourth) == context_key(A)
    assert not rig.all(ev.StartLife), "each finds its own worker again"


def test_commands_and_kernels_run_in_any_worker_and_leave_its_context() -> None:
    rig = SchedulerRig(workers=1)
    for task in (A, SHELL, A):
        (number,) = rig.submit(task)
        assert rig.life_of(number) == 1
        rig.done(number)


def test_an_idle_worker_of_another_program_is_replaced_by_a_warm_one_in_the_same_turn() -> None:
    rig = SchedulerRig(workers=1, pool=1)
    (first,) = rig.submit(A)
    rig.done(first)
    rig.greet_all()
    (second,) = rig.submit(B)
    assert rig.life_of(second) != 1
    assert Stop(why="drain", grace_s=1.0) in rig.sent_to(1)
    names = {action.life: action.worker for action in rig.all(ev.NameLife)}
    assert names == {1: "old-1", rig.life_of(second): "w1"}
    assert [message.task for message in rig.sent_to(rig.life_of(second)) if isinstance(message, Run)] == [second]


def test_without_a_warm_worker_a_fresh_one_is_started_and_kept_for_the_task() -> None:
    rig = SchedulerRig(workers=1)
    (first,) = rig.submit(A)
    rig.done(first)
    (second,) = rig.submit(B)
    assert rig.one(ev.StartLife).worker == "w1"
    (third,) = rig.submit(A)
    assert not rig.all(ev.StartLife), "the worker that is coming is for the second task"
    rig.greet_all()
    assert context_of(rig, second) == context_key(B)
    assert rig.task(third).state is S.READY


def test_a_busy_worker_is_not_ended_and_after_a_while_its_slot_goes_to_the_waiting_program() -> None:
    rig = SchedulerRig(workers=1)
    running, behind = rig.submit(A, A)
    rig.started(running)
    rig.handle(pass_s=0.001)
    (waiting,) = rig.submit(B)
    (later,) = rig.submit(A)
    rig.handle(pass_s=contexts.SWITCH_S)
    rig.done(running)
    rig.done(behind)
    assert rig.task(later).state is S.READY, "it came after the task that waits"
    rig.greet_all()
    assert context_of(rig, waiting) == context_key(B)


def test_waiting_parts_are_checked_again_without_any_event() -> None:
    rig = SchedulerRig(workers=1)
    (running,) = rig.submit(A)
    rig.submit(B)
    assert rig.turn.wake_at == pytest.approx(rig.now + contexts.SWITCH_S)
    rig.handle(pass_s=contexts.SWITCH_S)
    assert rig.turn.wake_at is None or rig.turn.wake_at > rig.now
    assert rig.task(running).state is S.SENT


def test_the_last_worker_of_a_program_with_work_is_not_taken_for_another_that_has_one() -> None:
    rig = SchedulerRig(workers=2)
    first_a, first_b, *_ = rig.submit(A, B, A, B, A, B)
    lives = {rig.life_of(first_a), rig.life_of(first_b)}
    for _ in range(5):
        rig.handle(pass_s=contexts.SWITCH_S)
    assert set(rig.state.roster.lives) == lives
    assert not any(life.kept_for for life in rig.state.roster.lives.values())


def test_idle_workers_go_to_the_program_that_has_work() -> None:
    rig = SchedulerRig(workers=4)
    for number in rig.submit(*[A] * 4):
        rig.done(number)
    rig.handle(pass_s=1.0)
    waiting = rig.submit(*[B] * 8)
    rig.greet_all()
    assert {rig.life_of(number) for number in waiting[:4]} == {life for life in rig.state.roster.lives if life > 4}


def test_a_worker_kept_for_a_task_that_was_cancelled_takes_work_again() -> None:
    rig = SchedulerRig(workers=1)
    running, *_ = rig.submit(A)
    rig.started(running)
    (waiting,) = rig.submit(B)
    (behind,) = rig.submit(A)
    rig.handle(pass_s=contexts.SWITCH_S)
    assert rig.state.roster.lives[1].kept_for
    rig.handle(ev.CancelRequested(token=2, tasks=(waiting,)))
    rig.done(running)
    assert rig.life_of(behind) == 1


def test_more_programs_than_workers_all_get_their_turn() -> None:
    rig = SchedulerRig(workers=1, pool=1)
    numbers = rig.submit(A, B, C, A, B, C)
    for _ in range(40):
        rig.handle(pass_s=contexts.SWITCH_S)
        rig.greet_all()
        for number in numbers:
            if number not in rig.ended and rig.task(number).lease:
                rig.done(number)
        for life in [life for life in rig.state.roster.lives.values() if life.retiring]:
            rig.handle(ev.LifeEnded(life=life.id, cause="exited with 0", exit_code=0))
    assert sorted(rig.ended) == list(numbers)


def test_a_fresh_task_runs_in_a_process_that_ran_nothing_and_is_the_last_there() -> None:
    rig = SchedulerRig(workers=1, pool=1)
    (first,) = rig.submit(job("a", fresh=True))
    life = rig.life_of(first)
    rig.done(first)
    assert rig.state.roster.lives[life].retiring
    (second,) = rig.submit(A)
    assert rig.life_of(second) != life
    rig.done(second)
    rig.greet_all()
    (third,) = rig.submit(job("a", fresh=True))
    assert rig.life_of(third) not in (life, 2)


def test_fresh_commands_get_a_worker_of_their_own_too() -> None:
    rig = SchedulerRig(workers=1, pool=1)
    (first,) = rig.submit(SHELL)
    rig.done(first)
    (second,) = rig.submit(type(SHELL)(argv=(b"true",), fresh=True))
    assert rig.life_of(second) != 1


def test_a_new_controller_knows_whose_code_a_worker_runs() -> None:
    rig = SchedulerRig(workers=1)
    (first,) = rig.submit(A)
    rig.done(first)
    record = rig.state.roster.lives[1].record
    assert record.context == context_key(A)
    assert record.used


def test_a_worker_that_is_not_to_run_more_is_replaced_even_when_it_holds_nothing() -> None:
    rig = SchedulerRig(workers=1, pool=1)
    (number,) = rig.submit(A)
    rig.done(number)
    rig.report(1, Recalled(0, 0, "stale"))
    assert rig.state.roster.lives[1].retiring
    assert rig.state.roster.slots()["w1"].id == 2


def test_commands_that_come_later_do_not_keep_a_program_from_the_only_worker() -> None:
    rig = SchedulerRig(workers=1)
    (first,) = rig.submit(A)
    rig.done(first, duration_s=1.0)  # so that nothing is sent ahead
    (running,) = rig.submit(SHELL)
    (waiting,) = rig.submit(B)
    rig.handle(pass_s=0.001)
    commands = rig.submit(*[SHELL] * 5)
    rig.handle(pass_s=contexts.SWITCH_S)
    rig.done(running)
    assert all(rig.task(number).state is S.READY for number in commands), "they came after the task that waits"
    rig.greet_all()
    assert context_of(rig, waiting) == context_key(B)


def test_a_command_on_the_worker_that_was_started_for_a_fresh_task_only_delays_that_task() -> None:
    rig = SchedulerRig(workers=1)
    (first,) = rig.submit(A)
    rig.done(first)
    (fresh,) = rig.submit(job("b", fresh=True))
    (command,) = rig.submit(SHELL, priority="critical")
    rig.greet_all()
    life = rig.life_of(command)
    rig.done(command)
    rig.greet_all()
    assert rig.life_of(fresh) != life
    rig.done(fresh)
    (other,) = rig.submit(C)
    rig.greet_all()
    assert context_of(rig, other) == context_key(C)


def test_what_waits_behind_a_long_task_gets_the_idle_worker_of_another_program() -> None:
    rig = SchedulerRig(workers=2)
    first, other = rig.submit(A, B)
    rig.done(first)
    rig.done(other)
    tasks = rig.submit(*[A] * 6)
    long = rig.life_of(tasks[0])
    assert {rig.life_of(number) for number in tasks} == {long}, "so far its tasks were short"
    rig.started(tasks[0])
    for _ in range(6):
        rig.handle(pass_s=0.03)
        asked = [message for message in rig.sent_to(long) if isinstance(message, Recall)]
        rig.report(long, *[Recalled(message.task, message.attempt, "asked") for message in asked])
        rig.greet_all()
    assert {context_of(rig, number) for number in tasks if rig.task(number).lease} == {context_key(A)}
    assert any(rig.life_of(number) != long for number in tasks if rig.task(number).lease)


def test_a_worker_whose_task_was_cancelled_before_it_was_ready_has_no_context() -> None:
    rig = SchedulerRig(workers=1)
    (first,) = rig.submit(A)
    rig.done(first)
    (second,) = rig.submit(B)
    rig.one(ev.StartLife)
    rig.handle(ev.CancelRequested(token=1, tasks=(second,)))
    rig.greet_all()
    (third,) = rig.submit(C)
    assert not rig.all(ev.StartLife), "it need not be replaced"
    assert context_of(rig, third) == context_key(C)
