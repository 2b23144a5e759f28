"""What a link needs of a byte carrier, asked of every carrier: the FIFOs and the Unix socket."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.wait import wait_until
from tmax_pipes.fifo import ControllerFifos, WorkerFifos
from tmax_pipes.frame import encode
from tmax_pipes.jobs import PythonJob
from tmax_pipes.messages import Beat, Done, Go, Hello, Message, Recall, Recalled, Report, Run, Started, Stop, Stored, Who
from tmax_pipes.pipe_errors import ConnectionEnded, FrameError, PipeError
from tmax_pipes.sockets import SocketTransport
from tmax_pipes.transport import Lane, Transport, lane_of
from tmax_pipes.wire import Wire

SIZES = [0, 1, 4095, 4096, 4097, 65535, 65536, 65537, 1024 * 1024]
MIB = 1024 * 1024


@dataclass
class Ends:
    """Both ends of one connection."""

    controller: Transport
    worker: Transport

    def close(self) -> None:
        self.controller.close()
        self.worker.close()


def fifo_ends(folder: Path) -> Ends:
    worker = WorkerFifos.create(folder, 1)
    controller = ControllerFifos.open(worker.folder)
    worker.open_results()
    return Ends(controller, worker)


def socket_ends(_folder: Path) -> Ends:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return Ends(SocketTransport(one, "controller"), SocketTransport(other, "worker"))


@pytest.fixture(params=[fifo_ends, socket_ends], ids=["fifo", "socket"])
def make(request: pytest.FixtureRequest) -> Callable[[Path], Ends]:
    made: Callable[[Path], Ends] = request.param
    return made


@pytest.fixture
def ends(make: Callable[[Path], Ends], tmp_path: Path) -> Iterator[Ends]:
    both = make(tmp_path)
    yield both
    both.close()


def pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def readable(transport: Transport, wait_s: float = 0.0) -> bool:
    return bool(select.select(transport.read_fds(), [], [], wait_s)[0])


def carried(source: Transport, target: Transport, count: int) -> dict[Lane, bytes]:
    """Let ``count`` bytes arrive, woken by readiness only: an owner's loop in small."""
    got: dict[Lane, bytearray] = {}
    while sum(map(len, got.values())) < count:
        ready = select.select(target.read_fds(), source.write_fds(), [], 10)
        assert any(ready), f"nothing moves any more: {count} wanted, {got.keys()}"
        if ready[1]:
            source.flush()
        for lane, data in target.read():
            got.setdefault(lane, bytearray()).extend(data)
    return {lane: bytes(data) for lane, data in got.items()}


def end_of(transport: Transport) -> bytes:
    """Read until the end is told; return what came before it.  Readiness must announce the end: no polling."""
    got = b""
    with pytest.raises(ConnectionEnded):
        while True:
            assert readable(transport, 10), "the end wakes nobody"
            got += b"".join(data for _lane, data in transport.read())
    return got


def test_nothing_has_arrived_yet(ends: Ends) -> None:
    for transport in (ends.controller, ends.worker):
        assert transport.read() == []
        assert transport.read() == []
        assert not readable(transport)
        assert not transport.wants_write
        assert transport.write_fds() == ()


@pytest.mark.parametrize("size", SIZES)
def test_payload_arrives_whole_on_its_lane(ends: Ends, size: int) -> None:
    data = pattern(size)
    lanes: list[tuple[Transport, Transport, Lane]] = [
        (ends.controller, ends.worker, "tasks"),
        (ends.controller, ends.worker, "control"),
        (ends.worker, ends.controller, "results"),
    ]
    for source, target, lane in lanes:
        source.write(lane, data)
        assert carried(source, target, size) == ({lane: data} if size else {})
        assert not source.wants_write
        assert source.backlog_bytes == 0


