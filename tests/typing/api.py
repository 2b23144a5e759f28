"""What a type checker is to see of the Python API; checked by mypy, never run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Executor as StandardExecutor
from concurrent.futures import Future
from typing import Any, assert_type

from tmax import Executor, Swarm
from tmax.api.future import TaskFuture
from tmax.api.outcomes import ExitStatus
from tmax.api.submission import View
from tmax.core.snapshot import Snapshot, WorkerView


def length(text: str, *, extra: int = 0) -> int:
    return len(text) + extra


with Swarm(workers=4, preload=["numpy"], pool=1, durability="normal") as swarm:
    assert_type(swarm, Swarm)
    future = swarm.submit(length, "abc", extra=1)
    assert_type(future, TaskFuture[int])
    assert_type(future.result(), int)
    assert_type(future.task_id, int | None)
    assert_type(future.cancel(), bool)
    standard: Future[int] = future
    executor: StandardExecutor = swarm
    assert_type(swarm.map(length, ["a", "b"], chunksize=2, timeout=1.5), Iterator[int])
    view = swarm.options(name="n", priority="high", timeout=3, retries=1, deliveries=2, idempotent=False)
    assert_type(view, View)
    assert_type(view.submit(length, "abc").result(), int)
    assert_type(swarm.shell(["true"], env={"A": "b"}).result(), ExitStatus)
    assert_type(swarm.kernel("matmul", n=5, device="cpu").result(), dict[str, Any])
    assert_type(swarm.status(), Snapshot)
    assert_type(swarm.workers(), tuple[WorkerView, ...])

    swarm.submit(length, 5)  # type: ignore[arg-type]
    swarm.submit(length, "abc", wrong=1)  # type: ignore[call-arg]
    swarm.options(priority="urgent")  # type: ignore[arg-type]
    swarm.options(bogus=1)  # type: ignore[call-arg]
    swarm.shell("true", split="no")  # type: ignore[arg-type]
    swarm.kernel("matmul", device="tpu")  # type: ignore[arg-type]

assert_type(Swarm.connect("mine"), Swarm)
assert_type(Executor(8), Executor)


async def ask(executor: Swarm) -> int:
    return await asyncio.get_running_loop().run_in_executor(executor, length, "abc")
