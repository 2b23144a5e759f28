"""Mutation tests of the simulation: with one rule broken, some seed must report a violation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.sim.fakes import Violation
from tests.sim.world import World
from tmax.controller.loop import Loop
from tmax.core import nesting, placement, retry_policy, worker_lifecycle, worker_messages
from tmax.core.events import Event, LifeEnded, LifeSilent, Turn
from tmax.core.ledger import IllegalMove
from tmax.core.model import Task, TaskState
from tmax.core.roster import Life
from tmax.core.scheduler import Scheduler
from tmax.core.state import SchedulerState
from tmax.storage.task_store import CommitResult
from tmax_pipes.link import ControllerLink, WorkerLink
from tmax_workers.task_admission import AcceptedTasks

MUTANT_SEEDS = 400
BROKEN = (Violation, IllegalMove, AssertionError, KeyError)
"""How a broken rule may show: the oracle, an invariant, a move that is not allowed, or a task that is missing."""


def noticed(*, seeds: int = MUTANT_SEEDS) -> bool:
    """Return whether any seed fails."""
    for seed in range(seeds):
        try:
            World(seed).run()
        except BROKEN:
            return True
    return False


def test_acting_before_the_commit_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = Loop._commit

    def act_first(self: Loop, turn: Turn) -> None:
        self._act(turn)
        shipped(self, replace(turn, actions=()))

    monkeypatch.setattr(Loop, "_commit", act_first)
    assert noticed()


def test_a_turn_while_a_commit_is_in_flight_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loop, "_may_turn", lambda self: bool(self._events))
    assert noticed(seeds=20)


def test_losing_events_that_arrive_during_a_commit_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = Loop.emit

    def drop(self: Loop, event: Event) -> None:
        if not self._is_committing:
            shipped(self, event)

    monkeypatch.setattr(Loop, "emit", drop)
    assert noticed()


def test_acting_on_a_commit_that_found_no_room_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = Loop._committed
    monkeypatch.setattr(Loop, "_committed", lambda self, turn, _: shipped(self, turn, CommitResult(ok=True)))
    assert noticed()


def test_sleeping_past_the_time_that_a_turn_set_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loop, "_set_wake", lambda self, wake_at: None)
    assert noticed()


def test_taking_any_attempts_result_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_messages, "leased_to", lambda state, life, number, attempt: state.ledger.tasks.get(number))
    assert noticed()


def test_never_sending_again_after_hello_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ControllerLink, "to_resend", lambda self, hello: [])
    assert noticed()


def test_a_worker_that_forgets_what_it_sent_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WorkerLink, "to_resend", lambda self: [])
    assert noticed()


def test_taking_silence_for_death_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent_is_dead(state: SchedulerState, event: LifeSilent) -> None:
        worker_lifecycle.on_ended_life(state, LifeEnded(life=event.life, cause="silent"))

    monkeypatch.setattr(worker_lifecycle, "on_silent", silent_is_dead)
    assert noticed()


def test_running_again_what_may_run_once_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_again(*_: object, **__: object) -> retry_policy.Verdict:
        return retry_policy.Verdict(to=TaskState.READY)

    monkeypatch.setattr(worker_lifecycle, "after_death", run_again)
    assert noticed()


def test_never_charging_the_culprit_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A poison task must not kill workers for ever: the simulation then never comes to rest."""
    shipped: Callable[..., retry_policy.Verdict] = retry_policy.after_death

    def charge_none(*args: object, culprit: bool, **rest: object) -> retry_policy.Verdict:
        return shipped(*args, culprit=False, **rest)

    monkeypatch.setattr(worker_lifecycle, "after_death", charge_none)
    assert noticed()


def test_running_code_of_two_programs_in_one_process_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each end alone keeps the rule: the scheduler by its choice of worker, the worker by returning the task."""

    def any_place(self: placement.FreeSlots, part: str, *, alone: bool) -> Life | None:
        return shipped(self, "", alone=alone)

    shipped = placement.FreeSlots.take
    monkeypatch.setattr(placement.FreeSlots, "take", any_place)
    assert not noticed(seeds=20), "the worker returns tasks that it must not run"
    monkeypatch.setattr(AcceptedTasks, "fits", lambda self, run: True)
    assert noticed()
    monkeypatch.setattr(placement.FreeSlots, "take", shipped)
    assert not noticed(seeds=50), "the scheduler sends no task that a worker must not run"


def test_forgetting_leases_at_a_restart_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leased tasks that return to the queue at a restart would run twice at once, as their workers are alive."""

    def forget(self: Scheduler, task: object, lease: object) -> None:
        self._state.ledger.move(task, TaskState.READY, lease=None)  # type: ignore[arg-type]

    monkeypatch.setattr(Scheduler, "_restore_lease", forget)
    assert noticed()


def test_a_child_that_waits_for_a_worker_of_the_number_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker may run a task that waits for its child: without nested workers no task can proceed."""
    monkeypatch.setattr(nesting, "_size", lambda state, *, ready: None)
    assert noticed()


def test_work_put_behind_a_task_that_waits_for_it_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nesting, "waits", lambda state, life: False)
    assert noticed()


def test_ending_what_was_withdrawn_and_had_begun_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Scheduler, task: Task) -> str:
        self._state.stop_task(self._state.ledger.note(task, cancelling=True))
        return "ending"

    monkeypatch.setattr(Scheduler, "_withdraw", stop)
    assert noticed()