def test_lanes_do_not_mix(ends: Ends) -> None:
    for number in range(50):
        ends.controller.write("tasks", b"T%02d" % number)
        ends.controller.write("control", b"c%02d" % number)
    got = carried(ends.controller, ends.worker, 300)
    assert got["tasks"] == b"".join(b"T%02d" % number for number in range(50))
    assert got["control"] == b"".join(b"c%02d" % number for number in range(50))


def test_tasks_are_handed_out_before_control(ends: Ends) -> None:
    ends.controller.write("tasks", b"run")
    ends.controller.write("control", b"recall")
    assert ends.worker.read() == [("tasks", b"run"), ("control", b"recall")]


def test_a_full_carrier_queues_and_never_blocks(ends: Ends) -> None:
    data = pattern(3 * MIB)
    ends.controller.write("tasks", data)
    assert ends.controller.wants_write
    assert 0 < ends.controller.backlog_bytes <= 3 * MIB + 64
    ends.controller.flush()
    ends.controller.write("tasks", b"behind")
    assert carried(ends.controller, ends.worker, len(data) + 6) == {"tasks": data + b"behind"}
    assert not ends.controller.wants_write


def test_a_full_carrier_wakes_only_when_there_is_room(ends: Ends) -> None:
    ends.controller.write("tasks", pattern(3 * MIB))
    assert select.select([], ends.controller.write_fds(), [], 0)[1] == []
    ends.worker.read()
    assert select.select([], ends.controller.write_fds(), [], 10)[1]


def test_control_reaches_a_worker_whose_tasks_are_full(ends: Ends) -> None:
    ends.controller.write("tasks", pattern(3 * MIB))
    ends.controller.write("control", b"stop")
    before = bytearray()
    control = b""
    while not control:
        ready = select.select(ends.worker.read_fds(), ends.controller.write_fds(), [], 10)
        assert any(ready)
        for lane, data in ends.worker.read():
            before += data if lane == "tasks" else b""
            control += data if lane == "control" else b""
        ends.controller.flush()
    assert control == b"stop"
    assert len(before) < MIB, "control waited for the whole backlog of tasks"


def test_both_ways_full_is_no_deadlock(ends: Ends) -> None:
    out, back = pattern(2 * MIB), pattern(2 * MIB + 7)
    ends.controller.write("tasks", out)
    ends.worker.write("results", back)
    assert ends.controller.wants_write
    assert ends.worker.wants_write
    got_out, got_back = bytearray(), bytearray()

    def moved() -> bool:
        for transport, got in ((ends.worker, got_out), (ends.controller, got_back)):
            transport.flush()
            got.extend(b"".join(data for _lane, data in transport.read()))
        return len(got_out) + len(got_back) == len(out) + len(back)

    wait_until(moved, step_s=0)
    assert bytes(got_out) == out
    assert bytes(got_back) == back


def test_end_is_told_after_what_was_written(ends: Ends) -> None:
    ends.worker.write("results", b"last words")
    ends.worker.close()
    assert end_of(ends.controller) == b"last words"


def test_end_is_told_to_a_worker_too(ends: Ends) -> None:
    ends.controller.write("tasks", b"a")
    ends.controller.write("control", b"b")
    ends.controller.close()
    assert sorted(end_of(ends.worker)) == sorted(b"ab")


def test_end_without_a_word_is_told(ends: Ends) -> None:
    """The other end came and went before it wrote a byte: level-triggered readiness would spin for ever."""
    ends.controller.close()
    assert end_of(ends.worker) == b""


def test_end_keeps_being_told(ends: Ends) -> None:
    ends.worker.close()
    for _ in range(3):
        with pytest.raises(ConnectionEnded):
            ends.controller.read()


def test_write_to_nobody(ends: Ends) -> None:
    ends.worker.close()
    with pytest.raises(ConnectionEnded):
        ends.controller.write("tasks", b"x")


def test_other_end_goes_while_much_is_queued(ends: Ends) -> None:
    ends.controller.write("tasks", pattern(3 * MIB))
    ends.worker.close()
    assert select.select([], ends.controller.write_fds(), [], 10)[1], "the end wakes nobody"
    with pytest.raises(ConnectionEnded):
        ends.controller.flush()


