"""The worker's state machine, event by event."""

from __future__ import annotations

import pytest

from tests.unit.workers.stage import KERNEL, PYTHON, SHELL, WHO, Worker, done, failed, kinds, returned, run
from tmax_pipes.messages import (
    Done,
    Failed,
    Go,
    Hello,
    Holding,
    Recall,
    Recalled,
    Report,
    Started,
    Stop,
    Stored,
    Who,
)
from tmax_workers.phases import DYING_S, AwaitingGo, Dying, Gone, Idle, Running, UnknownTransition
from tmax_workers.worker_events import (
    Begin,
    CancelTask,
    ChildGroup,
    ConnectionDown,
    ExitWorker,
    KillTask,
    PaneCancel,
    PaneLost,
    StaleFound,
    TimeElapsed,
    UsedUp,
)

# -- turns -----------------------------------------------------------------------------------------


def test_a_task_starts_at_once_and_its_result_is_kept_until_stored():
    worker = Worker()
    assert kinds(worker.do(run(1))) == ["Started", "Begin"]
    assert kinds(worker.do(done(1))) == ["Done"]
    assert worker.state.link.results() == ((1, 1),)
    assert worker.do(Stored(((1, 1),))) == []
    assert worker.state.link.results() == ()


def test_tasks_run_one_at_a_time_in_order_and_the_next_begins_with_the_end_of_the_last():
    worker = Worker()
    worker.do(run(1), run(2), run(3))
    assert kinds(worker.do(done(1))) == ["Done", "Started", "Begin"]
    assert worker.state.running == run(2)
    worker.do(done(2))
    assert worker.state.running == run(3)


def test_started_carries_the_time_of_day():
    worker = Worker()
    worker.state.offset_s = 1000.0
    (started,) = worker.says(run(1))
    assert started == Started(1, 1, at=1100.0)


def test_a_task_that_asks_runs_only_on_go_and_those_behind_it_wait():
    worker = Worker()
    assert kinds(worker.do(run(1, needs_go=True), run(2))) == ["Started"]
    assert isinstance(worker.state.phase, AwaitingGo)
    assert worker.do(Go(2, 1)) == [], "a Go for another task starts nothing"
    assert worker.do(Go(1, 2)) == [], "nor does one for another attempt"
    assert kinds(worker.do(Go(1, 1))) == ["Begin"]
    assert worker.do(Go(1, 1)) == [], "said again it is harmless"


@pytest.mark.parametrize("where", ["queued", "asked", "running", "ended"])
def test_the_same_run_again_is_harmless(where: str):
    worker = Worker()
    again = run(1, needs_go=where == "asked")
    if where == "queued":
        worker.do(run(9), again)
    else:
        worker.do(again)
    if where == "ended":
        worker.do(done(1))
    before = worker.state.phase
    said = worker.do(again)
    assert not any(isinstance(one, Begin) for one in said)
    assert worker.state.phase == before
    assert kinds(said) == {"queued": [], "asked": ["Started"], "running": ["Started"], "ended": ["Done"]}[where], "it is answered again"


def test_a_higher_attempt_replaces_a_queued_one_in_its_place():
    worker = Worker()
    worker.do(run(1), run(2), run(3), run(2, 2))
    assert list(worker.state.queue.values()) == [run(2, 2), run(3)]
    worker.do(run(2, 1))
    assert worker.state.queue[2].attempt == 2, "an older attempt that comes late is passed over"


def test_a_higher_attempt_of_an_asked_task_asks_anew():
    worker = Worker()
    worker.do(run(1, needs_go=True), run(2))
    said = worker.says(run(1, 2, needs_go=True))
    assert [type(one).__name__ for one in said] == ["Recalled", "Started"]
    assert isinstance(worker.state.phase, AwaitingGo)
    assert worker.state.phase.run.attempt == 2
    assert [(one.task, one.attempt) for one in worker.state.link.to_resend()] == [(1, 2)]


def test_a_higher_attempt_of_a_running_task_waits_for_it():
    worker = Worker()
    worker.do(run(1))
    assert worker.do(run(1, 2)) == []
    assert kinds(worker.do(done(1))) == ["Done", "Started", "Begin"]


# -- recall and stop -------------------------------------------------------------------------------


@pytest.mark.parametrize("needs_go", [False, True])
def test_recall_takes_back_what_has_not_started(needs_go: bool):
    worker = Worker()
    worker.do(run(1, needs_go=True), run(2, needs_go=needs_go))
    assert worker.says(Recall(2, 1)) == [Recalled(2, 1, "asked")]
    assert worker.says(Recall(1, 1))[0] == Recalled(1, 1, "asked"), "asked for counts as not started"
    assert isinstance(worker.state.phase, Idle)


