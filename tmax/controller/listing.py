"""``ps``: tasks in the order in which a person looks, what runs, what waits, what has ended, however many there are.

    the scheduler's tasks --\
                             +--> slices: a table's rows, or JSON --> pieces
    the store, page by page-/

It takes its time while the swarm works, so a task may end between two rows: each is shown once, as it was when it was reached.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from tmax.control.server import Request
from tmax.controller import fields
from tmax.controller.chunked_reply import ChunkedReply
from tmax.controller.slices import Steps
from tmax.controller.views import explain, task_view
from tmax.core import tables
from tmax.core.model import Task, TaskState
from tmax.core.snapshot import SCHEMA_VERSION
from tmax.errors import UsageError

if TYPE_CHECKING:
    from tmax.controller.loop import Controller
    from tmax.storage.task_store import Reader

PAGE = 200
"""Rows that are read from the store at once: commits wait for them."""

USUAL = 50
"""Rows for who does not say how many."""


class Listing:
    """One ``ps``.  Raises UsageError for fields that are not understood."""

    def __init__(self, house: Controller, ask: Request, look: tuple[int, bool]) -> None:
        self._house = house
        self._ask = ask
        self._states = _states(ask)
        self._left = fields.limit(ask.fields.get("limit"), usual=USUAL)
        self._seen: set[int] = set()
        self._table = tables.ps_table(*look) if ask.fields.get("text") else None
        self._now = time.time()
        self._pieces = ChunkedReply(ask, "tasks" if self._table is None else "text")

    def steps(self) -> Steps[None]:
        """Make the answer and give it."""
        yield from self._live()
        if self._ask.fields.get("all") or self._states is not None:
            yield from self._ended()
        if self._table is None:
            self._pieces.end(schema_version=SCHEMA_VERSION)
            return
        for line in self._table.lines():
            self._pieces.text(line)
            yield from self._pieces.flow()
        self._pieces.end()

    def _live(self) -> Steps[None]:
        house = self._house
        state = house.scheduler.state
        for task in house.painter.started():
            if self._take(task, explain(state, task)):
                yield from self._pieces.flow()
        for task, why in house.painter.unstarted():
            if not self._left:
                return
            if self._take(task, why):
                yield from self._pieces.flow()
            else:
                yield None

    def _ended(self) -> Steps[None]:
        before: int | None = None
        while self._left:
            count = min(PAGE, self._left)
            page = yield from self._house.reading(partial(_page, count, self._states, before))
            for task in page:
                self._take(task, "")
                yield from self._pieces.flow()
            if len(page) < count:
                return
            before = page[-1].id

    def _take(self, task: Task, why: str) -> bool:
        """Show a task, once, if it is wanted."""
        if not self._left or task.id in self._seen or (self._states is not None and task.state not in self._states):
            return False
        self._seen.add(task.id)
        self._left -= 1
        view = task_view(task, why)
        if self._table is None:
            self._pieces.value(msgspec.json.encode(view))
        else:
            self._table.add(tables.task_row(view, self._now))
        return True


def _page(count: int, states: set[str] | None, before: int | None, reader: Reader) -> list[Task]:
    return reader.ended(count, states, before)


def _states(ask: Request) -> set[str] | None:
    """Return the states that are asked for; None: no choice was made."""
    given = ask.fields.get("state")
    names = given.split(",") if isinstance(given, str) else given if isinstance(given, list) else []
    wanted = {str(name) for name in names if name}
    if not wanted.issubset(TaskState):
        unknown = ", ".join(sorted(wanted.difference(TaskState)))
        raise UsageError(f"no task is ever {tables.cell(unknown, tables.CELL_COLUMNS)}", hint=f"states: {' '.join(TaskState)}")
    return wanted or None
