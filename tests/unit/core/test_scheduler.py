"""The rules, one by one: what each event changes and orders."""

from __future__ import annotations

import pytest

from tests.unit.core.stage import PYTHON, SETTINGS, SHELL, Stage, hello
from tmax.core import events as ev
from tmax.core.ledger import IllegalMove
from tmax.core.model import NewTask, TaskState
from tmax.core.scheduler import Scheduler
from tmax.core.state import KILL_MARGIN_S
from tmax_pipes.messages import Done, Go, Holding, Recall, Recalled, Report, Run, Started, Stop, Stored


def test_readiness_needs_a_no_op_back_from_every_worker() -> None:
    stage = Stage(workers=2, ready=False)
    assert [start.worker for start in stage.all(ev.StartLife)] == ["w1", "w2"]
    stage.handle(ev.LifeConnected(life=1, hello=hello(1), reconnected=True))
    assert [type(message) for message in stage.said(1)] == [Run]
    assert stage.said(1)[0].task == 0
    stage.greet(2)
    assert not stage.all(ev.SwarmReady)
    stage.say(1, Done(0, 1, Report()))
    assert stage.one(ev.SwarmReady)
    assert stage.said(1) == [Stored(((0, 1),))]


def test_the_pool_is_filled_after_readiness_and_taken_by_renaming() -> None:
    stage = Stage(workers=1, pool=1)
    spare = next(life for life in stage.state.roster.lives.values() if life.pooled)
    stage.die(1)
    assert stage.one(ev.NameLife) == ev.NameLife(life=spare.id, worker="w1")
    assert stage.one(ev.StartLife).worker.startswith("pool-")


def test_accept_and_first_lease_share_a_transaction() -> None:
    stage = Stage()
    (number,) = stage.submit(PYTHON)
    (row,) = stage.turn.changes.new_tasks
    assert (row.id, row.state, row.attempt) == (number, TaskState.SENT, 1)
    assert stage.turn.changes.tasks == ()


def test_a_second_submit_with_the_same_request_is_the_same_task() -> None:
    stage = Stage()
    (first,) = stage.submit(PYTHON, request_id="r")
    assert stage.submit(PYTHON, request_id="r") == (first,)
    stage.done(first)
    stage.handle(ev.Submitted(token=1, tasks=(NewTask(job=PYTHON, request_id="r"),), known={"r": first}))
    assert stage.one(ev.Accepted).ids == (first,)


def test_shell_runs_only_after_its_start_is_recorded() -> None:
    stage = Stage()
    (number,) = stage.submit(SHELL)
    stage.started(number)
    assert [task.state for task in stage.turn.changes.tasks] == [TaskState.RUNNING]
    assert stage.said(stage.life_of(number)) == [Go(number, 1)]


def test_python_starts_without_asking_and_without_a_write() -> None:
    stage = Stage()
    (number,) = stage.submit(PYTHON)
    stage.started(number)
    assert not stage.turn.changes
    assert stage.task(number).state is TaskState.RUNNING


def test_a_late_result_is_acknowledged_and_not_recorded() -> None:
    stage = Stage()
    (number,) = stage.submit(PYTHON)
    life = stage.life_of(number)
    stage.say(life, Done(number, 7, Report()))
    assert stage.said(life) == [Stored(((number, 7),))]
    assert stage.task(number).state is TaskState.SENT
    assert stage.state.late_duplicates == 1


def test_death_charges_the_started_one_and_returns_the_others_to_run_alone() -> None:
    stage = Stage(workers=1)
    (warm,) = stage.submit(PYTHON)
    stage.done(warm)
    numbers = stage.submit(PYTHON, PYTHON, PYTHON)
    life = stage.life_of(numbers[0])
    stage.started(numbers[0])
    stage.die(life)
    assert [len(stage.task(number).crashes) for number in numbers] == [1, 0, 0]
    assert all(stage.task(number).solo for number in numbers)
    stage.greet_all()
    assert [stage.task(number).state for number in numbers] == [TaskState.SENT, TaskState.READY, TaskState.READY]
    assert stage.task(numbers[0]).attempt == 2


