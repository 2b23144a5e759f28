"""What a client takes back: what has begun goes on, and nothing that is cancelled runs afterwards."""

from __future__ import annotations

from tests.unit.core.stage import PYTHON, SETTINGS, SHELL, Stage, hello
from tmax.core import events as ev
from tmax.core.model import TaskState
from tmax.core.scheduler import Scheduler
from tmax_pipes.messages import Done, Holding, Recall, Recalled, Report, Started, Stop


def _withdraw(stage: Stage, *tasks: int) -> tuple[tuple[int, str], ...]:
    """A client takes tasks back that have not begun."""
    stage.handle(ev.CancelRequested(token=6, tasks=tasks, begun=False))
    return stage.one(ev.CancelAnswered).results


def _ahead() -> tuple[Stage, int, tuple[int, ...]]:
    """A worker with short tasks: one that it was given first, and others sent ahead behind it."""
    stage = Stage(workers=1)
    for _ in range(3):
        (number,) = stage.submit(PYTHON)
        stage.done(number)
    tasks = stage.submit(PYTHON, PYTHON, PYTHON)
    assert [stage.task(number).state for number in tasks] == [TaskState.SENT] * 3
    return stage, stage.life_of(tasks[0]), tasks


def test_what_a_worker_was_given_first_has_begun_for_a_client_that_takes_back() -> None:
    stage, life, (first, second, third) = _ahead()
    assert _withdraw(stage, first, second, third) == ((first, "running"), (second, "ending"), (third, "ending"))
    assert stage.said(life) == [Recall(second, 1), Recall(third, 1)]
    assert not stage.task(first).cancelling


def test_what_is_given_back_to_a_client_is_cancelled_and_what_has_begun_goes_on() -> None:
    stage, life, (first, second, third) = _ahead()
    _withdraw(stage, first, second, third)
    stage.say(life, Done(first, 1, Report()), Started(second, 1, at=1.0), Recalled(third, 1))
    assert stage.task(third).state is TaskState.CANCELLED
    assert stage.task(second).state is TaskState.RUNNING
    stage.die(life)
    assert stage.task(second).state is TaskState.READY, "begun, it is redelivered as any other"


def test_what_was_withdrawn_and_lost_with_its_worker_is_cancelled() -> None:
    stage, life, (first, second, third) = _ahead()
    _withdraw(stage, second)
    stage.die(life)
    assert [stage.task(number).state for number in (first, second, third)] == [TaskState.READY, TaskState.CANCELLED, TaskState.READY]


def test_a_persons_cancel_ends_also_what_was_only_withdrawn() -> None:
    stage, life, (_, second, _) = _ahead()
    _withdraw(stage, second)
    stage.handle(ev.CancelRequested(token=5, tasks=(second,)))
    assert stage.said(life) == [Stop(second, 1, "cancel", 10.0)]
    assert _withdraw(stage, second) == ((second, "ending"),)


def test_a_task_that_waits_for_its_go_is_withdrawn_for_sure() -> None:
    stage = Stage(workers=1)
    (number,) = stage.submit(SHELL)
    life = stage.life_of(number)
    assert _withdraw(stage, number) == ((number, "ending"),)
    assert stage.said(life) == [Stop(number, 1, "cancel", 10.0)]
    stage.started(number)
    assert not stage.said(life), "no Go"


def test_a_cancelled_task_gets_no_go_from_the_next_controller() -> None:
    stage = Stage(workers=1)
    (number,) = stage.submit(SHELL)
    life = stage.life_of(number)
    stage.handle(ev.CancelRequested(token=5, tasks=(number,)))
    stage.started(number)
    tasks, lives = [stage.task(number)], [one.record for one in stage.state.roster.lives.values()]
    again = Scheduler(SETTINGS, workers=1, pool=0, tasks=tasks, lives=lives, next_task=number + 1, next_life=life + 1, now=stage.now)
    greeting = hello(life, holding=(Holding(number, 1, "asked"),))
    turn = again.handle((ev.LifeConnected(life=life, hello=greeting, reconnected=True),), stage.now, stage.now)
    said = [message for action in turn.actions if isinstance(action, ev.SendMessages) for message in action.messages]
    assert said == [Stop(number, 1, "cancel", 10.0)]


def test_a_cancelled_task_does_not_run_again_when_another_tasks_time_costs_its_worker() -> None:
    stage, life, (first, second, _) = _ahead()
    stage.started(first)
    stage.handle(ev.CancelRequested(token=5, tasks=(second,)))
    stage.state.roster.lives[life].killed = "timeout"
    stage.die(life)
    assert stage.task(second).state is TaskState.CANCELLED


def test_a_cancelled_task_that_its_worker_has_lost_is_not_run_again() -> None:
    stage = Stage(workers=1)
    (number,) = stage.submit(PYTHON)
    life = stage.life_of(number)
    stage.started(number)
    stage.handle(ev.CancelRequested(token=5, tasks=(number,)))
    stage.handle(ev.LifeSilent(life=life), ev.LifeConnected(life=life, hello=hello(life), reconnected=True))
    assert stage.task(number).state is TaskState.CANCELLED
