"""A process that commits until it dies or the store refuses, and says on stdout what was acknowledged.

    python store_child.py STATE RUNTIME CHECKPOINT_BYTES COMMITS [DURABILITY]

Lines: ``opened``; ``new FIRST LAST`` and ``end FIRST LAST`` once such a commit is acknowledged; ``full``; ``error WHAT`` and the
answer of one more try; ``refused CODE`` when it could not be opened; ``closed``.
"""

from __future__ import annotations

import os
import queue
import sys

from msgspec.structs import replace

from tmax.core.events import Changes
from tmax.core.model import Task, TaskState
from tmax.core.settings import StoreSettings
from tmax.errors import StorageFull, StoreError
from tmax.layout import Layout
from tmax.storage import writer
from tmax.storage.store import Store
from tmax.storage.task_store import CommitResult
from tmax_pipes.jobs import ShellJob

GROUP = 7


def say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def task_of(number: int) -> Task:
    return Task(id=number, job=ShellJob(argv=(b"x" * (number % 3000),)), kind="shell", submitted_at=float(number), request_id=f"r{number}")


def end_of(number: int) -> Task:
    return replace(task_of(number), state=TaskState.DONE, ended_at=float(number), attempt=1, ran_on="w1")


def main() -> None:
    state, runtime, checkpoint, commits, *durability = sys.argv[1:]
    writer.CHECKPOINT_BYTES = int(checkpoint)
    settings = StoreSettings(ballast_bytes=65536, durability="normal" if durability else "full")
    try:
        store = Store.open(Layout("s", state, runtime), settings)
    except StoreError as error:
        say(f"refused {int(error.exit_code)} {error}")
        return
    first = store.load().next_task
    say("opened")
    answers: queue.SimpleQueue[CommitResult] = queue.SimpleQueue()

    def acknowledged(changes: Changes, line: str) -> bool:
        def done(result: CommitResult) -> None:
            if result.ok:
                say(line)
            answers.put(result)

        at_once = store.commit_now(changes)
        if at_once is None:
            store.commit(changes, done)
        else:
            done(at_once)
        result = answers.get()
        if isinstance(result.error, StorageFull):
            say("full")
        elif result.error is not None:
            say(f"error {result.error}")
            store.commit(Changes(meta={"again": "yes"}), answers.put)
            again = answers.get()
            say(f"again {again.error is result.error and not again.ok}")
        return result.ok

    for start in range(first, first + int(commits) * GROUP, GROUP):
        numbers = range(start, start + GROUP)
        if not acknowledged(Changes(new_tasks=tuple(map(task_of, numbers)), meta={"last": str(start)}), f"new {start} {numbers[-1]}"):
            break
        if start % 2 and not acknowledged(Changes(tasks=tuple(map(end_of, numbers))), f"end {start} {numbers[-1]}"):
            break
    try:
        store.close()
        say("closed")
    except StoreError as error:
        say(f"error {error}")


if __name__ == "__main__":
    main()