def test_a_poison_task_is_dead_after_its_deliveries_even_if_it_never_says_started() -> None:
    stage = Stage(workers=1)
    (number,) = stage.submit(PYTHON)
    for _ in range(3):
        stage.die(stage.life_of(number))
        stage.greet_all()
        stage.handle(pass_s=60.0)
        stage.greet_all()
    assert stage.task(number).state is TaskState.DEAD
    assert [crash.signal for crash in stage.task(number).crashes] == [9, 9, 9]


def test_a_started_shell_task_is_interrupted_and_one_only_sent_goes_back() -> None:
    stage = Stage(workers=1)
    (warm,) = stage.submit(PYTHON)
    stage.done(warm)
    first, second = stage.submit(SHELL, SHELL)
    stage.started(first)
    stage.die(stage.life_of(first))
    assert stage.task(first).state is TaskState.INTERRUPTED
    assert stage.task(second).state is TaskState.READY


def test_nobody_is_charged_when_the_whole_swarm_ended() -> None:
    for kind, state in ((PYTHON, TaskState.READY), (SHELL, TaskState.INTERRUPTED)):
        stage = Stage(workers=1)
        (number,) = stage.submit(kind)
        stage.started(number)
        stage.handle(ev.HoldSet(held=True))
        stage.handle(ev.LifeEnded(life=1, cause="the machine was restarted", whole=True))
        assert stage.task(number).state is state
        assert (stage.task(number).crashes == () and not stage.task(number).solo) or state is TaskState.INTERRUPTED
        assert stage.state.roster.deaths == 0


def test_term_of_one_worker_is_charged() -> None:
    stage = Stage(workers=1)
    (number,) = stage.submit(PYTHON)
    stage.started(number)
    stage.handle(ev.LifeEnded(life=1, cause="killed by SIGTERM", signal=15))
    assert [crash.signal for crash in stage.task(number).crashes] == [15]


def test_deaths_just_before_the_controller_is_ended_belong_to_the_same_shutdown() -> None:
    stage = Stage(workers=2)
    (old, new) = (stage.submit(PYTHON)[0], stage.submit(PYTHON)[0])
    stage.started(old)
    stage.started(new)
    stage.die(stage.life_of(old))
    stage.handle(pass_s=60.0)
    stage.die(stage.life_of(new))
    stage.submit(PYTHON)
    stage.handle(ev.Stopping(), pass_s=1.0)
    assert (len(stage.task(old).crashes), len(stage.task(new).crashes)) == (1, 0)
    assert stage.turn.changes.tasks[0].id == new, "it is written"
    assert not stage.all(ev.StartLife)
    assert not [action for action in stage.all(ev.SendMessages) if any(isinstance(one, Run) for one in action.messages)]


def test_retries_wait_longer_each_time_and_then_fail() -> None:
    stage = Stage()
    (number,) = stage.submit(PYTHON, retries=2)
    pauses = []
    for _ in range(2):
        stage.failed(number)
        assert stage.task(number).state is TaskState.WAITING
        assert stage.turn.wake_at is not None
        pauses.append(stage.turn.wake_at - stage.now)
        stage.handle(pass_s=pauses[-1])
    stage.failed(number)
    assert stage.task(number).state is TaskState.FAILED
    assert pauses == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize("kind", ["notfound", "refused", "unpicklable"])
def test_what_another_try_cannot_mend_is_not_retried(kind: str) -> None:
    stage = Stage()
    (number,) = stage.submit(PYTHON, retries=5)
    stage.failed(number, kind)
    assert stage.task(number).state is TaskState.FAILED


def test_cancel_of_a_queued_a_running_and_an_unknown_task() -> None:
    stage = Stage(workers=1)
    first, second = stage.submit(PYTHON, PYTHON)
    stage.started(first)
    stage.handle(ev.CancelRequested(token=5, tasks=(first, second, 99)))
    assert stage.one(ev.CancelAnswered).results == ((first, "ending"), (second, "cancelled"), (99, "unknown"))
    assert stage.said(stage.life_of(first)) == [Stop(first, 1, "cancel", 10.0)]
    stage.failed(first, "cancelled")
    assert stage.task(first).state is TaskState.CANCELLED


