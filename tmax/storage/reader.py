"""Queries of an open SQLite store; they run on the thread that owns the connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from itertools import islice
from typing import Any

from tmax.core.model import Task
from tmax.storage.task_rows import SELECT_TASK, life_of, task_of
from tmax.storage.task_store import LoadedState
from tmax_pipes.terminal_text import has_surrogate

AT_ONCE = 500
"""Values in one ``IN (...)``: the lowest limit SQLite was ever built with is 999."""
TOO_HIGH = 1 << 63
"""SQLite's integers end here; a person may request any number, and no such task exists."""


class SqliteReader:
    """``tmax.storage.task_store.Reader`` over one connection. Raises sqlite3.Error and DamagedRow; the store translates.

    Every result is fetched whole before its rows are decoded: a partly read one, held by an error's traceback, would prevent
    the checkpoint.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def loaded(self) -> LoadedState:
        """Everything that has not ended, and the counters."""
        lives = [life_of(row) for row in self._rows("SELECT life, record FROM lives ORDER BY life")]
        return LoadedState(
            tasks=[task_of(row) for row in self._rows(f"{SELECT_TASK} WHERE ended_at IS NULL ORDER BY id")],
            lives=[life for life in lives if life.alive],
            meta=dict(self._rows("SELECT name, value FROM meta")),
            next_task=max(self._number("SELECT max(id) FROM tasks"), self.counter("highest_task")) + 1,
            next_life=self._number("SELECT max(life) FROM lives") + 1,
            counts=self._counts(),
        )

    def counter(self, name: str) -> int:
        """Return a counter of the store; 0 when it is missing."""
        return self._number("SELECT value FROM counters WHERE name = ?", name)

    def task(self, id: int) -> Task | None:  # noqa: A002 - the name in the CLI
        """The task, or None."""
        return self.tasks([id]).get(id)

    def tasks(self, ids: Sequence[int]) -> dict[int, Task]:
        """Those that exist, by id."""
        possible = [number for number in ids if 0 < number < TOO_HIGH]
        return {row[0]: task_of(row) for row in self._among(f"{SELECT_TASK} WHERE id IN", possible)}

    def requests(self, request_ids: Sequence[str]) -> dict[str, int]:
        """The task of each request id that is known."""
        return dict(self._among("SELECT request_id, id FROM tasks WHERE request_id IN", list(filter(_is_text, request_ids))))

    def ended(self, limit: int, states: Collection[str] | None = None, before: int | None = None) -> list[Task]:
        """Ended tasks, the one that ended last first."""
        where, values = ["ended_at IS NOT NULL"], list[Any]()
        if before is not None:
            before = before if 0 < before < TOO_HIGH else 0
            where.append("(ended_at, id) < (SELECT ended_at, id FROM tasks WHERE id = ?)")
            values.append(before)
        if states is not None:
            where.append(f"state IN ({', '.join('?' * len(states))})")
            values += [str(state) for state in states]
        # The index yields the ids; rows (and their overflow pages) are read only for the requested ones.
        inner = f"SELECT id FROM tasks WHERE {' AND '.join(where)} ORDER BY ended_at DESC, id DESC LIMIT ?"  # noqa: S608 - fixed text and question marks
        ids = [number for (number,) in self._rows(inner, *values, max(limit, 0))]
        found = self.tasks(ids)
        return [found[number] for number in ids]

    def named(self, name: str) -> int:
        """The newest task of this name that has not ended, else the newest that has; 0 when there is none."""
        if not _is_text(name):
            return 0
        # INDEXED BY: the other index would scan every task that has not ended, whatever its name.
        live = "SELECT max(id) FROM tasks INDEXED BY task_of_name WHERE name = ? AND ended_at IS NULL"
        return self._number(live, name) or self._number("SELECT max(id) FROM tasks WHERE name = ?", name)

    def last_ids(self, n: int) -> list[int]:
        """The ``n`` highest ids, newest first."""
        return self._column("SELECT id FROM tasks ORDER BY id DESC LIMIT ?", max(n, 0))

    def unreferenced(self, digests: Sequence[str]) -> list[str]:
        """Which of these blobs no kept task names."""
        known = {digest for (digest,) in self._among("SELECT DISTINCT digest FROM blobs WHERE digest IN", digests)}
        return [digest for digest in digests if digest not in known]

    def beyond(self, keep: int, limit: int) -> list[tuple[int, str]]:
        """(id, state) of ended tasks beyond the ``keep`` that ended last, at most ``limit``, newest first."""
        order = "SELECT id, state FROM tasks WHERE ended_at IS NOT NULL ORDER BY ended_at DESC, id DESC LIMIT ? OFFSET ?"
        return self._rows(order, limit, max(keep, 0))

    def _counts(self) -> dict[str, int]:
        counts = dict(self._rows("SELECT state, count(*) FROM tasks WHERE ended_at IS NOT NULL GROUP BY state"))
        for name, value in self._rows("SELECT name, value FROM counters WHERE name LIKE 'trimmed.%'"):
            state = name.removeprefix("trimmed.")
            counts[state] = counts.get(state, 0) + value
        return counts

    def _among(self, start: str, values: Sequence[Any]) -> list[Any]:
        pending = iter(dict.fromkeys(values))
        found: list[Any] = []
        while chunk := list(islice(pending, AT_ONCE)):
            found += self._rows(f"{start} ({', '.join('?' * len(chunk))})", *chunk)
        return found

    def _column(self, statement: str, *values: object) -> list[int]:
        return [row[0] for row in self._rows(statement, *values)]

    def _rows(self, statement: str, *values: object) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()

    def _number(self, statement: str, *values: object) -> int:
        rows = self._rows(statement, *values)
        return int(rows[0][0]) if rows and rows[0][0] is not None else 0


def _is_text(value: str) -> bool:
    """True for what the store can hold: not empty, and no half of a surrogate pair (a file name's stray byte)."""
    return bool(value) and not has_surrogate(value)