def test_recall_of_an_asked_task_lets_the_next_one_begin():
    worker = Worker()
    worker.do(run(1, needs_go=True), run(2))
    assert kinds(worker.do(Recall(1, 1))) == ["Recalled", "Started", "Begin"]


def test_recall_of_what_has_started_or_ended_or_is_another_attempt_is_answered_by_nothing():
    worker = Worker()
    worker.do(run(1), run(2, 2))
    assert worker.do(Recall(1, 1), Recall(2, 1)) == []
    worker.do(done(1))
    assert worker.do(Recall(1, 1)) == []


@pytest.mark.parametrize("wish", [Recall(1, 1), Stop(1, 1)])
def test_a_wish_that_overtakes_its_run_is_remembered(wish: Recall | Stop):
    worker = Worker()
    assert worker.do(wish) == []
    (said,) = worker.says(run(1))
    assert isinstance(said, Recalled if isinstance(wish, Recall) else Failed)
    assert isinstance(worker.state.phase, Idle)
    assert kinds(worker.do(run(1, 2))) == ["Started", "Begin"], "only that attempt was meant"


def test_wishes_about_the_past_are_forgotten_with_their_connection_and_are_bounded():
    worker = Worker()
    worker.do(Stop(1, 1), ConnectionDown(), WHO)
    assert kinds(worker.do(run(1))) == ["Started", "Begin"]
    worker.do(*(Recall(task, 1) for task in range(10, 2000)))
    assert len(worker.state._early_requests) <= 256


@pytest.mark.parametrize("needs_go", [False, True])
def test_stop_ends_a_task_that_has_not_started_at_once(needs_go: bool):
    worker = Worker()
    worker.do(run(9, needs_go=needs_go), run(1))
    (said,) = worker.says(Stop(1, 1))
    assert isinstance(said, Failed)
    assert said.failure.kind == "cancelled"
    assert worker.state.link.results() == ((1, 1),), "it is a result like any other"


@pytest.mark.parametrize(("why", "kind"), [("cancel", "cancelled"), ("timeout", "timeout")])
def test_stop_asks_a_running_task_to_end_and_its_failure_says_why(why: str, kind: str):
    worker = Worker()
    worker.do(run(1))
    assert worker.do(Stop(1, 1, why, 3.0)) == [CancelTask(1, 1, kind, 3.0)]  # type: ignore[arg-type]
    (said,) = worker.says(failed(1))
    assert isinstance(said, Failed)
    assert (said.failure.kind, said.failure.exit_code) == (kind, 3)


def test_a_task_that_succeeds_although_it_was_asked_to_end_has_succeeded():
    worker = Worker()
    worker.do(run(1), Stop(1, 1))
    assert isinstance(worker.says(done(1))[0], Done)


def test_stop_without_attempt_fits_any_and_a_wrong_attempt_fits_none():
    worker = Worker()
    worker.do(run(1, 2))
    assert worker.do(Stop(1, 1)) == []
    assert kinds(worker.do(Stop(1))) == ["CancelTask"]


def test_stop_said_again_can_only_shorten_the_grace():
    worker = Worker()
    worker.do(run(1, job=SHELL), Stop(1, 1, grace_s=10.0))
    assert worker.do(Stop(1, 1, grace_s=60.0)) == []
    assert worker.state.next_deadline() == 110.0
    worker.do(Stop(1, 1, grace_s=1.0))
    assert worker.state.next_deadline() == 101.0


# -- limits ----------------------------------------------------------------------------------------


def test_a_shell_task_that_ignores_its_end_is_killed_after_the_grace():
    worker = Worker()
    worker.do(run(1, job=SHELL, timeout_s=5.0, grace_s=2.0))
    assert worker.state.next_deadline() == 105.0
    assert worker.do(TimeElapsed(), after_s=4.9) == []
    assert worker.do(TimeElapsed(), after_s=0.1) == [CancelTask(1, 1, "timeout", 2.0)]
    assert worker.state.next_deadline() == 107.0
    assert worker.do(TimeElapsed(), after_s=2.0) == [KillTask(1, 1)]
    assert worker.state.next_deadline() is None
    (said,) = worker.says(failed(1, kind="signal"))
    assert isinstance(said, Failed)
    assert (said.failure.kind, said.failure.message) == ("timeout", "timed out after 5 s")


