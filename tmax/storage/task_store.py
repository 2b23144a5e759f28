"""The interface between controller and store.

Two classes implement it: ``tmax.storage.store.Store`` (SQLite) and ``tmax.storage.memory_store.MemoryStore``;
``tests/contract/test_store.py`` holds both to the same behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from tmax.core.events import Changes
from tmax.core.model import LifeRecord, Task
from tmax.errors import StoreError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitResult:
    """The result of one commit. ``ok``: all of it is durable. Otherwise a StorageFull means that nothing of it was written."""

    ok: bool
    error: StoreError | None = None
    seconds: float = 0.0
    """How long the writer worked on it, the wait in the queue not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedState:
    """The state that a new controller loads."""

    tasks: list[Task] = field(default_factory=list)
    """Those that have not ended, by id."""
    lives: list[LifeRecord] = field(default_factory=list)
    """Those with ``alive``, by life."""
    meta: dict[str, str] = field(default_factory=dict)
    next_task: int = 1
    """Greater than any id ever used, trimmed ones included."""
    next_life: int = 1
    counts: dict[str, int] = field(default_factory=dict)
    """How many tasks ever ended in each state, trimmed ones included."""


class Reader(Protocol):
    """Queries of committed state. Every method may raise StoreError."""

    def loaded(self) -> LoadedState:
        """Everything that has not ended, and the counters."""

    def task(self, id: int) -> Task | None:  # noqa: A002 - the name in the CLI
        """The task, or None when there is none of this id (any more)."""

    def tasks(self, ids: Sequence[int]) -> dict[int, Task]:
        """Those that exist, by id."""

    def requests(self, request_ids: Sequence[str]) -> dict[str, int]:
        """The task of each request id that is known."""

    def ended(self, limit: int, states: Collection[str] | None = None, before: int | None = None) -> list[Task]:
        """Ended tasks, the one that ended last first; ``states``: only these; ``before``: only those that ended before this task.

        Nothing when ``before`` is unknown or has not ended: what is trimmed is always the oldest, so nothing older is left either.
        """

    def named(self, name: str) -> int:
        """The newest task of this name that has not ended, else the newest that has; 0 when there is none."""

    def last_ids(self, n: int) -> list[int]:
        """The ``n`` highest ids, newest first."""

    def unreferenced(self, digests: Sequence[str]) -> list[str]:
        """Which of these blobs no kept task names, neither as body nor as result: their files may go once they are old."""


class TaskStore(Protocol):
    """Stores tasks, lives and metadata. One owner calls it; the store calls ``done`` on a thread of its choice."""

    @property
    def full(self) -> bool:
        """True from the first failed write until there is space again: accept no new task."""

    @property
    def removed(self) -> bool:
        """True when the stored file was removed: accept no new task."""

    def load(self) -> LoadedState:
        """Return the state now. Raises StoreError."""

    def commit_now(self, changes: Changes) -> CommitResult | None:
        """Write all of it or nothing before it returns; None: it would have to wait, and nothing was written."""

    def commit(self, changes: Changes, done: Callable[[CommitResult], None]) -> None:
        """Write all of it or nothing; then call ``done``."""

    def read(self, query: Callable[[Reader], T], done: Callable[[T | StoreError], None]) -> None:
        """Run ``query`` after all earlier commits."""

    def trim(self, keep: int, done: Callable[[list[int] | StoreError], None]) -> None:
        """Forget ended tasks beyond the ``keep`` that ended last; ``done`` gets the ids that are gone."""

    def close(self, snapshot: bool = False) -> None:
        """Finish queued work, then close. A second call is harmless."""
