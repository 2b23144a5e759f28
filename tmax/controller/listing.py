"""The verb ``ps``: lists running tasks, then waiting ones, then ended ones, however many there are.

    the scheduler's tasks --\
                             +--> slices: a table's rows, or JSON --> chunks of the reply
    the store, page by page-/

The listing takes many slices, so a task may end between two rows: each task is shown once, as it was when it was reached.
"""

from __future__ import annotations

from functools import partial

import msgspec

from tmax.control.server import Request
from tmax.controller import fields
from tmax.controller.chunked_reply import ChunkedReply
from tmax.controller.slices import Steps
from tmax.controller.store_queries import StoreQueries
from tmax.controller.views import task_view
from tmax.core import tables
from tmax.core.model import Task, TaskState
from tmax.core.query import SwarmQuery
from tmax.core.snapshot import SCHEMA_VERSION
from tmax.errors import UsageError
from tmax.storage.task_store import Reader

PAGE_ROWS = 200
"""Rows that are read from the store at once; commits wait for the read."""

DEFAULT_LIMIT = 50
"""Rows where the request names no limit."""


class Listing:
    """The reply to one ``ps``.  Raises UsageError for invalid fields."""

    def __init__(self, request: Request, query: SwarmQuery, queries: StoreQueries, *, now: float) -> None:
        """``now``: UTC epoch seconds, for the ages that a table shows."""
        self._request = request
        self._query = query
        self._queries = queries
        self._states = _states(request)
        self._left = fields.limit(request.fields.get("limit"), default=DEFAULT_LIMIT)
        self._seen: set[int] = set()
        self._table = tables.ps_table(*fields.terminal(request.fields)) if request.fields.get("text") else None
        self._now = now
        self._reply = ChunkedReply(request, "tasks" if self._table is None else "text")

    def steps(self) -> Steps[None]:
        """Make the reply and send it."""
        yield from self._live()
        if self._request.fields.get("all") or self._states is not None:
            yield from self._ended()
        if self._table is None:
            self._reply.end(schema_version=SCHEMA_VERSION)
            return
        for line in self._table.lines():
            self._reply.text(line)
            yield from self._reply.flow()
        self._reply.end()

    def _live(self) -> Steps[None]:
        for task in self._query.started():
            if self._take(task, ""):
                yield from self._reply.flow()
        for task, why in self._query.unstarted():
            if not self._left:
                return
            if self._take(task, why):
                yield from self._reply.flow()
            else:
                yield None

    def _ended(self) -> Steps[None]:
        before: int | None = None
        while self._left:
            count = min(PAGE_ROWS, self._left)
            page = yield from self._queries.steps(partial(_page, count, self._states, before))
            for task in page:
                self._take(task, "")
                yield from self._reply.flow()
            if len(page) < count:
                return
            before = page[-1].id

    def _take(self, task: Task, why: str) -> bool:
        """Add a task to the reply, if it is requested and not in it yet; return whether it was added."""
        if not self._left or task.id in self._seen or (self._states is not None and task.state not in self._states):
            return False
        self._seen.add(task.id)
        self._left -= 1
        view = task_view(task, why)
        if self._table is None:
            self._reply.value(msgspec.json.encode(view))
        else:
            self._table.add(tables.task_row(view, self._now))
        return True


def _page(count: int, states: set[str] | None, before: int | None, reader: Reader) -> list[Task]:
    return reader.ended(count, states, before)


def _states(request: Request) -> set[str] | None:
    """Return the requested states; None: all.  Raises UsageError for a state that does not exist."""
    given = request.fields.get("state")
    names = given.split(",") if isinstance(given, str) else given if isinstance(given, list) else []
    wanted = {str(name) for name in names if name}
    if not wanted.issubset(TaskState):
        unknown = ", ".join(sorted(wanted.difference(TaskState)))
        raise UsageError(f"unknown task state: {tables.cell(unknown, tables.CELL_COLUMNS)}", hint=f"states: {' '.join(TaskState)}")
    return wanted or None