@pytest.mark.parametrize("job", [PYTHON, KERNEL])
def test_a_task_in_this_process_that_ignores_its_end_takes_the_process_with_it_but_says_so_first(job: object):
    worker = Worker()
    worker.do(run(1, job=job, timeout_s=5.0, grace_s=2.0), run(2), run(3, job=SHELL))
    worker.do(TimeElapsed(), after_s=5.0)
    said = worker.says(TimeElapsed(), after_s=2.0)
    assert isinstance(said[0], Failed)
    assert said[0].failure.kind == "timeout"
    assert said[0].report.duration_s == 7.0
    assert said[1:] == [Recalled(2, 1, "drain"), Recalled(3, 1, "drain")], "the others go back uncharged"
    assert isinstance(worker.state.phase, Dying)
    assert worker.says(run(4)) == [Recalled(4, 1, "drain")]
    assert worker.do(done(1)) == [], "it ended after all: too late"
    (end,) = worker.do(Stored(((1, 1),)))
    assert isinstance(end, ExitWorker)
    assert end.kill


def test_a_dying_worker_does_not_wait_for_ever():
    worker = Worker()
    worker.do(run(1), Stop(1, 1, grace_s=0.0), ConnectionDown())
    assert worker.state.next_deadline() == 100.0 + DYING_S
    (end,) = worker.do(TimeElapsed(), after_s=DYING_S)
    assert isinstance(end, ExitWorker)
    assert worker.state.link.results() == ((1, 1),), "the owner spills it"


def test_time_limits_count_from_the_start_and_not_from_the_wait():
    worker = Worker()
    worker.do(run(1), run(2, timeout_s=1.0))
    assert worker.do(TimeElapsed(), after_s=50.0) == []
    worker.do(done(1))
    assert worker.state.next_deadline() == worker.now + 1.0


# -- leaving ---------------------------------------------------------------------------------------


def test_drain_hands_back_finishes_waits_for_stored_and_leaves():
    worker = Worker()
    worker.do(run(1), run(2), run(3, needs_go=True))
    assert worker.says(Stop(why="drain")) == [Recalled(2, 1, "drain"), Recalled(3, 1, "drain")]
    assert worker.says(run(4)) == [Recalled(4, 1, "drain")]
    assert kinds(worker.do(done(1))) == ["Done"]
    (end,) = worker.do(Stored(((1, 1),)))
    assert end == ExitWorker("asked to leave (drain)")
    assert isinstance(worker.state.phase, Gone)


def test_drain_gives_back_a_task_that_waits_for_go():
    worker = Worker()
    worker.do(run(1, needs_go=True))
    assert kinds(worker.do(Stop(why="drain"))) == ["Recalled", "ExitWorker"]


def test_an_idle_worker_leaves_at_once():
    assert kinds(Worker().do(Stop(why="drain"))) == ["ExitWorker"]


def test_now_ends_the_running_task_first():
    worker = Worker()
    worker.do(run(1), run(2))
    assert kinds(worker.do(Stop(why="now", grace_s=1.0))) == ["Recalled", "CancelTask"]
    assert kinds(worker.do(failed(1))) == ["Unreported", "ExitWorker"], "nobody cancelled it: the controller decides"


def test_now_waits_until_a_value_that_was_returned_is_stored():
    worker = Worker()
    worker.do(run(1), Stop(why="now", grace_s=1.0))
    assert kinds(worker.do(returned(1))) == ["Done"]
    assert kinds(worker.do(Stored(((1, 1),)))) == ["ExitWorker"]


def test_now_kills_with_the_process_what_does_not_end():
    worker = Worker()
    worker.do(run(1), Stop(why="now", grace_s=1.0))
    (end,) = worker.do(TimeElapsed(), after_s=1.0)
    assert isinstance(end, ExitWorker) and end.kill and not end.signal


def test_a_lost_pane_lets_the_task_finish_then_the_worker_leaves():
    worker = Worker()
    worker.do(run(1), run(2))
    assert worker.says(PaneLost()) == [Recalled(2, 1, "drain")]
    worker.do(done(1))
    assert kinds(worker.do(Stored(((1, 1),)))) == ["ExitWorker"]


def test_ctrl_c_in_the_pane_cancels_what_is_in_turn():
    worker = Worker()
    assert worker.do(PaneCancel()) == []
    worker.do(run(1, grace_s=4.0))
    assert worker.do(PaneCancel()) == [CancelTask(1, 1, "cancelled", 4.0)]
    (said,) = worker.says(failed(1))
    assert isinstance(said, Failed)
    assert said.failure.message == "cancelled from the pane"
    worker.do(run(2, needs_go=True))
    (said,) = worker.says(PaneCancel())
    assert isinstance(said, Failed)
    assert "pane" in said.failure.message


# -- stale code ------------------------------------------------------------------------------------


