"""A store of version 1 becomes one of version 2: the options of its tasks are one map, and none is lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.contract.stores import all_tasks, ask, open_store, place
from tmax.core.model import Task
from tmax.errors import StoreError
from tmax.layout import Layout
from tmax.storage.opening import connect
from tmax.storage.task_rows import DamagedRow, seal
from tmax_pipes.jobs import ShellJob
from tmax_pipes.options_struct import DEFAULT_OPTIONS, TaskOptions
from tmax_pipes.task_options import OPTIONS

YESTERDAY = Path(__file__).resolve().parents[1] / "data" / "store-version-1.db"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return place(tmp_path)


def test_every_option_of_a_store_of_version_1_survives(layout: Layout) -> None:
    job = ShellJob(argv=(b"x",), split=True, fresh=True, keep_background=True)
    given = {"timeout_s": 5.5, "retries": 4, "deliveries": 9, "grace_s": 0.0}
    spec = [job, "shell", "named", "r-9", "at-least-once", *given.values(), 1700000009.0]
    moves = ["ready", "critical", 2, 1, [], None, 12.5, False, True, 0.0, None, "w7"]
    write_version_1(layout, {9: (spec, moves), 10: (spec, moves)}, damaged=10)
    store = open_store(layout)
    found = ask(store, lambda reader: reader.task(9))
    assert isinstance(ask(store, lambda reader: reader.task(10)), StoreError), "a damaged task is still found to be damaged"
    store.close()
    options = TaskOptions(name="named", priority="critical", delivery="at-least-once", **given)
    expected = Task(id=9, job=job, kind="shell", options=options, request_id="r-9", submitted_at=1700000009.0)
    assert found == replace(expected, attempt=2, failures=1, solo=True, ran_on="w7")
    assert {option.name for option in OPTIONS if option.owner == "task"} == {"name", "priority", "delivery", *given}, (
        "since added: not in version 1"
    )
    assert os.path.exists(f"{layout.database}.version-1"), "no copy of the old store was kept"


def test_a_large_store_of_version_1_is_migrated_whole(layout: Layout) -> None:
    spec = [ShellJob(argv=(b"x",)), "shell", "", "", "at-most-once", 0.0, 0, 3, 10.0, 1.0]
    moves = ["ready", "normal", 0, 0, [], None, 0.0, False, False, 0.0, None, ""]
    write_version_1(layout, dict.fromkeys(range(100, 2600), (spec, moves)))
    found = all_tasks(layout)
    assert {number for number in found if number >= 100} == set(range(100, 2600))
    assert all(task.options is DEFAULT_OPTIONS for number, task in found.items() if number >= 100)


def test_a_row_of_another_layout_does_not_keep_the_store_from_opening(layout: Layout) -> None:
    spec = [ShellJob(argv=(b"x",)), "shell", "", "", "at-most-once", 0.0, 0, 3, 10.0, 1.0]
    moves = ["ready", "normal", 0, 0, [], None, 0.0, False, False, 0.0, None, ""]
    write_version_1(layout, {9: (spec[:-1], moves), 10: (spec, moves), 11: (spec, {"state": "ready", 1: "normal"})})  # type: ignore[dict-item]  # on purpose
    store = open_store(layout)
    assert [type(ask(store, lambda reader, number=number: reader.task(number))) for number in (9, 10, 11)] == [DamagedRow, Task, DamagedRow]
    store.close()


def test_a_copy_that_cannot_be_written_is_an_error_of_the_store(layout: Layout) -> None:
    write_version_1(layout, {})
    os.mkdir(f"{layout.database}.version-1.new")
    with pytest.raises(StoreError, match=r"version-1\.new"):
        open_store(layout)
    os.rmdir(f"{layout.database}.version-1.new")
    open_store(layout).close()


def write_version_1(layout: Layout, rows: dict[int, tuple[list[Any], list[Any]]], damaged: int = 0) -> None:
    """Make the store of yesterday and add tasks to it: number to the fields of its spec and its moves, in the order of version 1."""
    with open(layout.database, "wb") as file:
        file.write(YESTERDAY.read_bytes())
    connection = connect(layout.database, "FULL")
    connection.execute("BEGIN")
    for number, (spec, moves) in rows.items():
        blobs = [seal(fields, number) for fields in (moves, spec)]
        if number == damaged:
            blobs[1] = blobs[1][:-1] + b"?"
        connection.execute(
            'INSERT INTO tasks (id, kind, state, priority, submitted_at, attempt, worker, life, "group", moves)'
            " VALUES (?, 'shell', 'ready', ?, 1.0, 0, '', 0, 0, ?)",
            (number, moves[1], blobs[0]),
        )
        connection.execute("INSERT INTO specs VALUES (?, ?)", (number, blobs[1]))
    connection.execute("COMMIT")
    connection.close()
