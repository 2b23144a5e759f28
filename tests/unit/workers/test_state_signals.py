"""Signals from outside, to a worker and to the command that it runs."""

from __future__ import annotations

import pytest

from tests.unit.workers.stage import PYTHON, SHELL, WHO, Worker, done, failed, kinds, returned, run
from tmax_pipes.messages import (
    Failed,
    Failure,
    Holding,
    Recalled,
    Report,
    Stop,
    Stored,
)
from tmax_workers.phases import SETTLE_S
from tmax_workers.worker_events import (
    CancelTask,
    ExitWorker,
    JobEnded,
    Send,
    Terminated,
    TimeElapsed,
    Unreported,
)

# -- TERM from outside: a death --------------------------------------------------------------------


def test_term_ends_an_idle_worker_at_once_by_that_signal_and_without_waiting_for_stored():
    worker = Worker()
    worker.do(run(1), done(1))
    assert worker.do(Terminated()) == [ExitWorker("killed by SIGTERM", signal=15)]


def test_term_gives_back_what_has_not_started():
    worker = Worker()
    worker.do(run(1, needs_go=True), run(2))
    assert worker.do(Terminated()) == [
        Send(Recalled(1, 1, "drain")),
        Send(Recalled(2, 1, "drain")),
        ExitWorker("killed by SIGTERM", signal=15),
    ]


@pytest.mark.parametrize("job", [PYTHON, SHELL])
@pytest.mark.parametrize("end", [failed(1), failed(1, kind="signal"), failed(1, kind="cancelled"), done(1)])
def test_term_asks_the_running_task_to_end_and_does_not_report_that_end(job: object, end: JobEnded):
    worker = Worker()
    worker.do(run(1, job=job, grace_s=4.0), run(2))
    assert worker.do(Terminated()) == [Send(Recalled(2, 1, "drain")), CancelTask(1, 1, "leaving", 4.0)]
    assert worker.do(end) == [Unreported(end.outcome), ExitWorker("killed by SIGTERM", signal=15)]


def test_a_value_that_a_function_returned_after_term_is_reported():
    worker = Worker()
    worker.do(run(1), Terminated())
    assert kinds(worker.do(returned(1))) == ["Done", "ExitWorker"]
    assert worker.state.link.results() == ((1, 1),), "it is left in a file"


def test_results_that_nobody_stored_are_kept_before_the_grace_begins():
    worker = Worker()
    worker.do(run(1), done(1), run(2))
    assert kinds(worker.do(Terminated())) == ["CancelTask", "SpillResults"]


def test_a_task_that_ignores_term_is_ended_with_its_grace():
    worker = Worker()
    worker.do(run(1, job=SHELL, grace_s=4.0), Terminated())
    assert kinds(worker.do(TimeElapsed(), after_s=4.0)) == ["KillTask"]
    assert kinds(worker.do(failed(1, kind="signal"))) == ["Unreported", "ExitWorker"]
    other = Worker()
    other.do(run(1, grace_s=4.0), Terminated())
    assert other.do(TimeElapsed(), after_s=4.0) == [ExitWorker("killed by SIGTERM", signal=15)]


def test_what_a_person_cancelled_before_or_after_term_is_cancelled():
    worker = Worker()
    worker.do(run(1), Stop(1, 1), Terminated())
    assert kinds(worker.do(failed(1))) == ["Failed", "ExitWorker"]
    other = Worker()
    other.do(run(1), Terminated(), Stop(1, 1))
    said, end = other.do(failed(1))
    assert isinstance(said, Send) and isinstance(said.message, Failed) and said.message.failure.kind == "cancelled"
    assert isinstance(end, ExitWorker)


def test_term_twice_is_term_once():
    worker = Worker()
    worker.do(run(1), Terminated())
    assert worker.do(Terminated()) == []


def test_a_task_that_raises_our_exception_itself_was_not_cancelled():
    worker = Worker()
    worker.do(run(1))
    (said,) = worker.says(failed(1, kind="cancelled"))
    assert isinstance(said, Failed) and said.failure.kind == "exception"


# -- an end by a signal that we did not send -------------------------------------------------------


def killed(number: int = 15) -> JobEnded:
    return JobEnded(Failed(1, 1, Report(tail=b"x"), Failure("signal", "killed", signal=number)))


def test_a_command_killed_by_a_signal_is_reported_a_moment_later_and_the_next_waits_for_it():
    worker = Worker()
    worker.do(run(1, job=SHELL), run(2))
    assert worker.do(killed()) == []
    assert worker.state.next_deadline() == worker.now + SETTLE_S
    assert worker.says(WHO)[0].holding[0] == Holding(1, 1, "running")  # type: ignore[union-attr]
    assert kinds(worker.do(TimeElapsed(), after_s=SETTLE_S)) == ["Failed", "Started", "Begin"]


def test_a_shell_that_says_by_its_status_that_a_signal_ended_it_is_one_of_them():
    worker = Worker()
    worker.do(run(1, job=SHELL))
    assert worker.do(JobEnded(Failed(1, 1, Report(), Failure("exit", "exit 143", exit_code=143)))) == []


@pytest.mark.parametrize("end", [failed(1), killed(11), done(1)])
def test_every_other_end_is_reported_at_once(end: JobEnded):
    worker = Worker()
    worker.do(run(1, job=SHELL))
    assert worker.says(end) == [end.outcome]


def test_a_signal_of_ours_needs_no_second_look():
    worker = Worker()
    worker.do(run(1, job=SHELL), Stop(1, 1))
    assert kinds(worker.do(killed())) == ["Failed"]


def test_term_in_that_moment_shows_that_it_was_a_shutdown():
    worker = Worker()
    worker.do(run(1, job=SHELL))
    end = killed()
    worker.do(end)
    assert worker.do(Terminated()) == [Unreported(end.outcome), ExitWorker("killed by SIGTERM", signal=15)]


@pytest.mark.parametrize("end", [done(1), failed(1, kind="exit")])
def test_a_status_that_came_in_that_moment_before_term_is_forgotten_unless_it_is_stored(end: JobEnded):
    worker = Worker()
    worker.do(run(1, job=SHELL), end)
    assert kinds(worker.do(Terminated(), after_s=SETTLE_S / 2)) == ["Unreported", "ExitWorker"]
    assert worker.state.link.results() == ()
    for more in ((Stored(((1, 1),)),), ()):
        other = Worker()
        other.do(run(1, job=SHELL), end, *more)
        assert kinds(other.do(Terminated(), after_s=SETTLE_S)) == ["ExitWorker"]


def test_a_draining_worker_reports_it_before_it_leaves():
    worker = Worker()
    worker.do(run(1, job=SHELL), Stop(why="drain"), killed())
    assert kinds(worker.do(TimeElapsed(), after_s=SETTLE_S)) == ["Failed"]
    assert kinds(worker.do(Stored(((1, 1),)))) == ["ExitWorker"]