def test_stale_code_gives_back_python_tasks_only_and_for_good():
    worker = Worker()
    worker.do(run(1, job=SHELL), run(2), run(3, job=KERNEL), run(4))
    assert worker.says(StaleFound()) == [Recalled(2, 1, "stale"), Recalled(4, 1, "stale")]
    assert worker.says(run(5)) == [Recalled(5, 1, "stale")]
    worker.do(done(1))
    assert worker.state.running == run(3, job=KERNEL)


def test_a_used_up_process_reports_its_task_gives_back_every_kind_and_asks_to_be_replaced():
    worker = Worker()
    worker.do(run(1), run(2, job=SHELL), run(3, job=KERNEL))
    assert worker.says(UsedUp()) == [Recalled(2, 1, "stale"), Recalled(3, 1, "stale")]
    said = worker.says(done(1))
    assert [type(one).__name__ for one in said] == ["Done", "Recalled"]
    assert said[1] == Recalled(0, 0, "stale")
    assert worker.says(run(4, job=SHELL)) == [Recalled(4, 1, "stale")]
    worker.do(ConnectionDown())
    assert Recalled(0, 0, "stale") in worker.says(WHO), "another controller is asked again"


def test_stale_code_gives_back_a_python_task_that_waits_for_go():
    worker = Worker()
    worker.do(run(1, needs_go=True), run(2, job=SHELL))
    assert kinds(worker.do(StaleFound())) == ["Recalled", "Started", "Begin"]


# -- connections -----------------------------------------------------------------------------------


def test_hello_says_what_is_held_and_everything_unstored_follows():
    worker = Worker()
    worker.do(run(1), done(1), run(2, job=SHELL), run(3, needs_go=True), ChildGroup(2, 1, 777), ConnectionDown())
    hello, *rest = worker.says(Who(2, "dev", "w1"))
    assert isinstance(hello, Hello)
    assert (hello.life, hello.pid, hello.ticks) == (7, 42, 4242)
    assert hello.holding == (Holding(2, 1, "running"), Holding(3, 1, "queued"))
    assert hello.results == ((1, 1),)
    assert rest == [Started(2, 1, at=100.0, group=777), Done(1, 1, Report())], "the process group is told again too"


def test_hello_names_an_asked_task():
    worker = Worker()
    worker.do(run(1, needs_go=True), ConnectionDown())
    hello = worker.says(WHO)[0]
    assert isinstance(hello, Hello)
    assert hello.holding == (Holding(1, 1, "asked"),)


def test_work_goes_on_without_a_controller():
    worker = Worker()
    worker.do(run(1), run(2), ConnectionDown())
    assert "Begin" in kinds(worker.do(done(1)))


def test_an_orphan_finishes_its_task_and_leaves_with_what_nobody_stored():
    worker = Worker(ttl_s=10.0)
    worker.do(run(1), run(2), ConnectionDown())
    assert worker.state.next_deadline() == 110.0
    assert worker.do(TimeElapsed(), after_s=10.0) == []
    assert worker.state.next_deadline() is None, "no deadline that has passed may spin"
    assert kinds(worker.do(done(1))) == ["Done", "ExitWorker"]
    assert worker.state.link.results() == ((1, 1),)


def test_a_controller_that_comes_back_in_time_ends_the_orphanhood():
    worker = Worker(ttl_s=10.0)
    worker.do(run(1), run(2), ConnectionDown())
    worker.do(TimeElapsed(), after_s=11.0)
    worker.do(WHO)
    assert "Begin" in kinds(worker.do(done(1)))


def test_a_worker_nobody_ever_spoke_to_leaves():
    worker = Worker(connected=False, ttl_s=10.0)
    assert worker.state.next_deadline() == 110.0
    assert kinds(worker.do(TimeElapsed(), after_s=10.0)) == ["ExitWorker"]


# -- what cannot be --------------------------------------------------------------------------------


def test_an_unknown_transition_tells_the_last_events():
    worker = Worker()
    worker.do(run(1), done(1))
    with pytest.raises(UnknownTransition) as caught:
        worker.state.handle(done(1), worker.now)
    assert "JobEnded while Idle" in str(caught.value)
    assert "Run(" in str(caught.value)


def test_nothing_may_follow_the_exit():
    worker = Worker()
    worker.do(Stop(why="drain"))
    for event in (WHO, run(1), TimeElapsed()):
        with pytest.raises(UnknownTransition):
            worker.state.handle(event, worker.now)


def test_the_end_of_a_task_that_does_not_run_is_refused():
    worker = Worker()
    worker.do(run(1))
    with pytest.raises(UnknownTransition):
        worker.state.handle(done(2), worker.now)
    assert isinstance(worker.state.phase, Running)
