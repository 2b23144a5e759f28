"""The store's files: whose they are, who else may come near, and what is refused."""

from __future__ import annotations

import os
import resource
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tests.contract.stores import QUIET, all_tasks, ask, commit, commit_now, copies, ended, new, open_store, place, put, sent, trim
from tmax.core.events import Changes
from tmax.core.settings import StoreSettings
from tmax.errors import ExitCode, NoSwarm, StoreError
from tmax.layout import Layout
from tmax.storage import opening, writer
from tmax.storage.filesystem import file_system_of, refuse_network
from tmax.storage.generation_marker import GenerationMarker
from tmax.storage.lock import LockHeld, controller_lock
from tmax.storage.opening import connect, verify
from tmax.storage.schema import MIGRATIONS, migrate, version_of
from tmax.storage.store import Store, open_for_reading
from tmax.storage.store_errors import StoreLocked
from tmax_pipes.durable_files import atomic_write

ROOT = Path(__file__).resolve().parents[2]
YESTERDAY = ROOT / "tests" / "data" / "store-version-1.db"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a file of another user")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return place(tmp_path)


# -- keeping ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_what_was_committed_is_there_after_reopening(layout: Layout, durability: str) -> None:
    for start in (1, 101, 201):
        store = open_store(layout, StoreSettings(durability=durability, ballast_bytes=0))
        assert store.load().next_task == start
        put(store, *(new(n) for n in range(start, start + 100)))
        store.close()
    assert all_tasks(layout) == {n: new(n) for n in range(1, 301)}


def test_pragmas(layout: Layout) -> None:
    for durability, level in (("full", 2), ("normal", 1)):
        store = open_store(layout, StoreSettings(durability=durability, ballast_bytes=0))
        values = ask(
            store,
            lambda reader: [
                reader._connection.execute(f"PRAGMA {p}").fetchone()[0]
                for p in ("synchronous", "journal_mode", "mmap_size", "locking_mode", "wal_autocheckpoint", "user_version")
            ],
        )
        assert values == [level, "wal", 0, "exclusive", 0, 2]
        assert not os.path.exists(f"{layout.database}-shm"), "exclusive locking came too late"
        store.close()


def test_files_are_private_and_few(layout: Layout) -> None:
    old = os.umask(0)
    try:
        store = open_store(layout, StoreSettings(ballast_bytes=65536))
        put(store, new(1))
        assert sorted(os.listdir(layout.state)) == ["ballast", "created", "tmax.db", "tmax.db-wal"]
        assert all(stat.S_IMODE(os.stat(f"{layout.state}/{name}").st_mode) == 0o600 for name in os.listdir(layout.state))
        store.close(snapshot=True)
    finally:
        os.umask(old)
    assert sorted(os.listdir(layout.state)) == ["ballast", "created", "tmax.db", "tmax.db.snapshot"]
    assert stat.S_IMODE(os.stat(layout.snapshot).st_mode) == 0o600


def test_a_job_is_written_once(layout: Layout) -> None:
    from tmax_pipes.jobs import ShellJob

    store = open_store(layout)
    tasks = [new(n, ShellJob(argv=(b"x" * 60_000,))) for n in range(1, 51)]
    put(store, *tasks)
    before = os.path.getsize(f"{layout.database}-wal")
    assert commit(store, tasks=[sent(task) for task in tasks]).ok
    moved = os.path.getsize(f"{layout.database}-wal") - before
    store.close()
    assert before > 50 * 60_000
    assert moved < 50 * 9_000


def test_the_log_is_moved_into_the_database_and_does_not_grow_for_ever(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "CHECKPOINT_BYTES", 64 * 1024)
    store = open_store(layout)
    for start in range(1, 5000, 100):
        put(store, *(new(n) for n in range(start, start + 100)))
    assert os.path.getsize(f"{layout.database}-wal") < 600 * 1024
    assert (GenerationMarker(layout.created).read() or 0) > 5
    store.close()


def test_trimming_goes_in_steps(layout: Layout) -> None:
    store = open_store(layout)
    put(store, *(ended(new(n), at=float(n)) for n in range(1, 2501)))
    assert [len(trim(store, 100)) for _ in range(4)] == [1000, 1000, 400, 0]
    store.close()


