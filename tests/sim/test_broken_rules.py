"""The promise with one rule broken, which some seed must notice: a test that cannot fail would prove nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sim.world import Violation, World
from tmax.core import nesting, placement, retry_policy, worker_lifecycle, worker_messages
from tmax.core.events import LifeEnded, LifeSilent
from tmax.core.ledger import IllegalMove
from tmax.core.model import Task, TaskState
from tmax.core.roster import Life
from tmax.core.scheduler import Scheduler
from tmax.core.state import SchedulerState
from tmax_pipes.link import ControllerLink, WorkerLink
from tmax_workers.task_admission import AcceptedTasks

MUTANT_SEEDS = 400
BROKEN = (Violation, IllegalMove, AssertionError, KeyError)
"""How a broken rule may show: the oracle, an invariant, a move that is none, or a task that is not where it must be."""


def noticed(*, act_before_commit: bool = False, seeds: int = MUTANT_SEEDS) -> bool:
    """Return whether any seed shows that something is wrong."""
    for seed in range(seeds):
        try:
            World(seed, act_before_commit=act_before_commit).run()
        except BROKEN:
            return True
    return False


def test_acting_before_the_commit_is_noticed() -> None:
    assert noticed(act_before_commit=True)


def test_taking_any_attempts_result_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_messages, "leased_to", lambda state, life, number, attempt: state.ledger.tasks.get(number))
    assert noticed()


def test_never_sending_again_after_hello_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ControllerLink, "to_resend", lambda self, hello: [])
    assert noticed()


def test_a_worker_that_forgets_what_it_said_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
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
    """A poison task must not kill workers for ever: the oracle of a run that never comes to rest."""
    shipped: Callable[..., retry_policy.Verdict] = retry_policy.after_death

    def nobody(*args: object, culprit: bool, **rest: object) -> retry_policy.Verdict:
        return shipped(*args, culprit=False, **rest)

    monkeypatch.setattr(worker_lifecycle, "after_death", nobody)
    assert noticed()


def test_running_code_of_two_programs_in_one_process_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either end alone keeps the rule: the scheduler by its choice, the worker by giving back."""

    def any_place(self: placement.FreeSlots, part: str, *, alone: bool) -> Life | None:
        return shipped(self, "", alone=alone)

    shipped = placement.FreeSlots.take
    monkeypatch.setattr(placement.FreeSlots, "take", any_place)
    assert not noticed(seeds=20), "the worker gives back what it must not run"
    monkeypatch.setattr(AcceptedTasks, "fits", lambda self, run: True)
    assert noticed()
    monkeypatch.setattr(placement.FreeSlots, "take", shipped)
    assert not noticed(seeds=50), "the scheduler sends nothing that a worker must not run"


def test_forgetting_leases_at_a_restart_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leased tasks put back into the queue at a restart would run twice at once: their workers live."""

    def forget(self: Scheduler, task: object, lease: object) -> None:
        self.state.ledger.move(task, TaskState.READY, lease=None)  # type: ignore[arg-type]

    monkeypatch.setattr(Scheduler, "_restore_lease", forget)
    assert noticed()


def test_a_child_that_waits_for_a_worker_of_the_number_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker may run a task that waits for a task it has submitted: without nested workers nothing goes on."""
    monkeypatch.setattr(nesting, "_size", lambda state, *, ready: None)
    assert noticed()


def test_work_put_behind_a_task_that_waits_for_it_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nesting, "waits", lambda state, life: False)
    assert noticed()


def test_ending_what_was_withdrawn_and_had_begun_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Scheduler, task: Task) -> str:
        self.state.stop_task(self.state.ledger.note(task, cancelling=True))
        return "ending"

    monkeypatch.setattr(Scheduler, "_withdraw", stop)
    assert noticed()
