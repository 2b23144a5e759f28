"""The worker's state machine under any order of events."""

from __future__ import annotations

import random

import pytest

from tests.unit.workers.stage import KERNEL, PYTHON, SHELL, WHO, Worker, done, failed, returned, run
from tmax_pipes.jobs import ShellJob
from tmax_pipes.messages import (
    Done,
    Failed,
    Go,
    Recall,
    Recalled,
    Run,
    Stop,
    Stored,
)
from tmax_workers.phases import Gone
from tmax_workers.worker_events import (
    Begin,
    ConnectionDown,
    Event,
    PaneCancel,
    PaneLost,
    Send,
    StaleFound,
    Terminated,
    TimeElapsed,
    UsedUp,
)

STEPS = ("run", "run", "run", "again", "go", "recall", "stop", "stored", "end", "end", "end", "time", "down", "who", "rare")


@pytest.mark.parametrize("seed", range(150))
def test_no_order_of_events_breaks_what_must_always_hold(seed: int):
    """Each accepted task ends in exactly one of: a result, a Recalled, still held.  Nothing runs twice or two at a time."""
    dice = random.Random(seed)
    worker = Worker(ttl_s=50.0)
    sent: dict[tuple[int, int], Run] = {}
    begun: list[tuple[int, int]] = []
    answered: dict[tuple[int, int], str] = {}
    for _ in range(120):
        events = _step(dice, dice.choice(STEPS), worker, sent)
        for event in events:
            if isinstance(worker.state.phase, Gone):
                break
            for do in worker.do(event):
                if isinstance(do, Begin):
                    begun.append((do.run.task, do.run.attempt))
                elif isinstance(do, Send) and isinstance(do.message, (Done, Failed, Recalled)):
                    answered.setdefault((do.message.task, do.message.attempt), type(do.message).__name__)
    assert len(begun) == len(set(begun)), "a task began twice"
    for key in sent:
        latest = max(attempt for task, attempt in sent if task == key[0])
        held = {(one.task, one.attempt) for one in worker.state._holding()}
        gone = isinstance(worker.state.phase, Gone)
        assert key in answered or key in held or key[1] < latest or gone, f"{key} vanished"


def _step(dice: random.Random, step: str, worker: Worker, sent: dict[tuple[int, int], Run]) -> list[Event]:
    state = worker.state
    key = dice.choice(list(sent)) if sent else (1, 1)
    if step == "run":
        task = dice.randrange(1, 40)
        attempt = 1 + max((known for known_task, known in sent if known_task == task), default=0)
        new = run(
            task,
            attempt,
            dice.choice((PYTHON, SHELL, KERNEL)),
            needs_go=dice.random() < 0.3,
            timeout_s=dice.choice((0.0, 3.0)),
            grace_s=dice.choice((0.0, 2.0)),
        )
        sent[task, attempt] = new
        return [new]
    if step == "again" and key in sent and key not in state.link.results() and key[0] in state.queue:
        return [sent[key]]
    if step == "go" and state.in_turn is not None:
        return [Go(state.in_turn.task, state.in_turn.attempt)]
    if step == "end" and state.running is not None:
        held = state.running
        if not isinstance(held.job, ShellJob) and dice.random() < 0.02:
            return [UsedUp(), done(held.task, held.attempt)]
        if dice.random() < 0.7:
            return [dice.choice((done, returned))(held.task, held.attempt)]
        return [failed(held.task, held.attempt, dice.choice(("exit", "signal")))]
    if step == "time":
        worker.now += dice.choice((0.5, 2.0, 5.0))
        return [TimeElapsed()]
    if step == "rare" and dice.random() < 0.1:
        return [dice.choice((StaleFound(), PaneLost(), Stop(why="drain"), Stop(why="now", grace_s=1.0), Terminated()))]
    plain: dict[str, list[Event]] = {
        "recall": [Recall(*key)] if key in sent else [],
        "stop": [Stop(*key, grace_s=1.0)] if key in sent else [],
        "stored": [Stored(state.link.results()[:2])],
        "down": [ConnectionDown()],
        "who": [WHO],
        "rare": [PaneCancel()],
    }
    return plain.get(step, [])