def test_a_task_that_ignores_its_cancel_costs_its_worker() -> None:
    stage = Stage(workers=1)
    (number,) = stage.submit(PYTHON, grace_s=1.0)
    stage.started(number)
    life = stage.life_of(number)
    stage.handle(ev.CancelRequested(token=5, tasks=(number,)))
    stage.handle(pass_s=7.0)
    assert stage.one(ev.KillLife).life == life
    stage.die(life)
    assert stage.task(number).state is TaskState.CANCELLED


def test_a_task_over_its_time_is_failed_by_the_controller_when_the_worker_cannot() -> None:
    stage = Stage(workers=1)
    (number,) = stage.submit(PYTHON, timeout_s=2.0, grace_s=1.0)
    stage.started(number)
    life = stage.life_of(number)
    stage.handle(pass_s=9.0)
    assert stage.one(ev.KillLife).why == "timeout"
    stage.die(life)
    assert stage.task(number).outcome.failure.kind == "timeout"


def test_higher_priority_goes_first_and_age_wins_in_the_end() -> None:
    stage = Stage(workers=1)
    (busy,) = stage.submit(PYTHON)
    (low,) = stage.submit(PYTHON, priority="low")
    stage.now += 20 * 3600
    (late,) = stage.submit(PYTHON, priority="normal")
    (high,) = stage.submit(PYTHON, priority="critical")
    order = []
    for _ in range(3):
        stage.done(busy, duration_s=10.0)
        busy = next(number for number in (low, late, high) if stage.task(number).state is TaskState.SENT)
        order.append(busy)
    assert order == [high, low, late]


def test_work_is_sent_ahead_only_when_it_is_short() -> None:
    stage = Stage(workers=1)
    numbers = stage.submit(*[PYTHON] * 20)
    assert len(stage.state.roster.lives[1].held) == 1
    stage.done(numbers[0], duration_s=0.0001)
    assert len(stage.state.roster.lives[1].held) == 8


def test_prefetched_work_is_asked_back_for_an_idle_worker() -> None:
    stage = Stage(workers=2)
    warm = stage.submit(PYTHON, PYTHON)
    for number in warm:
        stage.done(number, duration_s=0.0001)
    numbers = stage.submit(*[PYTHON] * 8)
    idle_life = stage.life_of(numbers[1])
    stage.started(numbers[0])
    for number in numbers[1::2]:
        stage.done(number, duration_s=0.0001)
    stage.handle(pass_s=0.05)
    busy_life = stage.life_of(numbers[0])
    asked = [message.task for message in stage.said(busy_life) if isinstance(message, Recall)]
    assert asked
    assert numbers[0] not in asked
    stage.say(busy_life, Recalled(asked[0], 1))
    assert stage.life_of(asked[0]) == idle_life
    assert stage.task(asked[0]).attempt == 2


def test_a_stale_worker_leaves_and_its_task_runs_elsewhere() -> None:
    stage = Stage(workers=1, pool=1)
    (number,) = stage.submit(PYTHON)
    life = stage.life_of(number)
    stage.say(life, Recalled(number, 1, "stale"))
    assert Stop(why="drain", grace_s=1.0) in stage.said(life)
    assert [(action.life, action.worker) for action in stage.all(ev.NameLife)] == [(life, f"old-{life}"), (2, "w1")]
    assert stage.life_of(number) == 2, "the warm worker takes the place at once"
    stage.handle(ev.LifeEnded(life=life, cause="exited with 0", exit_code=0))
    assert stage.task(number).state is TaskState.SENT
    assert stage.state.roster.deaths == 0


