"""Cancelling tasks unless they have begun: tasks that have begun keep running, and a cancelled task never runs afterwards."""

from __future__ import annotations

from tests.unit.core.scheduler_rig import PYTHON, SETTINGS, SHELL, SchedulerRig, hello
from tmax.core import events as ev
from tmax.core.model import TaskState
from tmax.core.scheduler import Scheduler
from tmax_pipes.messages import Done, Holding, Recall, Recalled, Report, Started, Stop


def _withdraw(rig: SchedulerRig, *tasks: int) -> tuple[tuple[int, str], ...]:
    """Cancel these tasks unless they have begun."""
    rig.handle(ev.CancelRequested(token=6, tasks=tasks, begun=False))
    return rig.one(ev.CancelAnswered).results


def _ahead() -> tuple[SchedulerRig, int, tuple[int, ...]]:
    """Return a rig whose worker has short tasks: one that it received first, and others that were sent ahead."""
    rig = SchedulerRig(workers=1)
    for _ in range(3):
        (number,) = rig.submit(PYTHON)
        rig.done(number)
    tasks = rig.submit(PYTHON, PYTHON, PYTHON)
    assert [rig.task(number).state for number in tasks] == [TaskState.SENT] * 3
    return rig, rig.life_of(tasks[0]), tasks


def test_what_a_worker_was_given_first_has_begun_for_a_client_that_takes_back() -> None:
    rig, life, (first, second, third) = _ahead()
    assert _withdraw(rig, first, second, third) == ((first, "running"), (second, "ending"), (third, "ending"))
    assert rig.sent_to(life) == [Recall(second, 1), Recall(third, 1)]
    assert not rig.task(first).cancelling


def test_what_is_given_back_to_a_client_is_cancelled_and_what_has_begun_goes_on() -> None:
    rig, life, (first, second, third) = _ahead()
    _withdraw(rig, first, second, third)
    rig.report(life, Done(first, 1, Report()), Started(second, 1, at=1.0), Recalled(third, 1))
    assert rig.task(third).state is TaskState.CANCELLED
    assert rig.task(second).state is TaskState.RUNNING
    rig.die(life)
    assert rig.task(second).state is TaskState.READY, "begun, it is redelivered as any other"


def test_what_was_withdrawn_and_lost_with_its_worker_is_cancelled() -> None:
    rig, life, (first, second, third) = _ahead()
    _withdraw(rig, second)
    rig.die(life)
    assert [rig.task(number).state for number in (first, second, third)] == [TaskState.READY, TaskState.CANCELLED, TaskState.READY]


def test_a_persons_cancel_ends_also_what_was_only_withdrawn() -> None:
    rig, life, (_, second, _) = _ahead()
    _withdraw(rig, second)
    rig.handle(ev.CancelRequested(token=5, tasks=(second,)))
    assert rig.sent_to(life) == [Stop(second, 1, "cancel", 10.0)]
    assert _withdraw(rig, second) == ((second, "ending"),)


def test_a_task_that_waits_for_its_go_is_withdrawn() -> None:
    rig = SchedulerRig(workers=1)
    (number,) = rig.submit(SHELL)
    life = rig.life_of(number)
    assert _withdraw(rig, number) == ((number, "ending"),)
    assert rig.sent_to(life) == [Stop(number, 1, "cancel", 10.0)]
    rig.started(number)
    assert not rig.sent_to(life), "no Go"


def test_a_cancelled_task_gets_no_go_from_the_next_controller() -> None:
    rig = SchedulerRig(workers=1)
    (number,) = rig.submit(SHELL)
    life = rig.life_of(number)
    rig.handle(ev.CancelRequested(token=5, tasks=(number,)))
    rig.started(number)
    tasks, lives = [rig.task(number)], [one.record for one in rig.state.roster.lives.values()]
    again = Scheduler(SETTINGS, workers=1, pool=0, tasks=tasks, lives=lives, next_task=number + 1, next_life=life + 1, now=rig.now)
    greeting = hello(life, holding=(Holding(number, 1, "asked"),))
    turn = again.handle((ev.LifeConnected(life=life, hello=greeting, reconnected=True),), rig.now, rig.now)
    said = [message for action in turn.actions if isinstance(action, ev.SendMessages) for message in action.messages]
    assert said == [Stop(number, 1, "cancel", 10.0)]


def test_a_cancelled_task_does_not_run_again_when_another_tasks_time_costs_its_worker() -> None:
    rig, life, (first, second, _) = _ahead()
    rig.started(first)
    rig.handle(ev.CancelRequested(token=5, tasks=(second,)))
    rig.state.roster.lives[life].killed = "timeout"
    rig.die(life)
    assert rig.task(second).state is TaskState.CANCELLED


def test_a_cancelled_task_that_its_worker_has_lost_is_not_run_again() -> None:
    rig = SchedulerRig(workers=1)
    (number,) = rig.submit(PYTHON)
    life = rig.life_of(number)
    rig.started(number)
    rig.handle(ev.CancelRequested(token=5, tasks=(number,)))
    rig.handle(ev.LifeSilent(life=life), ev.LifeConnected(life=life, hello=hello(life), reconnected=True))
    assert rig.task(number).state is TaskState.CANCELLED
