"""A place for a store, tasks to put in it, and calls that wait for their answer."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tests.wait import wait_until
from tmax.core.events import Changes
from tmax.core.model import Crash, Lease, LifeRecord, Outcome, Task, TaskState
from tmax.core.settings import StoreSettings
from tmax.errors import StoreError
from tmax.layout import Layout
from tmax.storage.store import Store
from tmax.storage.task_store import CommitResult, TaskStore
from tmax_pipes.jobs import Job, ShellJob
from tmax_pipes.messages import Failure, Report

ANSWER_S = 30.0
QUIET = StoreSettings(ballast_bytes=0)
"""No ballast: most tests need none, and 16 MiB a test are 16 MiB a test."""


def place(folder: Path, swarm: str = "s") -> Layout:
    layout = Layout(swarm, str(folder / swarm), str(folder / "run"))
    os.makedirs(layout.state, mode=0o700, exist_ok=True)
    os.chmod(layout.state, 0o700)
    return layout


def open_store(layout: Layout, settings: StoreSettings = QUIET) -> Store:
    return Store.open(layout, settings)


def new(number: int, job: Job | None = None, **fields: Any) -> Task:
    return Task(id=number, job=job or ShellJob(argv=(b"echo", b"%d" % number)), kind="shell", submitted_at=1000.0 + number, **fields)


def sent(task: Task, life: int = 1) -> Task:
    lease = Lease(life=life, worker=f"w{life}", sent_at=2000.0, group=77)
    return replace(task, state=TaskState.SENT, attempt=task.attempt + 1, lease=lease)


def ended(task: Task, state: TaskState = TaskState.DONE, at: float = 3000.0) -> Task:
    return replace(task, state=state, lease=None, ended_at=at, outcome=Outcome(report=Report(duration_s=0.5, tail=b"out\xff")), ran_on="w1")


def rich(number: int) -> Task:
    """A task with every field away from its default."""
    return new(
        number,
        ShellJob(argv=(b"sh", b"-c", b"\xff\x00"), cwd=b"/tmp/\xfe", env={b"A": b"\xff"}, split=True),
        name="naïve ☂",
        request_id=f"r-{number}",
        priority="critical",
        delivery="at-most-once",
        timeout_s=1.5,
        retries=2,
        deliveries=7,
        grace_s=0.25,
        state=TaskState.FAILED,
        attempt=4,
        failures=3,
        crashes=(Crash(at=1.0, life=2, worker="w2", cause="killed by SIGSEGV", signal=11, peak_rss_bytes=1 << 40),),
        lease=Lease(life=3, worker="w3", sent_at=5.0, started_at=6.0, group=99),
        cancelling=True,
        solo=True,
        ended_at=8.5,
        outcome=Outcome(result=b"\x00\xff", form="pickle", failure=Failure(kind="exit", message="no", exit_code=3, hint="h")),
        ran_on="w3",
    )


def life(number: int, **fields: Any) -> LifeRecord:
    return LifeRecord(life=number, worker=f"w{number}", pid=100 + number, ticks=5, session=f"w{number}", started_at=1.0, **fields)


def commit(store: TaskStore, **changes: Any) -> CommitResult:
    return wait_for(lambda done: store.commit(Changes(**{k: v if k == "meta" else tuple(v) for k, v in changes.items()}), done))


def commit_now(store: TaskStore, **changes: Any) -> CommitResult:
    """A commit on this very thread, as soon as the store's own has nothing to do and the disk was quick."""
    made = Changes(**{k: v if k == "meta" else tuple(v) for k, v in changes.items()})
    return wait_until(lambda: store.commit_now(made))


def put(store: TaskStore, *tasks: Task) -> None:
    result = commit(store, new_tasks=tasks)
    assert result.ok, result.error


def ask(store: TaskStore, query: Callable[[Any], Any]) -> Any:
    return wait_for(lambda done: store.read(query, done))


def trim(store: TaskStore, keep: int) -> Any:
    return wait_for(lambda done: store.trim(keep, done))


def wait_for(call: Callable[[Callable[[Any], None]], None]) -> Any:
    box: queue.SimpleQueue[Any] = queue.SimpleQueue()
    call(box.put)
    return box.get(timeout=ANSWER_S)


def all_tasks(layout: Layout) -> dict[int, Task]:
    """Open, read every task, close."""
    store = open_store(layout)
    try:
        found = ask(store, lambda reader: reader.tasks(reader.between(0, 1 << 40)))
        if isinstance(found, StoreError):
            raise found
        return dict(found)
    finally:
        store.close()


def copies(layout: Layout) -> Sequence[str]:
    return sorted(name for name in os.listdir(layout.state) if ".corrupt-" in name)
