"""Long work on the loop: in slices, round robin, with waits; errors never leave the slicer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tmax.controller.slices import Slicer, Steps
from tmax.errors import TmaxError, UsageError
from tmax.reactor import Reactor


class SlowClock(Reactor):
    """Each look at the time is a millisecond later."""

    time_s = 0.0

    def now(self) -> float:  # type: ignore[override]  # a method here: each reactor has its own time
        self.time_s += 0.001
        return self.time_s


@pytest.fixture
def reactor() -> Iterator[SlowClock]:
    made = SlowClock()
    yield made
    made.close()


def counting(name: str, count: int, told: list[str]) -> Steps[None]:
    for number in range(count):
        told.append(f"{name}{number}")
        yield None


def never(error: TmaxError) -> None:
    raise AssertionError(error)


def turn(reactor: Reactor, times: int = 50) -> None:
    for _ in range(times):
        reactor.run_once(0)


def test_work_begins_at_once_and_is_interrupted_when_its_slice_is_over(reactor: SlowClock) -> None:
    told: list[str] = []
    Slicer(reactor).run(counting("a", 100, told), never)
    first = len(told)
    assert 1 <= first < 10
    reactor.run_once(0)
    assert first < len(told) < 100
    turn(reactor, 200)
    assert len(told) == 100


def test_of_several_works_each_has_a_slice_in_turn_and_the_loop_one_slice_a_turn(reactor: SlowClock) -> None:
    told: list[str] = []
    slicer = Slicer(reactor)
    slicer.run(counting("a", 100, told), never)
    slicer.run(counting("b", 100, told), never)
    assert {one[0] for one in told} == {"a"}
    reactor.run_once(0)
    reactor.run_once(0)
    assert {one[0] for one in told} == {"a", "b"}
    turn(reactor, 400)
    assert len(told) == 200


def test_work_that_waits_lets_other_work_continue_until_it_is_called_back(reactor: SlowClock) -> None:
    calls: list[Callable[[], None]] = []
    told: list[str] = []

    def waiting() -> Steps[None]:
        yield calls.append
        told.append("back")

    slicer = Slicer(reactor)
    slicer.run(waiting(), never)
    slicer.run(counting("b", 3, told), never)
    turn(reactor)
    assert told == ["b0", "b1", "b2"]
    calls[0]()
    assert told[-1] == "back"


def test_what_it_waits_for_may_be_there_already(reactor: SlowClock) -> None:
    told: list[str] = []

    def steps() -> Steps[None]:
        for _ in range(1000):
            yield lambda go_on: go_on()
        told.append("done")

    Slicer(reactor).run(steps(), never)
    turn(reactor, 1100)
    assert told == ["done"]


def test_an_error_goes_to_its_client_and_a_defect_ends_nothing_else(reactor: SlowClock, caplog: pytest.LogCaptureFixture) -> None:
    def failing(error: Exception) -> Steps[None]:
        yield None
        raise error

    told: list[TmaxError] = []
    slicer = Slicer(reactor)
    slicer.run(failing(UsageError("no")), told.append)
    slicer.run(failing(KeyError("a defect")), told.append)
    turn(reactor)
    assert [one.message for one in told] == ["no", "internal error; the controller's log has it"]
    assert "a defect" in caplog.text


def test_work_that_is_not_wanted_any_more_is_dropped_and_cleans_up(reactor: SlowClock) -> None:
    told: list[str] = []

    def steps() -> Steps[None]:
        try:
            yield from counting("a", 1000, told)
        finally:
            told.append("closed")

    wanted = [True]
    Slicer(reactor).run(steps(), never, lambda: wanted[0])
    wanted[0] = False
    turn(reactor)
    assert told[-1] == "closed"
    assert len(told) < 20