def test_a_new_connection_brings_both_ends_to_one_story() -> None:
    stage = Stage(workers=1)
    (warm,) = stage.submit(PYTHON)
    stage.done(warm, duration_s=0.0001)
    kept, lost = stage.submit(PYTHON, PYTHON)
    stage.handle(ev.LifeSilent(life=1))
    stage.handle(ev.LifeConnected(life=1, hello=hello(1, [Holding(kept, 1, "running"), Holding(77, 1, "queued")]), reconnected=True))
    said = stage.said(1)
    assert [message.task for message in said if isinstance(message, Run)] == [lost]
    assert [message.task for message in said if isinstance(message, Stop)] == [77]


def test_silence_never_ends_a_worker_that_holds_work() -> None:
    stage = Stage(workers=2)
    (number,) = stage.submit(PYTHON)
    stage.handle(ev.LifeSilent(life=stage.life_of(number)))
    for _ in range(5):
        stage.handle(pass_s=59.0)
        assert not stage.all(ev.KillLife)
    assert stage.task(number).state is TaskState.SENT


def test_a_worker_that_is_silent_and_holds_nothing_is_replaced() -> None:
    stage = Stage(workers=1)
    stage.handle(ev.LifeSilent(life=1))
    stage.handle(pass_s=59.0)
    assert not stage.all(ev.KillLife)
    stage.handle(pass_s=2.0)
    assert stage.one(ev.KillLife).why == "silent"


def test_a_new_controller_does_not_wait_for_a_worker_that_works_in_silence() -> None:
    stage = Stage(workers=1)
    (number,) = stage.submit(PYTHON)
    lives = [life.record for life in stage.state.roster.lives.values()]
    again = Scheduler(SETTINGS, workers=1, pool=0, tasks=[stage.task(number)], lives=lives, next_task=2, next_life=2, now=stage.now)
    turn = again.handle([ev.Tick()], stage.now, 0.0)
    assert [type(action) for action in turn.actions] == [ev.SwarmReady]


def test_a_new_controller_takes_over_what_runs() -> None:
    stage = Stage(workers=1)
    (number,) = stage.submit(SHELL)
    stage.started(number)
    lives = [life.record for life in stage.state.roster.lives.values()]
    again = Scheduler(SETTINGS, workers=1, pool=0, tasks=[stage.task(number)], lives=lives, next_task=2, next_life=2, now=stage.now)
    again.check_invariants()
    turn = again.handle([ev.LifeConnected(life=1, hello=hello(1, [Holding(number, 1, "running")]), reconnected=True)], stage.now, 0.0)
    again.check_invariants()
    assert not [action for action in turn.actions if isinstance(action, ev.StartLife)]
    assert not [
        message for action in turn.actions if isinstance(action, ev.SendMessages) for message in action.messages if isinstance(message, Run)
    ]
    turn = again.handle([ev.LifeMessage(life=1, message=Done(number, 1, Report()))], stage.now, 0.0)
    assert turn.changes.tasks[0].state is TaskState.DONE


def test_a_lease_of_nobody_does_not_survive_a_restart() -> None:
    stage = Stage(workers=1)
    sent, started = stage.submit(PYTHON)[0], 0
    stage.done(sent)
    (started,) = stage.submit(SHELL)
    stage.started(started)
    again = Scheduler(SETTINGS, workers=1, pool=0, tasks=[stage.task(started)], next_task=9, now=stage.now)
    turn = again.handle([ev.Tick()], stage.now, 0.0)
    assert [task.state for task in turn.changes.tasks] == [TaskState.INTERRUPTED]


def test_down_gives_back_what_has_not_started_and_waits_for_what_runs() -> None:
    stage = Stage(workers=1)
    first, second = stage.submit(PYTHON, PYTHON)
    stage.started(first)
    stage.handle(ev.Leaving(now=False))
    assert stage.said(1) == [Stop(why="drain", grace_s=1.0)]
    stage.done(first)
    assert not stage.all(ev.SwarmEmpty)
    stage.handle(ev.LifeEnded(life=1, cause="exited with 0", exit_code=0))
    assert stage.one(ev.SwarmEmpty)
    assert stage.task(second).state is TaskState.READY
    assert not stage.all(ev.StartLife)


