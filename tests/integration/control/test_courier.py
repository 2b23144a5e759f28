"""The channel: what is handed over ends, over as many connections as it takes."""

from __future__ import annotations

import operator
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, as_completed, wait
from typing import Any

import pytest

from tests.integration.control.toy import Toy
from tests.wait import wait_until
from tmax.api import task_channel as courier_module
from tmax.api.calls import PYTHON, dump_call
from tmax.api.future import TaskFuture
from tmax.api.outcomes import ResultResolver
from tmax.api.task_channel import TaskChannel
from tmax.api.task_errors import SwarmGone
from tmax.control.client import connect, open_socket
from tmax.errors import StorageFull
from tmax_pipes.jobs import PythonJob
from tmax_pipes.options_struct import GivenOptions

Made = Callable[..., TaskChannel]


@pytest.fixture
def make(swarm: Toy) -> Iterator[Made]:
    made: list[TaskChannel] = []

    def channel(reach: Callable[[], socket.socket] | None = None) -> TaskChannel:
        settler = ResultResolver(swarm.layout.blobs, swarm.layout.logs)
        made.append(TaskChannel(reach or (lambda: open_socket(swarm.layout)), settler.settle, lambda: connect(swarm.layout)))
        return made[-1]

    yield channel
    for one in made:
        one.close(SwarmGone("the test is over"))


def send(channel: TaskChannel, function: Callable[..., Any], *args: Any, **options: Any) -> TaskFuture[Any]:
    return channel.submit(PythonJob(call=dump_call(function, args, {}), label="f", python=PYTHON), GivenOptions(**options), "python")


def test_values_and_exceptions_come_back(make: Made) -> None:
    channel = make()
    assert send(channel, operator.add, 2, 3).result(10) == 5
    bad = send(channel, operator.truediv, 1, 0)
    with pytest.raises(ZeroDivisionError) as caught:
        bad.result(10)
    assert "Traceback of the toy" in str(caught.value.__cause__)
    assert bad.task_id == 2


def test_real_futures_for_wait_and_as_completed(make: Made) -> None:
    channel = make()
    futures = [send(channel, operator.neg, number) for number in range(50)]
    assert wait(futures, 10).not_done == set()
    assert sorted(future.result() for future in as_completed(futures)) == list(range(-49, 1))


def test_many_submits_share_messages_and_keep_their_order(make: Made, swarm: Toy) -> None:
    channel = make()
    waits, may_answer = threading.Event(), threading.Event()
    swarm.reactor.call_soon(lambda: (waits.set(), may_answer.wait()))  # as long as it answers nothing, what is submitted gathers
    assert waits.wait(20)
    try:
        futures = [send(channel, operator.pos, number) for number in range(5000)]
    finally:
        may_answer.set()
    assert [future.result(20) for future in futures] == list(range(5000))
    assert [future.task_id for future in futures] == list(range(1, 5001))
    assert swarm.messages < 100


def test_a_lone_submit_waits_for_nobody(make: Made, swarm: Toy) -> None:
    channel = make()
    swarm.mute = True
    send(channel, operator.pos, 1)
    wait_until(lambda: swarm.messages == 1)


def test_what_waits_for_an_answer_that_never_comes_goes_out_when_enough_gathered(make: Made, swarm: Toy) -> None:
    channel = make()
    swarm.mute = True
    for number in range(1 + 64):
        send(channel, operator.pos, number)
    wait_until(lambda: len(swarm.tasks) == 65)


