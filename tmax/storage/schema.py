"""Tables of the store, and how an older store becomes a newer one.

``MIGRATIONS[n]`` takes version n to n + 1; version 0 is an empty file. A released entry is never edited.

The two blobs of a task (``task_rows.py``) hold its state; the columns beside them are copies for searching.
The spec has a table of its own, because SQLite rewrites a whole row, overflow pages included, when one column
changes its length: 50 tasks with bodies of 60 KB wrote 3.1 MB again at each update.
``ended_at`` is NULL until the task has ended, so that two partial indexes split the table: what a start must load,
and what is listed and trimmed. An update between a task's first and last touches neither.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeAlias

from tmax.storage.store_version_2 import options_as_one_map

APPLICATION_ID = 0x746D6178
"""``tmax`` in ASCII; identifies a store of tmax among SQLite files."""

VERSION_1 = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    """CREATE TABLE tasks (
        id           INTEGER PRIMARY KEY,
        request_id   TEXT,
        name         TEXT,
        kind         TEXT NOT NULL,
        state        TEXT NOT NULL,
        priority     TEXT NOT NULL,
        submitted_at REAL NOT NULL,
        ended_at     REAL,
        attempt      INTEGER NOT NULL,
        worker       TEXT NOT NULL,
        life         INTEGER NOT NULL,
        "group"      INTEGER NOT NULL,
        moves        BLOB NOT NULL
    )""",
    "CREATE TABLE specs (task INTEGER PRIMARY KEY, spec BLOB NOT NULL)",
    "CREATE UNIQUE INDEX task_of_request ON tasks (request_id) WHERE request_id IS NOT NULL",
    "CREATE INDEX task_of_name ON tasks (name) WHERE name IS NOT NULL",
    "CREATE INDEX open_tasks ON tasks (id) WHERE ended_at IS NULL",
    "CREATE INDEX ended_tasks ON tasks (ended_at, id, state) WHERE ended_at IS NOT NULL",
    "CREATE TABLE lives (life INTEGER PRIMARY KEY, worker TEXT NOT NULL, alive INTEGER NOT NULL, record BLOB NOT NULL)",
    "CREATE TABLE blobs (task INTEGER NOT NULL, digest TEXT NOT NULL, PRIMARY KEY (task, digest)) WITHOUT ROWID",
    "CREATE INDEX blob_of_digest ON blobs (digest)",
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "INSERT INTO counters VALUES ('generation', 0), ('highest_task', 0)",
)

VERSION_2 = (options_as_one_map,)
"""The options of a task are one map in its spec; ``moves`` lost its copy of the priority, and a time that nothing read."""

Step: TypeAlias = str | Callable[[sqlite3.Connection], None]
"""An SQL statement, or a function that rewrites rows."""
MIGRATIONS: tuple[tuple[Step, ...], ...] = (VERSION_1, VERSION_2)


def version_of(connection: sqlite3.Connection) -> int:
    """Return the schema version of an open store; 0 for an empty file. Raises sqlite3.Error."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def is_ours(connection: sqlite3.Connection) -> bool:
    """True when the file is marked as a store of tmax."""
    return int(connection.execute("PRAGMA application_id").fetchone()[0]) == APPLICATION_ID


def migrate(
    connection: sqlite3.Connection,
    backup: Callable[[int], None],
    migrations: Sequence[Sequence[Step]] = MIGRATIONS,
) -> None:
    """Bring an open store to the newest version, one transaction a step; ``backup(version)`` is called once before the first.

    An empty file is not backed up. A store newer than ``migrations`` must have been refused before. Raises sqlite3.Error.
    """
    version = version_of(connection)
    if 0 < version < len(migrations):
        backup(version)
    for number in range(version, len(migrations)):
        connection.execute("BEGIN IMMEDIATE")
        for step in migrations[number]:
            if isinstance(step, str):
                connection.execute(step)
            else:
                step(connection)
        connection.execute(f"PRAGMA user_version = {number + 1}")
        connection.execute("COMMIT")