def test_a_snapshot_is_a_whole_store(layout: Layout, tmp_path: Path) -> None:
    store = open_store(layout)
    put(store, *(new(n) for n in range(1, 50)))
    store.close(snapshot=True)
    other = place(tmp_path, "other")
    os.rename(layout.snapshot, other.database)
    assert all_tasks(other) == {n: new(n) for n in range(1, 50)}


def test_a_snapshot_that_cannot_be_made_is_told_and_the_store_is_closed(layout: Layout) -> None:
    store = open_store(layout)
    put(store, new(1))
    os.makedirs(f"{layout.snapshot}/in-the-way")
    with pytest.raises(StoreError, match="no snapshot"):
        store.close(snapshot=True)
    assert not os.path.exists(f"{layout.snapshot}.new")
    assert all_tasks(layout) == {1: new(1)}


def test_an_owner_that_fails_on_an_answer_hears_of_it(layout: Layout) -> None:
    store = open_store(layout)

    def fail(_: object) -> None:
        raise ValueError("no loop any more")

    store.commit(Changes(new_tasks=(new(1),)), fail)
    result = commit(store, new_tasks=[new(2)])
    assert not result.ok and "no loop any more" in str(result.error)
    store.close()
    assert list(all_tasks(layout)) == [1]


def test_no_commit_is_made_at_once_before_what_was_asked_for_first(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tmax.storage.store.NOW_S", 60.0)
    store = open_store(layout)
    asked, go_on = threading.Event(), threading.Event()

    def query(_: object) -> None:
        asked.set()
        assert go_on.wait(30)

    store.read(query, lambda _: None)
    assert asked.wait(30)
    assert store.commit_now(Changes(new_tasks=(new(1),))) is None
    go_on.set()
    assert commit_now(store, new_tasks=[new(1)]).ok
    store.close()
    assert list(all_tasks(layout)) == [1]


def test_no_commit_is_made_at_once_on_a_disk_that_was_slow(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(layout)
    monkeypatch.setattr("tmax.storage.store.NOW_S", 1e-9)  # every disk is slower than that
    assert commit_now(store, new_tasks=[new(1)]).ok
    assert store.commit_now(Changes(new_tasks=(new(2),))) is None
    assert commit(store, new_tasks=[new(2)]).ok
    assert store.commit_now(Changes(new_tasks=(new(3),))) is None
    monkeypatch.setattr("tmax.storage.store.NOW_S", 60.0)
    assert commit_now(store, new_tasks=[new(3)]).ok
    store.close()
    assert list(all_tasks(layout)) == [1, 2, 3]


def test_a_value_that_cannot_be_written_is_refused_alone(layout: Layout) -> None:
    from tmax_pipes.jobs import KernelJob

    store = open_store(layout)
    for bad in (new(1, name="\udcff"), new(1, KernelJob(name="k", params={"n": 1 << 70})), new(1 << 63), new(1, attempt=1 << 70)):
        result = commit(store, new_tasks=[new(5), bad])
        assert not result.ok and "cannot be written" in str(result.error)
    put(store, new(6))
    store.close()
    assert list(all_tasks(layout)) == [6]


# -- who else --------------------------------------------------------------------------------------


def test_a_second_opener_is_told(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "BUSY_S", 0.05)
    store = open_store(layout)
    put(store, new(1))
    with pytest.raises(StoreLocked, match="in use by another program") as caught:
        open_store(layout)
    assert "fuser" in caught.value.hint
    other = subprocess.run(
        [sys.executable, "-c", OPEN, layout.state, layout.runtime], capture_output=True, text=True, env=child_env(), timeout=60, check=False
    )
    assert "StoreLocked" in other.stdout, other.stderr
    put(store, new(2))
    store.close()
    assert list(all_tasks(layout)) == [1, 2]


OPEN = """
import os, sys
from tmax.core.settings import StoreSettings
from tmax.errors import StoreError
from tmax_pipes.durable_files import atomic_write
from tmax.layout import Layout
from tmax.storage.store import Store
for uid in sys.argv[3:]:
    os.setuid(int(uid))  # after the imports: another user may not be able to read the interpreter
try:
    Store.open(Layout("s", sys.argv[1], sys.argv[2]), StoreSettings(ballast_bytes=0)).close()
    print("opened")
except StoreError as error:
    print(type(error).__name__, int(error.exit_code), error, "|", error.hint)
"""


def child_env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/pipes"}


@needs_root
def test_a_folder_that_may_not_be_written() -> None:
    with tempfile.TemporaryDirectory(prefix="tmax-test-") as folder:
        os.chmod(folder, 0o755)
        layout = place(Path(folder))
        open_store(layout).close()
        for name in (layout.state, *(f"{layout.state}/{name}" for name in os.listdir(layout.state))):
            os.chown(name, 65534, 65534)
        os.chmod(layout.state, 0o500)
        child = [sys.executable, "-c", OPEN, layout.state, layout.runtime, "65534"]
        result = subprocess.run(child, capture_output=True, text=True, env=child_env(), timeout=60, check=False)
        os.chmod(layout.state, 0o700)
        assert result.stdout.startswith("StoreError 74") and "chmod 700" in result.stdout, result.stdout + result.stderr


@needs_root
def test_a_store_of_another_user(layout: Layout) -> None:
    open_store(layout).close()
    os.chown(layout.database, 65534, 65534)
    with pytest.raises(StoreError, match=r"another user \(uid 65534\)"):
        open_store(layout)


def test_a_store_open_to_others_is_closed_to_them(layout: Layout) -> None:
    open_store(layout).close()
    os.chmod(layout.database, 0o644)
    open_store(layout).close()
    assert stat.S_IMODE(os.stat(layout.database).st_mode) == 0o600


def test_a_folder_open_to_others_is_refused(layout: Layout) -> None:
    os.chmod(layout.state, 0o755)
    with pytest.raises(StoreError, match="open to others"):
        open_store(layout)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/etc/passwd", path)], ids=["folder", "fifo", "link"])
def test_what_is_no_file_is_refused(layout: Layout, make: object) -> None:
    make(layout.database)  # type: ignore[operator]
    with pytest.raises(StoreError, match="not a plain file"):
        open_store(layout)


def test_another_programs_database_is_refused_and_left_alone(layout: Layout) -> None:
    other = sqlite3.connect(layout.database)
    other.execute("CREATE TABLE precious (x)")
    other.commit()
    other.close()
    with pytest.raises(StoreError, match="not a store of tmax"):
        open_store(layout)
    other = sqlite3.connect(layout.database)
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("precious",)]
    other.close()


def test_a_newer_store_is_refused(layout: Layout) -> None:
    open_store(layout).close()
    connection = connect(layout.database, "FULL")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StoreError, match="newer tmax") as caught:
        open_store(layout)
    assert "pip install -U tmax" in caught.value.hint and caught.value.exit_code == ExitCode.DATA
    assert copies(layout) == []


