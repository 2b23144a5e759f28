"""Round trips and acknowledged messages a second of the FIFO link, beside multiprocessing.Pipe with the same messages in the same frames."""

from __future__ import annotations

import json
import multiprocessing
import os
import select
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from tests.bench.figures import Figure, Must, Row
from tests.bench.rounds import Sizes, in_child
from tests.box import Box
from tests.wait import wait_until
from tmax_pipes.fifo import ControllerFifos, WorkerFifos
from tmax_pipes.frame import Decoder, encode
from tmax_pipes.jobs import PythonJob
from tmax_pipes.messages import Done, Message, Report, Run
from tmax_pipes.pipe_errors import ConnectionEnded
from tmax_pipes.rendezvous import scan
from tmax_pipes.wire import Wire

TITLE = "link between controller and worker"
WINDOW = 256
JOB = PythonJob(call=bytes(100), label="module.function")
REPORT = Report()


class FifoEnd:
    """One end of the FIFO link, blocking."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._poll = select.poll()
        for fd in wire.transport.read_fds():
            self._poll.register(fd, select.POLLIN)

    def send(self, *messages: Message) -> None:
        """Send messages in one write."""
        self._wire.send(*messages)
        self._wire.flush()

    def receive(self) -> list[Message]:
        """Return what has arrived, after waiting for the first message."""
        while not (received := self._wire.receive()):
            self._poll.poll()
        return [message for _, message in received]


class PipeEnd:
    """One end of a multiprocessing.Pipe; a message is a packet."""

    def __init__(self, connection: Connection, kind: str) -> None:
        self._connection = connection
        self._kind = kind

    def send(self, *messages: Message) -> None:
        """Send messages, one by one, as a Pipe does."""
        for message in messages:
            self._connection.send_bytes(encode(message, 1))

    def receive(self) -> list[Message]:
        """Return the next message."""
        decoder = Decoder(self._kind)  # type: ignore[arg-type]  # one of the two kinds
        return [message for _, message in decoder.feed(self._connection.recv_bytes())]


End = FifoEnd | PipeEnd


def answer(end: End) -> None:
    """Answer every Run with its Done until the other end is closed."""
    try:
        while True:
            runs = [message for message in end.receive() if isinstance(message, Run)]
            end.send(*(Done(task=run.task, attempt=1, report=REPORT) for run in runs))
    except (ConnectionEnded, EOFError, OSError):
        pass


def _fifo_worker(folder: str) -> None:
    fifos = WorkerFifos.create(folder, 1)
    wait_until(lambda: _has_opened(fifos))
    answer(FifoEnd(Wire(fifos, "worker", epoch=1)))


def _has_opened(fifos: WorkerFifos) -> bool:
    try:
        fifos.open_results()
    except ConnectionEnded:
        return False
    return True


@contextmanager
def fifo_link() -> Iterator[End]:
    """A forked worker behind the FIFO link."""
    with tempfile.TemporaryDirectory(prefix="tmb-", dir="/tmp") as folder:
        process = multiprocessing.get_context("fork").Process(target=_fifo_worker, args=(folder,))
        process.start()
        [found] = wait_until(lambda: list(scan(folder)))
        wire = Wire(ControllerFifos.open(found.folder), "controller", epoch=1)
        try:
            yield FifoEnd(wire)
        finally:
            wire.close()
            process.join()


@contextmanager
def pipe() -> Iterator[End]:
    """A forked worker behind a multiprocessing.Pipe."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_pipe_worker, args=(ours, theirs))
    process.start()
    theirs.close()
    try:
        yield PipeEnd(ours, "from_worker")
    finally:
        ours.close()
        process.join()


def _pipe_worker(ours: Connection, theirs: Connection) -> None:
    ours.close()  # else the end of file never comes
    answer(PipeEnd(theirs, "to_worker"))


def round_trip_s(end: End, count: int) -> float:
    """Return the median seconds of one message and its answer."""
    taken = []
    for number in range(1, count + 1):
        begun = time.perf_counter()
        end.send(Run(task=number, attempt=1, job=JOB))
        end.receive()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def windowed_rate(end: End, count: int) -> float:
    """Return answered messages a second with WINDOW of them under way."""
    begun = time.perf_counter()
    sent = received = 0
    while received < count:
        room = min(WINDOW - (sent - received), count - sent)
        if room > 0:
            end.send(*(Run(task=sent + number, attempt=1, job=JOB) for number in range(1, room + 1)))
            sent += room
        received += len(end.receive())
    return count / (time.perf_counter() - begun)


def measure(rounds: int, trips: int, messages: int) -> dict[str, list[tuple[float, float]]]:
    """Return, for each way and round, the round trip and the rate."""
    ways: dict[str, Callable[[], object]] = {"fifo": fifo_link, "pipe": pipe}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            with way() as end:  # type: ignore[attr-defined]  # both are context managers
                round_trip_s(end, min(trips, 100))
                taken[name].append((round_trip_s(end, trips), windowed_rate(end, messages)))
    return taken


def run(sizes: Sizes) -> list[Row]:
    """Measure in a process of its own, as both ways fork."""
    box = Box()
    try:
        taken = in_child(box, "bench_link", sizes.rounds, sizes.size("trips", 4000, 20), sizes.size("messages", 40_000, 300))
    finally:
        box.close()
    columns = {name: tuple(zip(*pairs, strict=True)) for name, pairs in taken.items()}
    peer = "multiprocessing.Pipe"
    return [
        Figure(
            what="round trip of one message",
            unit="s",
            samples=columns["fifo"][0],
            peer=peer,
            peer_samples=columns["pipe"][0],
            target="P6",
            must=Must(comparison="<=", bound=0.8),
        ),
        Figure(
            what=f"acknowledged messages, window {WINDOW}",
            unit="messages/s",
            better="higher",
            samples=columns["fifo"][1],
            peer=peer,
            peer_samples=columns["pipe"][1],
            target="P6",
            must=Must(comparison=">=", bound=2.5),
        ),
    ]


if __name__ == "__main__":
    os.umask(0o077)
    print(json.dumps(measure(*map(int, sys.argv[1:]))))