def test_what_was_written_can_be_read_although_writing_failed(ends: Ends) -> None:
    ends.worker.write("results", b"done")
    ends.worker.close()
    with pytest.raises(ConnectionEnded):
        ends.controller.write("tasks", b"x")
    assert end_of(ends.controller) == b"done"


def test_close_twice_then_everything_is_over(ends: Ends) -> None:
    ends.controller.write("tasks", pattern(3 * MIB))
    for _ in range(2):
        ends.controller.close()
    assert ends.controller.fds() == ()
    assert ends.controller.read_fds() == ()
    assert not ends.controller.wants_write
    for call in (ends.controller.read, lambda: ends.controller.write("tasks", b"x")):
        with pytest.raises(ConnectionEnded):
            call()


def test_descriptors_are_not_inherited_and_all_named(ends: Ends) -> None:
    for transport in (ends.controller, ends.worker):
        assert set(transport.read_fds()) <= set(transport.fds())
        for fd in transport.fds():
            assert not os.get_inheritable(fd)


def test_wrong_lane_is_our_own_mistake(ends: Ends) -> None:
    with pytest.raises(PipeError):
        ends.controller.write("results", b"x")
    with pytest.raises(PipeError):
        ends.worker.write("tasks", b"x")


# -- messages over it ------------------------------------------------------------------------------


def test_each_message_has_its_lane() -> None:
    assert lane_of(Run(task=1, attempt=1, job=PythonJob(call=b"", label=""))) == "tasks"
    for message in (Who(epoch=1, swarm="", worker=""), Go(task=1, attempt=1), Recall(task=1, attempt=1), Stored(keys=()), Stop()):
        assert lane_of(message) == "control"
    answers: list[Message] = [
        Hello(life=1, pid=1, ticks=1, protocol=1, python=""),
        Started(task=1, attempt=1),
        Recalled(task=1, attempt=1),
        Done(task=1, attempt=1, report=Report()),
        Beat(),
    ]
    assert {lane_of(message) for message in answers} == {"results"}


def test_conversation_in_frames(ends: Ends) -> None:
    controller, worker = Wire(ends.controller, "controller", epoch=7), Wire(ends.worker, "worker")
    controller.send(Who(epoch=7, swarm="s", worker="w1"))
    controller.flush()
    [(epoch, who)] = wait_until(worker.receive)
    assert isinstance(who, Who)
    worker.epoch = epoch
    answers = [Done(task=number, attempt=1, report=Report(), result=pattern(3000)) for number in range(400)]
    worker.send(*answers)
    worker.flush()
    assert ends.worker.wants_write, "more than the carrier holds"
    heard: list[tuple[int, Message]] = []

    def all_heard() -> bool:
        heard.extend(controller.receive())
        worker.flush()
        return len(heard) == 400

    wait_until(all_heard, step_s=0)
    assert heard == [(7, answer) for answer in answers]
    controller.close()
    controller.close()
    assert end_of(ends.worker) == b""


def test_a_message_that_fits_no_frame_meets_who_said_it(ends: Ends) -> None:
    controller, worker = Wire(ends.controller, "controller", epoch=7), Wire(ends.worker, "worker")
    controller.send(Go(task=1, attempt=1))
    with pytest.raises(FrameError):
        controller.send(Run(task=2, attempt=1, job=PythonJob(call=bytes(2 * MIB), label="")))
    controller.send(Go(task=3, attempt=1))
    controller.flush()
    assert wait_until(worker.receive) == [(7, Go(task=1, attempt=1)), (7, Go(task=3, attempt=1))]


def test_a_message_of_the_wrong_direction_ends_the_conversation(ends: Ends) -> None:
    worker = Wire(ends.worker, "worker")
    ends.controller.write("control", encode(Beat(), 7))
    with pytest.raises(FrameError):
        wait_until(worker.receive)