def test_migrations_run_in_order_after_one_backup(tmp_path: Path) -> None:
    later = (*MIGRATIONS, ("ALTER TABLE tasks ADD COLUMN extra TEXT",), ("UPDATE tasks SET extra = 'x'",))
    connection = connect(str(tmp_path / "a.db"), "FULL")
    backups: list[int] = []
    newest = len(MIGRATIONS)
    migrate(connection, backups.append)
    assert (version_of(connection), backups) == (newest, [])
    migrate(connection, backups.append, later)
    assert (version_of(connection), backups) == (newest + 2, [newest])
    migrate(connection, backups.append, later)
    assert (version_of(connection), backups) == (newest + 2, [newest])
    connection.close()


def test_a_migration_that_fails_leaves_the_old_version(tmp_path: Path) -> None:
    connection = connect(str(tmp_path / "a.db"), "FULL")
    migrate(connection, lambda _: None)
    with pytest.raises(sqlite3.Error):
        migrate(connection, lambda _: None, (*MIGRATIONS, ("CREATE TABLE extra (x)", "CREATE TABLE tasks (x)")))
    connection.close()
    connection = connect(str(tmp_path / "a.db"), "FULL")
    assert version_of(connection) == len(MIGRATIONS)
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'extra'").fetchone() == (0,)
    connection.close()


def test_yesterdays_store_is_read_today(layout: Layout) -> None:
    from tests.data.make_store import life_of_yesterday, tasks_of_yesterday

    with open(layout.database, "wb") as file:
        file.write(YESTERDAY.read_bytes())
    store = open_store(layout)
    loaded = store.load()
    store.close()
    assert loaded.lives == [life_of_yesterday()]
    assert loaded.meta == {"epoch": "3", "held": "yes"}
    assert all_tasks(layout) == {task.id: task for task in tasks_of_yesterday()}


