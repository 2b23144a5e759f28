"""The scheduler's rules: the changes and actions that each event causes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.unit.core.scheduler_rig import PYTHON, SETTINGS, SHELL, SchedulerRig, hello
from tmax.core import events as ev
from tmax.core.ledger import IllegalMove
from tmax.core.model import NewTask, TaskState
from tmax.core.scheduler import Scheduler
from tmax.core.state import KILL_MARGIN_S
from tmax_pipes.messages import PROTOCOL, Done, Go, Holding, Recall, Recalled, Report, Run, Started, Stop, Stored


def test_readiness_needs_a_no_op_back_from_every_worker() -> None:
    rig = SchedulerRig(workers=2, ready=False)
    assert [start.worker for start in rig.all(ev.StartLife)] == ["w1", "w2"]
    rig.handle(ev.LifeConnected(life=1, hello=hello(1), reconnected=True))
    assert [type(message) for message in rig.sent_to(1)] == [Run]
    assert rig.sent_to(1)[0].task == 0
    rig.greet(2)
    assert not rig.all(ev.SwarmReady)
    rig.report(1, Done(0, 1, Report()))
    assert rig.one(ev.SwarmReady)
    assert rig.sent_to(1) == [Stored(((0, 1),))]


def test_the_pool_is_filled_after_readiness_and_taken_by_renaming() -> None:
    rig = SchedulerRig(workers=1, pool=1)
    spare = next(life for life in rig.state.roster.lives.values() if life.pooled)
    rig.die(1)
    assert rig.one(ev.NameLife) == ev.NameLife(life=spare.id, worker="w1")
    assert rig.one(ev.StartLife).worker.startswith("pool-")


def test_accept_and_first_lease_share_a_transaction() -> None:
    rig = SchedulerRig()
    (number,) = rig.submit(PYTHON)
    (row,) = rig.turn.changes.new_tasks
    assert (row.id, row.state, row.attempt) == (number, TaskState.SENT, 1)
    assert rig.turn.changes.tasks == ()


def test_a_second_submit_with_the_same_request_is_the_same_task() -> None:
    rig = SchedulerRig()
    (first,) = rig.submit(PYTHON, request_id="r")
    assert rig.submit(PYTHON, request_id="r") == (first,)
    rig.done(first)
    rig.handle(ev.Submitted(token=1, tasks=(NewTask(job=PYTHON, request_id="r"),), known={"r": first}))
    assert rig.one(ev.Accepted).ids == (first,)


def test_shell_runs_only_after_its_start_is_recorded() -> None:
    rig = SchedulerRig()
    (number,) = rig.submit(SHELL)
    rig.started(number)
    assert [task.state for task in rig.turn.changes.tasks] == [TaskState.RUNNING]
    assert rig.sent_to(rig.life_of(number)) == [Go(number, 1)]


def test_python_starts_without_go_and_without_a_write() -> None:
    rig = SchedulerRig()
    (number,) = rig.submit(PYTHON)
    rig.started(number)
    assert not rig.turn.changes
    assert rig.task(number).state is TaskState.RUNNING


def test_a_late_result_is_acknowledged_and_not_recorded() -> None:
    rig = SchedulerRig()
    (number,) = rig.submit(PYTHON)
    life = rig.life_of(number)
    rig.report(life, Done(number, 7, Report()))
    assert rig.sent_to(life) == [Stored(((number, 7),))]
    assert rig.task(number).state is TaskState.SENT
    assert not rig.turn.changes


def test_death_charges_the_started_one_and_returns_the_others_to_run_alone() -> None:
    rig = SchedulerRig(workers=1)
    (warm,) = rig.submit(PYTHON)
    rig.done(warm)
    numbers = rig.submit(PYTHON, PYTHON, PYTHON)
    life = rig.life_of(numbers[0])
    rig.started(numbers[0])
    rig.die(life)
    assert [len(rig.task(number).crashes) for number in numbers] == [1, 0, 0]
    assert all(rig.task(number).solo for number in numbers)
    rig.greet_all()
    assert [rig.task(number).state for number in numbers] == [TaskState.SENT, TaskState.READY, TaskState.READY]
    assert rig.task(numbers[0]).attempt == 2


def test_a_poison_task_is_dead_after_its_deliveries_even_if_it_never_sends_started() -> None:
    rig = SchedulerRig(workers=1)
    (number,) = rig.submit(PYTHON)
    for _ in range(3):
        rig.die(rig.life_of(number))
        rig.greet_all()
        rig.handle(pass_s=60.0)
        rig.greet_all()
    assert rig.task(number).state is TaskState.DEAD
    assert [crash.signal for crash in rig.task(number).crashes] == [9, 9, 9]


def test_a_started_shell_task_is_interrupted_and_one_only_sent_goes_back() -> None:
    rig = SchedulerRig(workers=1)
    (warm,) = rig.submit(PYTHON)
    rig.done(warm)
    first, second = rig.submit(SHELL, SHELL)
    rig.started(first)
    rig.die(rig.life_of(first))
    assert rig.task(first).state is TaskState.INTERRUPTED
    assert rig.task(second).state is TaskState.READY


def test_no_task_is_charged_when_the_whole_swarm_ended() -> None:
    for kind, state in ((PYTHON, TaskState.READY), (SHELL, TaskState.INTERRUPTED)):
        rig = SchedulerRig(workers=1)
        (number,) = rig.submit(kind)
        rig.started(number)
        rig.handle(ev.HoldSet(held=True))
        rig.handle(ev.LifeEnded(life=1, cause="the machine was restarted", whole=True))
        assert rig.task(number).state is state
        assert (rig.task(number).crashes == () and not rig.task(number).solo) or state is TaskState.INTERRUPTED
        assert rig.state.roster.deaths == 0


def test_term_of_one_worker_is_charged() -> None:
    rig = SchedulerRig(workers=1)
    (number,) = rig.submit(PYTHON)
    rig.started(number)
    rig.handle(ev.LifeEnded(life=1, cause="killed by SIGTERM", signal=15))
    assert [crash.signal for crash in rig.task(number).crashes] == [15]


def test_deaths_just_before_the_controller_is_ended_belong_to_the_same_shutdown() -> None:
    rig = SchedulerRig(workers=2)
    (old, new) = (rig.submit(PYTHON)[0], rig.submit(PYTHON)[0])
    rig.started(old)
    rig.started(new)
    rig.die(rig.life_of(old))
    rig.handle(pass_s=60.0)
    rig.die(rig.life_of(new))
    rig.submit(PYTHON)
    rig.handle(ev.Stopping(), pass_s=1.0)
    assert (len(rig.task(old).crashes), len(rig.task(new).crashes)) == (1, 0)
    assert rig.turn.changes.tasks[0].id == new, "it is written"
    assert not rig.all(ev.StartLife)
    assert not [action for action in rig.all(ev.SendMessages) if any(isinstance(one, Run) for one in action.messages)]


def test_retries_wait_longer_each_time_and_then_fail() -> None:
    rig = SchedulerRig()
    (number,) = rig.submit(PYTHON, retries=2)
    pauses = []
    for _ in range(2):
        rig.failed(number)
        assert rig.task(number).state is TaskState.WAITING
        assert rig.turn.wake_at is not None
        pauses.append(rig.turn.wake_at - rig.now)
        rig.handle(pass_s=pauses[-1])
    rig.failed(number)
    assert rig.task(number).state is TaskState.FAILED
    assert pauses == pytest.approx([0.5, 1.0])


@pytest.mark.parametrize("kind", ["notfound", "refused", "unpicklable"])
def test_failures_that_a_retry_cannot_repair_are_not_retried(kind: str) -> None:
    rig = SchedulerRig()
    (number,) = rig.submit(PYTHON, retries=5)
    rig.failed(number, kind)
    assert rig.task(number).state is TaskState.FAILED


def test_cancel_of_a_queued_a_running_and_an_unknown_task() -> None:
    rig = SchedulerRig(workers=1)
    first, second = rig.submit(PYTHON, PYTHON)
    rig.started(first)
    rig.handle(ev.CancelRequested(token=5, tasks=(first, second, 99)))
    assert rig.one(ev.CancelAnswered).results == ((first, "ending"), (second, "cancelled"), (99, "unknown"))
    assert rig.sent_to(rig.life_of(first)) == [Stop(first, 1, "cancel", 10.0)]
    rig.failed(first, "cancelled")
    assert rig.task(first).state is TaskState.CANCELLED


def test_a_task_that_ignores_its_cancel_costs_its_worker() -> None:
    rig = SchedulerRig(workers=1)
    (number,) = rig.submit(PYTHON, grace_s=1.0)
    rig.started(number)
    life = rig.life_of(number)
    rig.handle(ev.CancelRequested(token=5, tasks=(number,)))
    rig.handle(pass_s=7.0)
    assert rig.one(ev.KillLife).life == life
    rig.die(life)
    assert rig.task(number).state is TaskState.CANCELLED


def test_a_task_over_its_time_is_failed_by_the_controller_when_the_worker_cannot() -> None:
    rig = SchedulerRig(workers=1)
    (number,) = rig.submit(PYTHON, timeout_s=2.0, grace_s=1.0)
    rig.started(number)
    life = rig.life_of(number)
    rig.handle(pass_s=9.0)
    assert rig.one(ev.KillLife).why == "timeout"
    rig.die(life)
    assert rig.task(number).outcome.failure.kind == "timeout"


def test_higher_priority_goes_first_and_age_wins_in_the_end() -> None:
    rig = SchedulerRig(workers=1)
    (busy,) = rig.submit(PYTHON)
    (low,) = rig.submit(PYTHON, priority="low")
    rig.now += 20 * 3600
    (late,) = rig.submit(PYTHON, priority="normal")
    (high,) = rig.submit(PYTHON, priority="critical")
    order = []
    for _ in range(3):
        rig.done(busy, duration_s=10.0)
        busy = next(number for number in (low, late, high) if rig.task(number).state is TaskState.SENT)
        order.append(busy)
    assert order == [high, low, late]


def test_work_is_sent_ahead_only_when_it_is_short() -> None:
    rig = SchedulerRig(workers=1)
    numbers = rig.submit(*[PYTHON] * 20)
    assert len(rig.state.roster.lives[1].held) == 1
    rig.done(numbers[0], duration_s=0.0001)
    assert len(rig.state.roster.lives[1].held) == 8


def test_prefetched_work_is_recalled_for_an_idle_worker() -> None:
    rig = SchedulerRig(workers=2)
    warm = rig.submit(PYTHON, PYTHON)
    for number in warm:
        rig.done(number, duration_s=0.0001)
    numbers = rig.submit(*[PYTHON] * 8)
    idle_life = rig.life_of(numbers[1])
    rig.started(numbers[0])
    for number in numbers[1::2]:
        rig.done(number, duration_s=0.0001)
    rig.handle(pass_s=0.05)
    busy_life = rig.life_of(numbers[0])
    asked = [message.task for message in rig.sent_to(busy_life) if isinstance(message, Recall)]
    assert asked
    assert numbers[0] not in asked
    rig.report(busy_life, Recalled(asked[0], 1))
    assert rig.life_of(asked[0]) == idle_life
    assert rig.task(asked[0]).attempt == 2


def test_a_stale_worker_leaves_and_its_task_runs_elsewhere() -> None:
    rig = SchedulerRig(workers=1, pool=1)
    (number,) = rig.submit(PYTHON)
    life = rig.life_of(number)
    rig.report(life, Recalled(number, 1, "stale"))
    assert Stop(why="drain", grace_s=1.0) in rig.sent_to(life)
    assert [(action.life, action.worker) for action in rig.all(ev.NameLife)] == [(life, f"old-{life}"), (2, "w1")]
    assert rig.life_of(number) == 2, "the warm worker takes the place at once"
    rig.handle(ev.LifeEnded(life=life, cause="exited with 0", exit_code=0))
    assert rig.task(number).state is TaskState.SENT
    assert rig.state.roster.deaths == 0


def test_a_new_connection_makes_both_ends_agree() -> None:
    rig = SchedulerRig(workers=1)
    (warm,) = rig.submit(PYTHON)
    rig.done(warm, duration_s=0.0001)
    kept, lost = rig.submit(PYTHON, PYTHON)
    rig.handle(ev.LifeSilent(life=1))
    rig.handle(ev.LifeConnected(life=1, hello=hello(1, [Holding(kept, 1, "running"), Holding(77, 1, "queued")]), reconnected=True))
    said = rig.sent_to(1)
    assert [message.task for message in said if isinstance(message, Run)] == [lost]
    assert [message.task for message in said if isinstance(message, Stop)] == [77]


def test_a_worker_of_another_version_finishes_what_it_holds_and_is_sent_no_task_again() -> None:
    rig = SchedulerRig(workers=1)
    (warm,) = rig.submit(PYTHON)
    rig.done(warm, duration_s=0.0001)
    kept, lost = rig.submit(PYTHON, PYTHON)
    rig.handle(ev.LifeSilent(life=1))
    old = replace(hello(1, [Holding(kept, 1, "running")]), protocol=PROTOCOL - 1)
    rig.handle(ev.LifeConnected(life=1, hello=old, reconnected=True))
    assert [type(message) for message in rig.sent_to(1)] == [Stop]
    assert (rig.task(kept).state, rig.task(lost).state) == (TaskState.SENT, TaskState.READY)
    rig.done(kept)
    assert rig.task(kept).state is TaskState.DONE


def test_silence_never_ends_a_worker_that_holds_work() -> None:
    rig = SchedulerRig(workers=2)
    (number,) = rig.submit(PYTHON)
    rig.handle(ev.LifeSilent(life=rig.life_of(number)))
    for _ in range(5):
        rig.handle(pass_s=59.0)
        assert not rig.all(ev.KillLife)
    assert rig.task(number).state is TaskState.SENT


def test_a_worker_that_is_silent_and_holds_nothing_is_replaced() -> None:
    rig = SchedulerRig(workers=1)
    rig.handle(ev.LifeSilent(life=1))
    rig.handle(pass_s=59.0)
    assert not rig.all(ev.KillLife)
    rig.handle(pass_s=2.0)
    assert rig.one(ev.KillLife).why == "silent"


def test_a_new_controller_does_not_wait_for_a_silent_worker_that_has_a_task() -> None:
    rig = SchedulerRig(workers=1)
    (number,) = rig.submit(PYTHON)
    lives = [life.record for life in rig.state.roster.lives.values()]
    again = Scheduler(SETTINGS, workers=1, pool=0, tasks=[rig.task(number)], lives=lives, next_task=2, next_life=2, now=rig.now)
    turn = again.handle([ev.Tick()], rig.now, 0.0)
    assert [type(action) for action in turn.actions] == [ev.SwarmReady]


def test_a_new_controller_takes_over_what_runs() -> None:
    rig = SchedulerRig(workers=1)
    (number,) = rig.submit(SHELL)
    rig.started(number)
    lives = [life.record for life in rig.state.roster.lives.values()]
    again = Scheduler(SETTINGS, workers=1, pool=0, tasks=[rig.task(number)], lives=lives, next_task=2, next_life=2, now=rig.now)
    again.check_invariants()
    turn = again.handle([ev.LifeConnected(life=1, hello=hello(1, [Holding(number, 1, "running")]), reconnected=True)], rig.now, 0.0)
    again.check_invariants()
    assert not [action for action in turn.actions if isinstance(action, ev.StartLife)]
    assert not [
        message for action in turn.actions if isinstance(action, ev.SendMessages) for message in action.messages if isinstance(message, Run)
    ]
    turn = again.handle([ev.LifeMessage(life=1, message=Done(number, 1, Report()))], rig.now, 0.0)
    assert turn.changes.tasks[0].state is TaskState.DONE


def test_a_lease_of_a_missing_worker_does_not_survive_a_restart() -> None:
    rig = SchedulerRig(workers=1)
    sent, started = rig.submit(PYTHON)[0], 0
    rig.done(sent)
    (started,) = rig.submit(SHELL)
    rig.started(started)
    again = Scheduler(SETTINGS, workers=1, pool=0, tasks=[rig.task(started)], next_task=9, now=rig.now)
    turn = again.handle([ev.Tick()], rig.now, 0.0)
    assert [task.state for task in turn.changes.tasks] == [TaskState.INTERRUPTED]


def test_down_gives_back_what_has_not_started_and_waits_for_what_runs() -> None:
    rig = SchedulerRig(workers=1)
    first, second = rig.submit(PYTHON, PYTHON)
    rig.started(first)
    rig.handle(ev.Leaving(now=False))
    assert rig.sent_to(1) == [Stop(why="drain", grace_s=1.0)]
    rig.done(first)
    assert not rig.all(ev.SwarmEmpty)
    rig.handle(ev.LifeEnded(life=1, cause="exited with 0", exit_code=0))
    assert rig.one(ev.SwarmEmpty)
    assert rig.task(second).state is TaskState.READY
    assert not rig.all(ev.StartLife)


def test_down_now_keeps_what_may_run_again() -> None:
    rig = SchedulerRig(workers=2)
    (python,) = rig.submit(PYTHON)
    (shell,) = rig.submit(SHELL)
    rig.started(python)
    rig.started(shell)
    rig.handle(ev.Leaving(now=True))
    rig.failed(python, "cancelled")
    rig.failed(shell, "cancelled")
    assert rig.task(python).state is TaskState.READY
    assert rig.task(shell).state is TaskState.INTERRUPTED
    outcome = rig.task(shell).outcome
    assert outcome is not None and outcome.failure is not None and "taken down" in outcome.failure.message


def test_down_now_keeps_what_its_worker_does_not_report_any_more() -> None:
    rig = SchedulerRig(workers=2)
    (python,) = rig.submit(PYTHON)
    (shell,) = rig.submit(SHELL)
    rig.started(python)
    rig.started(shell)
    lives = rig.life_of(python), rig.life_of(shell)
    rig.handle(ev.Leaving(now=True))
    rig.handle(*(ev.LifeEnded(life=life, cause="exited with 0", exit_code=0) for life in lives))
    assert (rig.task(python).state, rig.task(python).crashes) == (TaskState.READY, ())
    assert (rig.task(shell).state, rig.task(shell).crashes) == (TaskState.INTERRUPTED, ())


def test_workers_that_die_before_they_are_ready_are_started_ever_later_and_then_not_at_all() -> None:
    rig = SchedulerRig(workers=1, ready=False)
    delays = []
    for life in range(1, 5):
        rig.die(life)
        assert rig.turn.wake_at is not None
        delays.append(rig.turn.wake_at - rig.now)
        rig.handle(pass_s=delays[-1])
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8])
    rig.die(5)
    rig.handle(pass_s=100.0)
    assert rig.state.roster.gave_up
    assert not rig.all(ev.StartLife)
    rig.handle(ev.HoldSet(held=False))
    assert rig.all(ev.StartLife)


def test_held_tasks_are_accepted_and_not_sent() -> None:
    rig = SchedulerRig()
    rig.handle(ev.HoldSet(held=True))
    (number,) = rig.submit(PYTHON)
    assert rig.task(number).state is TaskState.READY
    rig.handle(ev.HoldSet(held=False))
    assert rig.task(number).state is TaskState.SENT


def test_a_lost_session_retires_its_worker() -> None:
    rig = SchedulerRig(workers=1)
    rig.handle(ev.LifePaneless(life=1))
    assert rig.sent_to(1) == [Stop(why="drain", grace_s=1.0)]


def test_an_illegal_move_lists_the_last_moves() -> None:
    rig = SchedulerRig()
    (number,) = rig.submit(PYTHON)
    with pytest.raises(IllegalMove, match="ready->sent"):
        rig.state.ledger.move(rig.task(number), TaskState.SENT)


def test_started_with_a_group_is_written_so_that_the_group_can_be_ended_later() -> None:
    rig = SchedulerRig()
    (number,) = rig.submit(SHELL)
    rig.started(number)
    life = rig.life_of(number)
    rig.report(life, Started(number, 1, group=4242))
    assert rig.turn.changes.tasks[0].lease.group == 4242
    assert rig.sent_to(life) == []


def test_a_retiring_worker_has_a_moment_to_end_after_its_last_task() -> None:
    rig = SchedulerRig(workers=1)
    first, second = rig.submit(PYTHON, PYTHON)
    rig.started(first)
    rig.handle(ev.LifePaneless(life=1))
    rig.report(1, Recalled(second, rig.task(second).attempt))
    rig.handle(pass_s=3600.0)
    assert not rig.all(ev.KillLife), "it may finish what it runs"
    rig.done(first)
    rig.handle(pass_s=KILL_MARGIN_S - 0.1)
    assert not rig.all(ev.KillLife)
    assert rig.turn.wake_at is not None
    rig.handle(pass_s=0.2)
    assert rig.one(ev.KillLife) == ev.KillLife(life=1, why="drain")
