"""The loop: descriptors, timers, calls from other threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from tmax.reactor import Reactor


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    made = Reactor()
    yield made
    made.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe2(os.O_NONBLOCK)
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            pass  # the test closed it


def test_a_readable_descriptor_is_called_until_it_is_read(reactor: Reactor, pipe: tuple[int, int]) -> None:
    calls: list[bytes] = []
    reactor.on_readable(pipe[0], lambda: calls.append(os.read(pipe[0], 1)))
    reactor.run_once(0)
    assert calls == []
    os.write(pipe[1], b"ab")
    reactor.run_once(1)
    reactor.run_once(1)
    reactor.run_once(0)
    assert calls == [b"a", b"b"]


def test_reading_and_writing_of_one_descriptor_are_apart(reactor: Reactor, pipe: tuple[int, int]) -> None:
    calls: list[str] = []
    reactor.on_writable(pipe[1], lambda: calls.append("w"))
    reactor.run_once(0)
    reactor.on_writable(pipe[1], None)
    reactor.run_once(0)
    assert calls == ["w"]
    reactor.on_writable(pipe[1], lambda: calls.append("again"))
    reactor.run_once(0)
    assert calls == ["w", "again"]


def test_a_forgotten_descriptor_is_not_called_in_the_same_turn(reactor: Reactor, pipe: tuple[int, int]) -> None:
    other = os.pipe2(os.O_NONBLOCK)
    calls: list[int] = []

    def first(mine: int, theirs: int) -> None:
        calls.append(mine)
        reactor.forget(theirs)
        reactor.forget(mine)

    reactor.on_readable(pipe[0], lambda: first(pipe[0], other[0]))
    reactor.on_readable(other[0], lambda: first(other[0], pipe[0]))
    os.write(pipe[1], b"x")
    os.write(other[1], b"x")
    reactor.run_once(1)
    reactor.run_once(0)
    assert len(calls) == 1
    for end in other:
        os.close(end)


def test_forgetting_what_is_unknown_or_closed_is_harmless(reactor: Reactor, pipe: tuple[int, int]) -> None:
    reactor.forget(999)
    reactor.on_readable(pipe[0], lambda: None)
    reactor.on_readable(pipe[0], None)
    reactor.forget(pipe[0])
    reactor.on_readable(pipe[0], lambda: None)
    reactor.forget(pipe[0])
    os.close(pipe[0])
    reactor.forget(pipe[0])


def test_timers_come_in_order_and_once(reactor: Reactor) -> None:
    calls: list[str] = []
    reactor.after(0.02, lambda: calls.append("late"))
    reactor.after(0.01, lambda: calls.append("early"))
    cancelled = reactor.after(0.005, lambda: calls.append("never"))
    cancelled.cancel()
    cancelled.cancel()
    end = time.monotonic() + 2
    while len(calls) < 2 and time.monotonic() < end:
        reactor.run_once(0.5)
    reactor.run_once(0)
    assert calls == ["early", "late"]


def test_a_cancelled_timer_does_not_wake(reactor: Reactor) -> None:
    reactor.after(0.001, lambda: None).cancel()
    begun = time.monotonic()
    reactor.run_once(0.05)
    assert time.monotonic() - begun >= 0.045


def test_a_timer_may_cancel_another_that_is_due(reactor: Reactor) -> None:
    calls: list[str] = []
    now = reactor.now()
    second = reactor.at(now + 0.0001, lambda: calls.append("second"))
    reactor.at(now, lambda: (calls.append("first"), second.cancel()))
    reactor.run_once(0.05)
    reactor.run_once(0)
    assert calls == ["first"]


def test_calls_from_another_thread_wake_the_loop(reactor: Reactor) -> None:
    names: list[str] = []
    thread = threading.Thread(target=lambda: reactor.call_soon(lambda: names.append(threading.current_thread().name)))
    thread.start()
    begun = time.monotonic()
    while not names and time.monotonic() - begun < 5:
        reactor.run_once(5)
    thread.join()
    assert names == [threading.main_thread().name]


def test_soon_calls_run_in_order_and_those_they_add_in_the_next_turn(reactor: Reactor) -> None:
    calls: list[int] = []
    reactor.call_soon(lambda: (calls.append(1), reactor.call_soon(lambda: calls.append(3))))
    reactor.call_soon(lambda: calls.append(2))
    reactor.run_once(0)
    assert calls == [1, 2]
    reactor.run_once(None)
    assert calls == [1, 2, 3]


def test_a_number_given_again_in_the_same_turn_is_not_called_for_its_former_owner(reactor: Reactor) -> None:
    ends = [os.pipe2(os.O_NONBLOCK) for _ in range(3)]
    calls: list[str] = []

    def take_the_places_of_all(called: int) -> None:
        calls.append("old")
        for number, (reader, _) in enumerate(ends):
            reactor.forget(reader)
            if number != called:
                quiet, writer = os.pipe2(os.O_NONBLOCK)
                os.dup2(quiet, reader)
                os.close(quiet)
                kept.append(writer)
                reactor.on_readable(reader, lambda: calls.append("new"))

    kept: list[int] = []
    for number, (reader, writer) in enumerate(ends):
        os.write(writer, b"x")
        reactor.on_readable(reader, lambda number=number: take_the_places_of_all(number))  # type: ignore[misc]
    reactor.run_once(1)
    reactor.run_once(0)
    for fd in (*(end for pair in ends for end in pair), *kept):
        reactor.forget(fd)
        os.close(fd)
    assert calls == ["old"]
