"""Files that were cut, flipped, emptied or taken away: everything that was kept, or an error with a way back; never less in silence."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.stores import all_tasks, ask, commit, copies, ended, life, new, open_store, place, put, rich, sent
from tmax.core.model import Task
from tmax.core.settings import StoreSettings
from tmax.errors import ExitCode, StoreError
from tmax.layout import Layout
from tmax.storage.store import open_for_reading
from tmax.storage.task_rows import DamagedRow

SEED = 20261120


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return place(tmp_path)


def copy_of(layout: Layout, folder: Path, name: str) -> Layout:
    """What a crash at this moment would leave: the files, without the locks and memory of who has them open."""
    other = place(folder, name)
    for file in ("tmax.db", "tmax.db-wal", "created"):
        if os.path.exists(f"{layout.state}/{file}"):
            shutil.copyfile(f"{layout.state}/{file}", f"{other.state}/{file}")
    return other


def refused(layout: Layout) -> StoreError:
    with pytest.raises(StoreError) as caught:
        all_tasks(layout)
    assert caught.value.exit_code == ExitCode.DATA
    assert layout.state in caught.value.message
    assert "mv " in caught.value.hint
    return caught.value


def filled(layout: Layout, count: int = 60) -> dict[int, Task]:
    """A closed store with open, moved and ended tasks and a body of several pages."""
    from tmax_pipes.jobs import ShellJob

    store = open_store(layout)
    tasks = {n: new(n, request_id=f"r{n}", name="n" if n % 3 else "") for n in range(1, count)}
    tasks[count] = rich(count)
    tasks[count + 1] = new(count + 1, ShellJob(argv=(b"long" * 5000,)))
    put(store, *tasks.values())
    moved = {n: ended(tasks[n], at=float(n)) if n % 2 else sent(tasks[n]) for n in range(1, count, 3)}
    assert commit(store, tasks=moved.values(), lives=[life(1), life(2)]).ok
    store.close()
    return tasks | moved


# -- the log ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["cut", "garbage"])
def test_a_torn_tail_of_the_log_costs_only_what_was_not_acknowledged(layout: Layout, tmp_path: Path, kind: str) -> None:
    chance = random.Random(SEED)
    store = open_store(layout)
    log = f"{layout.database}-wal"
    sizes = []
    for start in range(1, 200, 4):
        put(store, *(new(n) for n in range(start, start + 4)))
        sizes.append(os.path.getsize(log))
    for number in range(40):
        other = copy_of(layout, tmp_path, f"cut{number}")
        at = chance.randrange(sizes[0], sizes[-1] + 1)
        with open(f"{other.database}-wal", "r+b") as file:
            if kind == "cut":
                file.truncate(at)
            else:
                file.seek(at)
                file.write(chance.randbytes(sizes[-1] - at))
        kept = sum(size <= at for size in sizes)
        found = all_tasks(other)
        assert found.items() >= {n: new(n) for n in range(1, 4 * kept + 1)}.items(), f"seed {SEED}, offset {at}"
        assert len(found) % 4 == 0, "part of a commit was kept"
    store.close()


@pytest.mark.parametrize(
    "take", [os.unlink, lambda path: os.truncate(path, 0), lambda path: os.truncate(path, 5000)], ids=["gone", "empty", "start"]
)
def test_a_lost_log_is_noticed(layout: Layout, tmp_path: Path, take: Callable[[str], None]) -> None:
    open_store(layout).close()  # the tables are in the file; what follows is only in the log
    store = open_store(layout)
    put(store, *(new(n) for n in range(1, 30)))
    other = copy_of(layout, tmp_path, "other")
    store.close()
    assert len(all_tasks(copy_of(other, tmp_path, "whole"))) == 29
    take(f"{other.database}-wal")
    error = refused(other)
    assert "log is missing" in error.message and "created" in error.hint


def test_an_older_copy_is_noticed_and_can_be_accepted(layout: Layout, tmp_path: Path) -> None:
    for number in (1, 2):
        store = open_store(layout)
        put(store, new(number))
        store.close()
        if number == 1:
            shutil.copyfile(layout.database, tmp_path / "older")
    shutil.copyfile(tmp_path / "older", layout.database)
    assert "older" in refused(layout).message
    os.unlink(layout.created)
    assert list(all_tasks(layout)) == [1]
    assert list(all_tasks(layout)) == [1]


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_looking_with_another_tool_after_a_crash_is_no_loss(layout: Layout, tmp_path: Path, durability: str) -> None:
    import sqlite3

    store = open_store(layout, StoreSettings(durability=durability, ballast_bytes=0))
    put(store, *(new(n) for n in range(1, 30)))
    other = copy_of(layout, tmp_path, "other")
    store.close()
    tool = sqlite3.connect(other.database)
    assert tool.execute("SELECT count(*) FROM tasks").fetchone() == (29,)
    tool.close()
    assert not os.path.exists(f"{other.database}-wal")
    assert len(all_tasks(other)) == 29


def test_under_normal_a_power_cut_may_take_the_tail_and_that_is_no_alarm(layout: Layout, tmp_path: Path) -> None:
    normal = StoreSettings(durability="normal", ballast_bytes=0)
    store = open_store(layout, normal)
    put(store, new(1))
    store.close()
    store = open_store(layout, normal)
    put(store, new(2))
    other = copy_of(layout, tmp_path, "other")
    store.close()
    os.truncate(f"{other.database}-wal", 0)
    assert list(all_tasks(other)) == [1]


# -- the file --------------------------------------------------------------------------------------


def test_a_missing_store_is_not_a_first_start(layout: Layout) -> None:
    filled(layout)
    os.unlink(layout.database)
    error = refused(layout)
    assert "is missing" in error.message
    assert not os.path.exists(layout.database), "an empty store was begun over a lost one"
    with pytest.raises(StoreError, match="is missing"), open_for_reading(layout):
        pass


def test_an_emptied_store_is_not_a_first_start(layout: Layout) -> None:
    filled(layout)
    os.truncate(layout.database, 0)
    assert "is empty" in refused(layout).message
    assert os.path.getsize(layout.database) == 0


@pytest.mark.parametrize("empty", [True, False])
def test_a_log_without_its_store_is_not_thrown_away(layout: Layout, tmp_path: Path, empty: bool) -> None:
    store = open_store(layout)
    put(store, new(1))
    other = copy_of(layout, tmp_path, "other")
    store.close()
    os.unlink(other.created)
    os.unlink(other.database)
    if empty:
        Path(other.database).touch(0o600)
    size = os.path.getsize(f"{other.database}-wal")
    assert "log" in refused(other).message
    assert os.path.getsize(f"{other.database}-wal") == size


def test_a_first_start_that_died_at_once_is_begun_again(layout: Layout) -> None:
    Path(layout.database).touch(0o600)
    assert all_tasks(layout) == {}


def test_tables_lost_with_the_first_log_are_noticed(layout: Layout, tmp_path: Path) -> None:
    store = open_store(layout)
    put(store, new(1))
    other = copy_of(layout, tmp_path, "other")
    store.close()
    os.unlink(f"{other.database}-wal")
    assert "tables" in refused(other).message


def test_a_damaged_store_is_copied_once_and_the_way_back_is_told(layout: Layout) -> None:
    filled(layout)
    store = open_store(layout)
    store.close(snapshot=True)
    with open(layout.database, "r+b") as file:
        file.seek(4096)
        file.write(bytes(3 * 4096))
    damaged = Path(layout.database).read_bytes()
    error = refused(layout)
    assert "is damaged" in error.message and "tmax.db.snapshot" in error.hint and ".recover" in error.hint
    assert len(copies(layout)) == 1 and copies(layout)[0] in error.message
    assert Path(layout.state, copies(layout)[0]).read_bytes() == damaged
    refused(layout)
    assert len(copies(layout)) == 1, "a copy at each try would fill the disk"
    os.unlink(layout.created)
    shutil.copyfile(layout.snapshot, layout.database)
    assert len(all_tasks(layout)) == 61, "the way back in the hint leads back"


@pytest.mark.parametrize("how", ["flip", "zero", "cut", "noise"])
def test_whatever_happens_to_the_file_nothing_is_lost_in_silence(layout: Layout, tmp_path: Path, how: str) -> None:
    chance = random.Random(f"{SEED}{how}")
    tasks = filled(layout)
    whole = Path(layout.database).read_bytes()
    refusals = 0
    for number in range(60):
        other = copy_of(layout, tmp_path, f"c{number}")
        offset = chance.randrange(len(whole)) if number else 0
        Path(other.database).write_bytes(harm(whole, how, offset, chance))
        story = f"seed {SEED}{how}, offset {offset}"
        try:
            found = all_tasks(other)
        except StoreError as error:
            refusals += 1
            clear = error.exit_code == ExitCode.DATA and error.hint
            assert clear, story
        else:
            assert found == tasks, story
    assert refusals > 5, "nothing was really harmed"


def harm(whole: bytes, how: str, offset: int, chance: random.Random) -> bytes:
    if how == "cut":
        return whole[:offset]
    length = {"flip": 1, "zero": 512, "noise": 64}[how]
    piece = whole[offset : offset + length]
    new_piece = {"flip": bytes([piece[0] ^ (1 << chance.randrange(8))]), "zero": bytes(len(piece)), "noise": chance.randbytes(len(piece))}[
        how
    ]
    return whole[:offset] + new_piece + whole[offset + len(piece) :]


def test_one_bad_row_does_not_stop_the_others(layout: Layout) -> None:
    from tmax.storage.opening import connect

    tasks = filled(layout)
    connection = connect(layout.database, "FULL")
    connection.execute("UPDATE specs SET spec = (SELECT spec FROM specs WHERE task = 2) WHERE task = 1")
    connection.execute("DELETE FROM specs WHERE task = 4")
    connection.close()
    store = open_store(layout)
    assert isinstance(ask(store, lambda reader: reader.task(1)), DamagedRow)
    assert isinstance(ask(store, lambda reader: reader.task(4)), DamagedRow)
    assert ask(store, lambda reader: reader.task(2)) == tasks[2]
    with pytest.raises(DamagedRow):
        store.load()
    put(store, new(1000))
    store.close()


@pytest.mark.parametrize("text", [b"", b"nonsense", b"\xff" * 100, b"tmax store, generation x"])
def test_a_marker_that_makes_no_sense_claims_nothing(layout: Layout, text: bytes) -> None:
    tasks = filled(layout)
    Path(layout.created).write_bytes(text)
    assert all_tasks(layout) == tasks
    os.unlink(layout.database)
    refused(layout)