def test_threads_may_submit_together(make: Made) -> None:
    channel = make()
    results: list[list[int]] = []

    def work(base: int) -> None:
        results.append([send(channel, operator.pos, base + number).result(20) for number in range(100)])

    threads = [threading.Thread(target=work, args=(base * 1000,)) for base in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [[base * 1000 + number for number in range(100)] for base in range(6)]


def test_options_travel(make: Made, swarm: Toy) -> None:
    send(make(), operator.pos, 1, name="n", priority="high", timeout_s=3.0, retries=2, delivery="at-most-once").result(10)
    task = swarm.tasks[1]
    assert task.options == GivenOptions(name="n", priority="high", timeout_s=3.0, retries=2, delivery="at-most-once")


def test_a_refusal_is_the_error_itself(make: Made, swarm: Toy) -> None:
    swarm.full = True
    with pytest.raises(StorageFull, match="disk is full"):
        send(make(), operator.pos, 1).result(10)


def test_a_new_connection_heals_everything_that_was_under_way(make: Made, swarm: Toy) -> None:
    channel = make()
    swarm.holding = True
    accepted = [send(channel, operator.pos, number) for number in range(200)]
    wait_until(lambda: all(future.task_id for future in accepted))
    swarm.mute = True
    unheard = [send(channel, operator.pos, number) for number in range(200, 300)]
    wait_until(lambda: len(swarm.tasks) > 200)
    swarm.stop()
    offline = [send(channel, operator.pos, number) for number in range(300, 400)]
    swarm.mute = False
    swarm.start()
    wait_until(lambda: all(future.task_id for future in unheard + offline))
    swarm.do(swarm.release)
    assert [future.result(20) for future in accepted + unheard + offline] == list(range(400))
    assert len(swarm.tasks) == 400, "nothing was taken in twice"
    assert swarm.repeated > 0, "what was accepted unheard was sent again under its own name"


def test_ends_told_while_nobody_listened_are_told_again(make: Made, swarm: Toy) -> None:
    channel = make()
    swarm.holding = True
    future = send(channel, operator.pos, 7)
    wait_until(lambda: future.task_id)
    swarm.stop()
    swarm.release()
    swarm.start()
    assert future.result(10) == 7


def test_many_short_lives_of_the_controller(make: Made, swarm: Toy) -> None:
    channel = make()
    futures: list[TaskFuture[Any]] = []
    for _ in range(6):
        futures += [send(channel, operator.pos, number) for number in range(len(futures), len(futures) + 50)]
        swarm.stop()
        swarm.start()
    assert [future.result(20) for future in futures] == list(range(300))
    assert len(swarm.tasks) == 300


def test_a_swarm_taken_down_ends_every_future(make: Made, swarm: Toy) -> None:
    gone = threading.Event()

    def reach() -> socket.socket:
        if gone.is_set():
            raise SwarmGone("was taken down")
        return open_socket(swarm.layout)

    channel = make(reach)
    swarm.holding = True
    future = send(channel, operator.pos, 1)
    wait_until(lambda: future.task_id)
    gone.set()
    swarm.stop()
    with pytest.raises(SwarmGone, match="taken down"):
        future.result(10)
    with pytest.raises(SwarmGone, match="taken down"):
        send(channel, operator.pos, 2)


def test_a_swarm_that_stays_out_of_reach_is_given_up(make: Made, swarm: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier_module, "GIVE_UP_S", 0.1)
    channel = make()
    swarm.holding = True
    future = send(channel, operator.pos, 1)
    swarm.stop()
    with pytest.raises(SwarmGone, match="cannot be reached"):
        future.result(10)


def test_a_controller_of_another_version_fails_the_futures_and_is_not_asked_for_ever(make: Made, swarm: Toy) -> None:
    channel = make()
    swarm.holding = True
    future = send(channel, operator.pos, 1)
    wait_until(lambda: swarm.clients)
    peer = next(iter(swarm.clients.values()))
    swarm.do(lambda: peer._send(b"\xc1\x01\x00\x00\x00\x07"))
    with pytest.raises(SwarmGone, match="do not understand each other"):
        future.result(10)


def test_cancel_takes_back_what_is_queued_and_nothing_else(make: Made, swarm: Toy) -> None:
    channel = make()
    done = send(channel, operator.pos, 0)
    assert done.result(10) == 0
    swarm.holding = True
    queued = [send(channel, operator.pos, number) for number in range(1, 4)]
    wait_until(lambda: queued[0].task_id)
    assert queued[1].cancel() and queued[1].cancelled()
    assert not done.cancel()
    swarm.do(swarm.release)
    assert [queued[0].result(10), queued[2].result(10)] == [1, 3]
    with pytest.raises(CancelledError):
        queued[1].result(0)
    assert channel.wait_idle(5)


def test_cancel_of_what_was_never_sent_asks_nobody(make: Made, swarm: Toy) -> None:
    channel = make()
    swarm.mute = True
    first, second = send(channel, operator.pos, 1), send(channel, operator.pos, 2)
    wait_until(lambda: len(swarm.tasks) == 1)
    assert second.cancel()
    assert not swarm.heard
    assert channel.pending() == [first]


def test_callbacks_may_submit_and_cancel(make: Made, swarm: Toy) -> None:
    channel = make()
    seen: list[int] = []
    finished = threading.Event()

    def again(future: TaskFuture[Any]) -> None:
        seen.append(future.result())
        if future.result() < 5:
            send(channel, operator.pos, future.result() + 1).add_done_callback(again)  # type: ignore[arg-type]
        else:
            send(channel, operator.pos, 99).cancel()
            finished.set()

    send(channel, operator.pos, 0).add_done_callback(again)  # type: ignore[arg-type]
    assert finished.wait(20)
    assert seen == [0, 1, 2, 3, 4, 5]


def test_submit_waits_while_far_too_many_are_unaccepted(make: Made, swarm: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier_module, "MAX_UNACCEPTED", 100)
    channel = make()
    swarm.mute = True
    handed: list[TaskFuture[Any]] = []
    thread = threading.Thread(target=lambda: handed.extend(send(channel, operator.pos, number) for number in range(150)))
    thread.start()
    wait_until(lambda: len(swarm.tasks) == 100)
    assert thread.is_alive()
    swarm.mute = False
    swarm.stop()
    swarm.start()
    thread.join(10)
    assert [future.result(10) for future in handed] == list(range(150))


def test_a_large_backlog_goes_out_although_the_socket_is_full(make: Made, swarm: Toy) -> None:
    channel = make()
    gate = threading.Event()
    swarm.do(lambda: gate.wait(20))  # the controller does not read for a while
    futures = [send(channel, len, bytes(60_000)) for _ in range(300)]
    gate.set()
    assert {future.result(30) for future in futures} == {60_000}


def test_close_ends_what_is_open_and_is_harmless_twice(make: Made, swarm: Toy) -> None:
    channel = make()
    swarm.holding = True
    future = send(channel, operator.pos, 1)
    channel.close(SwarmGone("left"))
    channel.close(SwarmGone("left"))
    with pytest.raises(SwarmGone, match="left"):
        future.result(0)
    other = make()
    future = send(other, operator.pos, 1)
    other.close(SwarmGone("left"), cancel=True)
    assert future.cancelled()
    wait_until(lambda: len(swarm.closed) == 2)


def test_a_forked_child_leaves_the_parents_connection_alone(make: Made, swarm: Toy) -> None:
    channel = make()
    swarm.holding = True
    future = send(channel, operator.pos, 7)
    wait_until(lambda: future.task_id)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 on: a fork beside threads; that is what is tried here
        child = os.fork()
    if child == 0:
        code = 0
        try:
            future.result(0)
            code = 1
        except SwarmGone as error:
            code = 0 if "forked" in str(error) else 2
        try:
            send(channel, operator.pos, 8)
            code = 3
        except SwarmGone:
            pass
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    swarm.do(swarm.release)
    assert future.result(10) == 7
    assert send(channel, operator.pos, 9).task_id or True
    assert not swarm.closed


def test_one_submit_to_its_result_takes_no_longer_than_a_moment(make: Made) -> None:
    """Not a benchmark: a stall (a missed wake-up, a gathered submit nobody flushes) costs far more than this."""
    channel = make()
    taken = []
    for number in range(200):
        begun = time.perf_counter()
        assert send(channel, operator.pos, number).result(5) == number
        taken.append(time.perf_counter() - begun)
    assert sorted(taken)[100] < 0.02
