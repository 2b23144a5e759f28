"""Admission of tasks: whether they may be accepted now, and the commit that accepts them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tmax.controller.pending_answers import PendingAnswers
from tmax.controller.store_queries import StoreQueries
from tmax.core.events import Event, Submitted
from tmax.core.model import NewTask
from tmax.core.query import SwarmQuery
from tmax.errors import StorageFull, StoreError, TmaxError
from tmax.layout import Layout
from tmax.storage.store_errors import full, removed
from tmax.storage.task_store import TaskStore


class Admission:
    """Accepts tasks exactly once, or refuses them with the reason."""

    def __init__(
        self,
        query: SwarmQuery,
        *,
        store: TaskStore,
        queries: StoreQueries,
        answers: PendingAnswers,
        emit: Callable[[Event], None],
        layout: Layout,
    ) -> None:
        self._query = query
        self._store = store
        self._queries = queries
        self._answers = answers
        self._emit = emit
        self._layout = layout

    def check_open(self, tasks: Sequence[NewTask]) -> None:
        """Raise TmaxError when these cannot be accepted now; while the swarm goes down, only children of running tasks can."""
        if self._store.removed:
            error = removed(self._layout)
            raise StoreError(f"{error.message}; nothing new is accepted", hint=error.hint)
        if self._store.full:
            error = full(self._layout)
            raise StorageFull(f"{error.message}; nothing new is accepted", hint=error.hint)
        if self._query.is_leaving and not all(self._query.accepts_child_of(task.job.parent) for task in tasks):
            raise TmaxError("the swarm is going down; nothing new is accepted", hint="tmax init, then submit again")

    def accept(self, tasks: Sequence[NewTask], accepted: Callable[[tuple[int, ...]], None]) -> None:
        """Accept tasks that were never submitted before; ``accepted`` gets their numbers after the commit."""
        self._emit(Submitted(token=self._answers.expect_accepted(accepted), tasks=tuple(tasks)))

    def accept_once(
        self, tasks: Sequence[NewTask], accepted: Callable[[tuple[int, ...]], None], refused: Callable[[TmaxError], None]
    ) -> None:
        """As ``accept``, for tasks that may have been submitted before: these are looked up first, by their request ids."""
        named = [task.request_id for task in tasks if task.request_id]
        if not named:
            self.accept(tasks, accepted)
            return

        def go(known: dict[str, int]) -> None:
            try:
                self.check_open(tasks)  # again: the swarm, the disk or their parent may have changed during the lookup
            except TmaxError as error:
                refused(error)
                return
            self._emit(Submitted(token=self._answers.expect_accepted(accepted), tasks=tuple(tasks), known=known))

        self._queries.read(lambda reader: reader.requests(named), go, refused)
