"""Whatever a task does to its standard streams, it has its output, and the next one prints."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

import cloudpickle
import pytest

from tests.integration.workers.harness import Bench, call, run
from tests.integration.workers.test_python_jobs import value_of
from tmax_pipes.messages import Recalled

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def wrapped() -> None:
    import io

    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
    print("said", end="")


def detached() -> None:
    print("said", end="")
    sys.stdout.detach()


def detached_and_held() -> None:
    sys.held = sys.stdout.detach()  # type: ignore[attr-defined]
    sys.held.write(b"said")  # type: ignore[attr-defined]


def removed() -> None:
    print("said", end="")
    del sys.stdout


def closed() -> None:
    print("said", end="")
    sys.stdout.close()


def descriptor_closed() -> None:
    print("said", end="")
    os.close(1)
    os.close(2)


def without_flush() -> None:
    print("said", end="")
    sys.stdout = object()  # type: ignore[assignment]


def flush_that_leaves() -> None:
    class Leaves:
        def flush(self) -> None:
            os.write(1, b"said")
            raise SystemExit(3)

    sys.stdout = Leaves()  # type: ignore[assignment]


def own_flush() -> None:
    print("said", end="")
    sys.stdout.flush = lambda: 1 / 0  # type: ignore[method-assign, assignment, return-value]


def reconfigured() -> None:
    print("said", end="")
    sys.stdout.reconfigure(encoding="utf-16", line_buffering=False)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "mess",
    [
        wrapped,
        detached,
        detached_and_held,
        removed,
        closed,
        descriptor_closed,
        without_flush,
        flush_that_leaves,
        own_flush,
        reconfigured,
    ],
)
def test_a_task_that_breaks_its_streams_has_its_output_and_the_next_one_prints(worker: Bench, mess: Callable[[], None]):
    worker.say(run(1, call(mess)), run(2, call(lambda: print("näch", "ste"))), run(3, call(lambda: sys.stderr.write("err\n"))))
    assert worker.done(1).report.tail == b"said"
    assert worker.done(2).report.tail == "näch ste\n".encode()
    assert worker.done(3).report.tail == b"err\n"


def test_a_flush_that_never_returns_costs_the_worker_and_not_the_task(worker: Bench):
    class Blocks:
        def flush(self) -> None:
            threading.Event().wait()

    def block() -> str:
        print("said")
        sys.stdout = Blocks()  # type: ignore[assignment]
        return "result"

    worker.say(run(1, call(block)), run(2, call(int)))
    assert value_of(worker, 1) == "result"
    assert worker.done(1).report.tail == b"said\n"
    assert worker.wait(Recalled, lambda one: one.task == 2).why == "stale"