def test_down_now_keeps_what_may_run_again() -> None:
    stage = Stage(workers=2)
    (python,) = stage.submit(PYTHON)
    (shell,) = stage.submit(SHELL)
    stage.started(python)
    stage.started(shell)
    stage.handle(ev.Leaving(now=True))
    stage.failed(python, "cancelled")
    stage.failed(shell, "cancelled")
    assert stage.task(python).state is TaskState.READY
    assert stage.task(shell).state is TaskState.INTERRUPTED
    outcome = stage.task(shell).outcome
    assert outcome is not None and outcome.failure is not None and "taken down" in outcome.failure.message


def test_down_now_keeps_what_its_worker_does_not_report_any_more() -> None:
    stage = Stage(workers=2)
    (python,) = stage.submit(PYTHON)
    (shell,) = stage.submit(SHELL)
    stage.started(python)
    stage.started(shell)
    lives = stage.life_of(python), stage.life_of(shell)
    stage.handle(ev.Leaving(now=True))
    stage.handle(*(ev.LifeEnded(life=life, cause="exited with 0", exit_code=0) for life in lives))
    assert (stage.task(python).state, stage.task(python).crashes) == (TaskState.READY, ())
    assert (stage.task(shell).state, stage.task(shell).crashes) == (TaskState.INTERRUPTED, ())


def test_workers_that_die_before_they_are_ready_are_started_ever_later_and_then_not_at_all() -> None:
    stage = Stage(workers=1, ready=False)
    delays = []
    for life in range(1, 5):
        stage.die(life)
        assert stage.turn.wake_at is not None
        delays.append(stage.turn.wake_at - stage.now)
        stage.handle(pass_s=delays[-1])
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8])
    stage.die(5)
    stage.handle(pass_s=100.0)
    assert stage.state.roster.gave_up
    assert not stage.all(ev.StartLife)
    stage.handle(ev.HoldSet(held=False))
    assert stage.all(ev.StartLife)


def test_held_tasks_are_accepted_and_not_sent() -> None:
    stage = Stage()
    stage.handle(ev.HoldSet(held=True))
    (number,) = stage.submit(PYTHON)
    assert stage.task(number).state is TaskState.READY
    stage.handle(ev.HoldSet(held=False))
    assert stage.task(number).state is TaskState.SENT


def test_a_lost_session_retires_its_worker() -> None:
    stage = Stage(workers=1)
    stage.handle(ev.LifePaneless(life=1))
    assert stage.said(1) == [Stop(why="drain", grace_s=1.0)]


def test_an_illegal_move_tells_the_story() -> None:
    stage = Stage()
    (number,) = stage.submit(PYTHON)
    with pytest.raises(IllegalMove, match="ready->sent"):
        stage.state.ledger.move(stage.task(number), TaskState.SENT)


def test_started_with_a_group_is_written_so_that_the_group_can_be_ended_later() -> None:
    stage = Stage()
    (number,) = stage.submit(SHELL)
    stage.started(number)
    life = stage.life_of(number)
    stage.say(life, Started(number, 1, group=4242))
    assert stage.turn.changes.tasks[0].lease.group == 4242
    assert stage.said(life) == []


def test_a_worker_that_was_asked_to_leave_has_a_moment_for_it_after_its_last_task() -> None:
    stage = Stage(workers=1)
    first, second = stage.submit(PYTHON, PYTHON)
    stage.started(first)
    stage.handle(ev.LifePaneless(life=1))
    stage.say(1, Recalled(second, stage.task(second).attempt))
    stage.handle(pass_s=3600.0)
    assert not stage.all(ev.KillLife), "it may finish what it runs"
    stage.done(first)
    stage.handle(pass_s=KILL_MARGIN_S - 0.1)
    assert not stage.all(ev.KillLife)
    assert stage.turn.wake_at is not None
    stage.handle(pass_s=0.2)
    assert stage.one(ev.KillLife) == ev.KillLife(life=1, why="drain")
