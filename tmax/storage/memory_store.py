"""A store in memory, with the answers of the real one. For simulations and tests.

``done`` is called before ``commit``, ``read`` and ``trim`` return, on the caller's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from tmax.core.events import Changes
from tmax.core.model import LifeRecord, Task
from tmax.errors import StoreError
from tmax.storage.task_rows import digests_of
from tmax.storage.task_store import CommitResult, LoadedState, Reader

T = TypeVar("T")


class MemoryReader:
    """``tmax.storage.task_store.Reader`` over dictionaries."""

    def __init__(self) -> None:
        self.kept: dict[int, Task] = {}
        self.lives: dict[int, LifeRecord] = {}
        self.meta: dict[str, str] = {}
        self.trimmed: dict[str, int] = {}
        self.highest = 0

    def loaded(self) -> LoadedState:
        """Everything that has not ended, and the counters."""
        counts = dict(self.trimmed)
        for task in self.kept.values():
            if task.ended:
                counts[task.state.value] = counts.get(task.state.value, 0) + 1
        return LoadedState(
            tasks=[task for _, task in sorted(self.kept.items()) if not task.ended],
            lives=[life for _, life in sorted(self.lives.items()) if life.alive],
            meta=dict(self.meta),
            next_task=max(max(self.kept, default=0), self.highest) + 1,
            next_life=max(self.lives, default=0) + 1,
            counts=counts,
        )

    def task(self, id: int) -> Task | None:  # noqa: A002 - the name in the CLI
        """The task, or None."""
        return self.kept.get(id)

    def tasks(self, ids: Sequence[int]) -> dict[int, Task]:
        """Those that exist, by id."""
        return {number: self.kept[number] for number in ids if number in self.kept}

    def requests(self, request_ids: Sequence[str]) -> dict[str, int]:
        """The task of each request id that is known."""
        wanted = set(request_ids) - {""}
        return {task.request_id: task.id for task in self.kept.values() if task.request_id in wanted}

    def ended(self, limit: int, states: Collection[str] | None = None, before: int | None = None) -> list[Task]:
        """Ended tasks, the one that ended last first."""
        found = self.by_end()
        if before is not None:
            ids = [task.id for task in found]
            found = found[ids.index(before) + 1 :] if before in ids else []
        return [task for task in found if states is None or task.state in states][: max(limit, 0)]

    def named(self, name: str) -> int:
        """The newest task of this name that has not ended, else the newest that has; 0 when there is none."""
        return max(((not task.ended, task.id) for task in self.kept.values() if name and task.options.name == name), default=(False, 0))[1]

    def last_ids(self, n: int) -> list[int]:
        """The ``n`` highest ids, newest first."""
        return sorted(self.kept, reverse=True)[: max(n, 0)]

    def unreferenced(self, digests: Sequence[str]) -> list[str]:
        """Which of these blobs no kept task names."""
        known = {digest for task in self.kept.values() for digest in digests_of(task)}
        return [digest for digest in digests if digest not in known]

    def by_end(self) -> list[Task]:
        """Ended tasks, the one that ended last first."""
        return sorted((task for task in self.kept.values() if task.ended), key=lambda task: (task.ended_at, task.id), reverse=True)


class MemoryStore:
    """``tmax.storage.task_store.TaskStore`` in memory."""

    def __init__(self) -> None:
        self._reader = MemoryReader()
        self._closed = False
        self._broken: StoreError | None = None
        self.full = False
        """Settable, to test the intake."""
        self.removed = False

    def load(self) -> LoadedState:
        """Return the state now."""
        return self._reader.loaded()

    def commit_now(self, changes: Changes) -> CommitResult:
        """Store all changes or none."""
        self._check_open()
        error = self._broken = self._broken or self._wrong(changes)
        if error is None:
            self._reader.kept.update((task.id, task) for task in (*changes.new_tasks, *changes.tasks))
            self._reader.lives.update((life.life, life) for life in changes.lives)
            self._reader.meta.update(changes.meta)
        return CommitResult(ok=error is None, error=error)

    def commit(self, changes: Changes, done: Callable[[CommitResult], None]) -> None:
        """Store all changes or none, then call ``done``."""
        done(self.commit_now(changes))

    def read(self, query: Callable[[Reader], T], done: Callable[[T | StoreError], None]) -> None:
        """Answer ``query``."""
        self._check_open()
        try:
            answer: T | StoreError = query(self._reader)
        except Exception as error:  # any: the query is the caller's code, and the caller waits for a result
            answer = StoreError(f"a query of the store failed: {error!r}")
        done(answer)

    def trim(self, keep: int, done: Callable[[list[int] | StoreError], None]) -> None:
        """Forget ended tasks beyond the ``keep`` that ended last."""
        self._check_open()
        reader = self._reader
        beyond = reader.by_end()[max(keep, 0) :]
        for task in beyond:
            reader.trimmed[task.state.value] = reader.trimmed.get(task.state.value, 0) + 1
            reader.highest = max(reader.highest, task.id)
            del reader.kept[task.id]
        done([task.id for task in beyond])

    def close(self, snapshot: bool = False) -> None:
        """Refuse every later call. A second call is harmless."""
        self._closed = True

    def _wrong(self, changes: Changes) -> StoreError | None:
        kept = self._reader.kept
        known = {task.request_id for task in kept.values()} - {""}
        for task in changes.new_tasks:
            if task.id in kept or task.request_id in known:
                return StoreError(f"task {task.id} (request {task.request_id!r}) is already in the store")
        missing = sum(task.id not in kept for task in changes.tasks)
        return StoreError(f"{missing} of {len(changes.tasks)} changed tasks are not in the store") if missing else None

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed")
