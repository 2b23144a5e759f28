"""What every engine promises: the order of events is checked at each event (``carriers.Watch``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.contract.carriers import Carrier, HostileCarrier, InlineCarrier, RealCarrier
from tests.engine_rig import python_run, shell_run
from tmax.core.events import LifeConnected, LifeEnded, LifeMessage
from tmax.core.model import LifeRecord
from tmax_pipes.messages import Done, Failed, Recall, Recalled, Run, Started, Stop, Stored
from tmax_pipes.options_struct import TaskOptions

REAL = {f"{engine}-{spawner}": (engine, spawner) for engine in ("tmux", "process") for spawner in ("exec", "zygote")}
CARRIERS: dict[str, Callable[[], Carrier]] = {
    "inline": InlineCarrier,
    "hostile": HostileCarrier,
    **{name: partial(RealCarrier, *words) for name, words in REAL.items()},
}


@pytest.fixture(params=CARRIERS)
def carrier(request: pytest.FixtureRequest, no_leaks: None) -> Iterator[Carrier]:
    made = CARRIERS[request.param]()
    yield made
    made.close()


def test_lives_greet_and_work(carrier: Carrier) -> None:
    carrier.start(1, 2)
    for task in range(1, 21):
        carrier.send(1 + task % 2, python_run(task))
    carrier.until(lambda: carrier.done() == set(range(1, 21)))
    assert all(event.message.result == b"3" for event in carrier.of(LifeMessage) if isinstance(event.message, Done))
    assert carrier.done(1) == {task for task in range(1, 21) if task % 2 == 0}


def test_what_is_said_is_answered(carrier: Carrier) -> None:
    carrier.start(1)
    waiting_run = Run(task=3, attempt=1, job=python_run(3).job, needs_go=True)
    carrier.send(1, waiting_run)
    carrier.until(lambda: any(isinstance(event.message, Started) for event in carrier.of(LifeMessage)))
    assert carrier.done() == set()
    carrier.send(1, Recall(3, 1))
    carrier.until(lambda: any(isinstance(event.message, Recalled) for event in carrier.of(LifeMessage)))
    assert carrier.done() == set()


def test_a_rename_is_greeted_on_the_same_connection(carrier: Carrier) -> None:
    carrier.start(1)
    if isinstance(carrier, HostileCarrier):
        carrier.engine.cuts = 0.0
        carrier.until(lambda: carrier.watch.story[1] == "talking")
    before = len(carrier.of(LifeConnected))
    carrier.engine.name(1, "w9")
    carrier.until(lambda: len(carrier.of(LifeConnected)) > before)
    assert not carrier.of(LifeConnected)[-1].reconnected


def test_a_life_that_is_killed_ends_once(carrier: Carrier) -> None:
    carrier.start(1, 2)
    carrier.engine.kill(1, "too old")
    carrier.engine.kill(1, "again")
    carrier.until(lambda: carrier.of(LifeEnded))
    carrier.engine.kill(1, "after its end")
    carrier.engine.send(1, [python_run(1)])
    carrier.engine.name(1, "w7")
    carrier.send(2, python_run(2))
    carrier.until(lambda: carrier.done(2))
    assert [(event.life, event.cause) for event in carrier.of(LifeEnded)] == [(1, "too old")]


def test_a_life_that_never_greeted_can_be_killed(carrier: Carrier) -> None:
    carrier.engine.start([(1, "w1")])
    carrier.engine.kill(1, "changed our mind")
    carrier.until(lambda: carrier.of(LifeEnded))
    assert carrier.of(LifeConnected) == []


def test_a_worker_asked_to_leave_exits_with_0(carrier: Carrier) -> None:
    carrier.start(1)
    carrier.send(1, python_run(1))
    carrier.until(carrier.done)
    carrier.send(1, Stop(why="drain"))

    def ended() -> bool:
        carrier.engine.send(1, [Stored(keys=((1, 1),))])
        return bool(carrier.of(LifeEnded))

    carrier.until(ended)
    assert [(event.cause, event.exit_code) for event in carrier.of(LifeEnded)] == [("exited with 0", 0)]


def test_a_life_that_is_not_there_answers_nothing(carrier: Carrier) -> None:
    carrier.engine.kill(5, "nobody")
    carrier.engine.send(5, [python_run(1)])
    carrier.engine.name(5, "w5")
    carrier.engine.adopt([])
    assert carrier.engine.output_file(5) == "" or not Path(carrier.engine.output_file(5)).exists()
    assert carrier.engine.figures([5]) == {}
    if carrier.engine.terminals is not None:
        assert carrier.engine.terminals.session_of(5) == ("", "")
    for _ in range(5):
        carrier.turn()
    assert carrier.watch.events == []


def test_figures_of_workers_come_through_the_engine(carrier: Carrier) -> None:
    carrier.start(1, 2)
    before = carrier.engine.figures([1, 2, 3])
    assert before.keys() == {1, 2}
    assert all(figures.rss_bytes > 0 for figures in before.values())
    carrier.send(1, python_run(1, function="builtins:eval", args=["sum(len(str(n)) for n in range(500_000))"]))
    carrier.until(lambda: 1 in carrier.done())
    if not isinstance(carrier, HostileCarrier):
        assert carrier.engine.figures([1])[1].cpu_s > before[1].cpu_s
    carrier.engine.kill(2, "enough")
    carrier.until(lambda: carrier.of(LifeEnded))
    assert carrier.engine.figures([1, 2]).keys() == {1}


def test_what_workers_wrote_is_received_before_the_engine_is_closed(carrier: Carrier) -> None:
    carrier.start(1)
    carrier.send(1, python_run(1))
    carrier.until(carrier.done)
    carrier.engine.receive_all()
    carrier.engine.prepare()
    assert carrier.engine.reopen() == []


def test_an_engine_has_terminals_or_says_that_it_has_none(carrier: Carrier, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["carrier"]
    assert (carrier.engine.terminals is not None) == name.startswith("tmux")


def test_a_life_of_an_earlier_controller_that_is_gone_ends(carrier: Carrier) -> None:
    gone = LifeRecord(life=7, worker="w7", pid=2**22 - 1, ticks=1, session="w7")
    dead = LifeRecord(life=8, worker="w8", pid=2**22 - 1, ticks=1, alive=False)
    carrier.engine.adopt([gone, dead])
    carrier.until(lambda: carrier.of(LifeEnded))
    for _ in range(5):
        carrier.turn()
    assert [event.life for event in carrier.watch.events] == [7]  # type: ignore[union-attr]


def test_closing_twice_is_harmless_and_final(carrier: Carrier) -> None:
    carrier.start(1)
    carrier.send(1, python_run(1))
    carrier.engine.close(sessions=False)
    carrier.watch.closed = True
    for _ in range(5):
        carrier.turn()
    carrier.engine.close(sessions=False)


@pytest.mark.parametrize("carrier", [*REAL, "hostile"], indirect=True)
def test_a_result_written_before_the_death_arrives_before_it(carrier: Carrier, tmp_path: Path) -> None:
    """Done of one task and Started of the next leave in one write: when the second has run, the first was written."""
    carrier.start(1)
    if isinstance(carrier, HostileCarrier):
        carrier.engine.cuts = 0.0
        carrier.until(lambda: carrier.watch.story[1] == "talking")
    carrier.send(1, python_run(1), python_run(2, function="os:mkdir", args=[str(tmp_path / "made")]))
    carrier.work_unheard(1, (tmp_path / "made").exists)
    carrier.engine.kill(1, "now")
    carrier.until(lambda: carrier.of(LifeEnded))
    assert 1 in carrier.done()


@pytest.mark.parametrize("carrier", ["inline", *REAL], indirect=True)
def test_real_jobs_end_as_data(carrier: Carrier, tmp_path: Path) -> None:
    carrier.start(1)
    carrier.send(
        1,
        shell_run(1, "echo out; exit 4"),
        python_run(2, function="builtins:int", args=["x"]),
        python_run(3, function="nosuchmodule:f"),
        python_run(4, function="builtins:print", args=["hello"]),
        Run(task=5, attempt=1, job=shell_run(5, "sleep 100").job, options=TaskOptions(timeout_s=0.2, grace_s=0.2)),
        python_run(6, function="sys:exit", args=[3]),
        python_run(7),
    )
    carrier.until(lambda: 7 in carrier.done())
    failed = {event.message.task: event.message for event in carrier.of(LifeMessage) if isinstance(event.message, Failed)}
    done = {event.message.task: event.message for event in carrier.of(LifeMessage) if isinstance(event.message, Done)}
    assert {task: message.failure.kind for task, message in failed.items()} == {
        1: "exit",
        2: "exception",
        3: "notfound",
        5: "timeout",
        6: "exit",
    }
    assert failed[1].failure.exit_code == 4
    assert b"out" in failed[1].report.tail
    assert done[4].report.tail.strip() == b"hello"


@pytest.mark.parametrize("seed", range(40))
def test_a_hostile_engine_keeps_its_promises(seed: int) -> None:
    """Lives end at random; every task is done by one of the lives it was given to, or its life has ended."""
    carrier = HostileCarrier(seed, deaths=0.004, cuts=0.08)
    lives = list(range(1, 5))
    carrier.engine.start([(life, f"w{life}") for life in lives])
    carrier.until(lambda: all(carrier.of(LifeConnected, life) or carrier.of(LifeEnded, life) for life in lives))
    for task in range(1, 41):
        carrier.send(1 + task % 4, python_run(task))
    carrier.until(lambda: all(1 + task % 4 in ended(carrier) or task in carrier.done() for task in range(1, 41)))
    for life in lives:
        carrier.engine.kill(life, "end of the test")
    carrier.until(lambda: ended(carrier) == set(lives))
    assert len(carrier.of(LifeEnded)) == len(lives)
    carrier.close()


def ended(carrier: Carrier) -> set[int]:
    return {event.life for event in carrier.of(LifeEnded)}