def test_the_check_stops_in_time(tmp_path: Path) -> None:
    connection = connect(str(tmp_path / "a.db"), "FULL")
    connection.execute("CREATE TABLE t (a, b)")
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) INSERT INTO t SELECT i, hex(randomblob(20)) FROM n"
    )
    connection.execute("CREATE INDEX ti ON t (b)")
    assert verify(connection, 0, 60.0) == ""
    assert verify(connection, 0, 0.001) == ""
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (300000,)
    connection.close()


# -- place -----------------------------------------------------------------------------------------

MOUNTS = r"""
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 22 0:40 / /home rw,relatime shared:5 - nfs4 server:/home rw,vers=4.2
31 30 254:1 / /home/local\040disk rw - xfs /dev/vdb rw
32 22 0:41 / /scratch rw - lustre mds:/scratch rw
33 22 0:42 / /mnt/ssh rw - fuse.sshfs host:/ rw
34 22 8:1 / /media/usb rw - fuseblk /dev/sda1 rw
35 22 8:2 / /over rw - ext4 /dev/sdb rw
36 35 0:43 / /over rw - cifs //host/share rw
not a line
""".splitlines()


@pytest.mark.parametrize(
    "path, kind",
    [
        ("/", "ext4"),
        ("/homes", "ext4"),
        ("/home", "nfs4"),
        ("/home/a/.local/state/tmax", "nfs4"),
        ("/home/local disk/x", "xfs"),
        ("/scratch/x", "lustre"),
        ("/mnt/ssh", "fuse.sshfs"),
        ("/media/usb/x", "fuseblk"),
        ("/over/x", "cifs"),
    ],
)
def test_the_file_system_of_a_folder(path: str, kind: str) -> None:
    assert file_system_of(path, MOUNTS) == kind
    if kind in {"ext4", "xfs", "fuseblk"}:
        refuse_network(path, MOUNTS)
    else:
        with pytest.raises(StoreError, match="network file system") as caught:
            refuse_network(path, MOUNTS)
        assert "XDG_STATE_HOME" in caught.value.hint


def test_an_unknown_mount_table_refuses_nothing(tmp_path: Path) -> None:
    assert file_system_of("/x", []) == ""
    refuse_network(str(tmp_path), [])
    refuse_network(str(tmp_path))


# -- reading without a controller ------------------------------------------------------------------


def test_reading_without_a_controller(layout: Layout) -> None:
    store = open_store(layout)
    put(store, new(1, name="a"), ended(new(2)))
    store.close()
    with open_for_reading(layout) as reader:
        assert reader.loaded().tasks == [new(1, name="a")]
        assert reader.named("a") == 1
        with pytest.raises(LockHeld):
            controller_lock(layout.lock)
    controller_lock(layout.lock).close()
    open_store(layout).close()


def test_reading_what_was_never_made_makes_nothing(tmp_path: Path) -> None:
    layout = Layout("s", str(tmp_path / "s"), str(tmp_path / "r"))
    with pytest.raises(NoSwarm), open_for_reading(layout):
        pass
    assert not os.path.exists(layout.state)


def test_reading_while_a_controller_has_it(layout: Layout) -> None:
    with controller_lock(layout.lock), pytest.raises(LockHeld) as caught:
        open_store(layout).close()
        with open_for_reading(layout):
            pass
    assert caught.value.exit_code == ExitCode.NO_SWARM and caught.value.pid == os.getpid()


# -- a small file ----------------------------------------------------------------------------------


def test_a_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "f"
    other = tmp_path / "other"
    other.write_bytes(b"not mine to change")
    path.symlink_to(other)
    old = os.umask(0o777)
    try:
        atomic_write(str(path), b"x" * 3_000_000)
    finally:
        os.umask(old)
    assert path.read_bytes() == b"x" * 3_000_000 and not path.is_symlink()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert other.read_bytes() == b"not mine to change"
    assert sorted(os.listdir(tmp_path)) == ["f", "other"]


def test_a_file_that_cannot_be_written_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            atomic_write(str(path), b"x" * 3000)
    finally:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["f"]


def test_settings_of_the_store_are_used(layout: Layout) -> None:
    store = Store.open(layout, QUIET)
    assert not os.path.exists(layout.ballast)
    store.close()
