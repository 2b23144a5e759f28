"""Kills, failing disks and full disks: what was acknowledged is there, and what failed is said."""

from __future__ import annotations

import functools
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.store_child import end_of, task_of
from tests.contract.stores import all_tasks, ask, commit, ended, new, open_store, place, put
from tests.wait import wait_until
from tmax.core.model import Task
from tmax.core.settings import StoreSettings
from tmax.errors import StorageFull
from tmax.layout import Layout
from tmax.storage.task_store import Reader

ROOT = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).with_name("store_child.py")
SEED = 7


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return place(tmp_path)


def command(layout: Layout, checkpoint_bytes: int, commits: int, *durability: str) -> list[str]:
    return [sys.executable, str(CHILD), layout.state, layout.runtime, str(checkpoint_bytes), str(commits), *durability]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/pipes", "PYTHONDONTWRITEBYTECODE": "1"}


def acknowledged(lines: list[str]) -> dict[int, Task]:
    """What must be in the store, by the lines a child said."""
    kept: dict[int, Task] = {}
    for line in lines:
        word, *rest = line.split()
        if word in {"new", "end"}:
            kept.update((n, task_of(n) if word == "new" else end_of(n)) for n in range(int(rest[0]), int(rest[1]) + 1))
    return kept


def check_kept(kept: dict[int, Task], found: dict[int, Task], story: str) -> None:
    missing = {n for n in kept if n not in found}
    assert not missing, f"{story}: acknowledged and lost: {sorted(missing)}"
    for number, task in found.items():
        allowed = (task_of(number), end_of(number))
        assert task in allowed, f"{story}: task {number} is not what was written"
        assert task == kept.get(number, task) or kept[number] == allowed[0], f"{story}: task {number} went back"


# -- kills -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["full", "normal"])
def test_killed_between_any_two_instructions_nothing_acknowledged_is_lost(layout: Layout, durability: str) -> None:
    chance = random.Random(SEED)
    kept: dict[int, Task] = {}
    args = command(layout, 200_000, 100_000, *(["normal"] if durability == "normal" else []))
    for number in range(8):
        lines = run_and_kill(args, after_lines=chance.randrange(1, 120))
        assert lines[0] == "opened", lines
        kept |= acknowledged(lines)
        check_kept(kept, all_tasks(layout), f"seed {SEED}, round {number}")
    assert len(kept) > 200


def run_and_kill(args: list[str], after_lines: int) -> list[str]:
    with subprocess.Popen(args, stdout=subprocess.PIPE, text=True, env=environment()) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(after_lines)]
        os.kill(child.pid, signal.SIGKILL)
        lines += child.stdout.readlines()
    # The last line may be cut in the middle; an acknowledgement that nobody could read is none.
    return [line.strip() for line in lines if line.endswith("\n")]


def test_killed_at_the_first_start_a_swarm_starts_all_the_same(layout: Layout) -> None:
    for number in range(6):
        other = place(Path(layout.state), f"first{number}")
        with subprocess.Popen(command(other, 1 << 22, 1), stdout=subprocess.PIPE, env=environment()) as child:
            wait_until(lambda path=other.database: os.path.exists(path), 20, 0.0002)  # type: ignore[misc]
            os.kill(child.pid, signal.SIGKILL)
            assert child.stdout is not None
            lines = child.stdout.read().decode().splitlines()
        check_kept(acknowledged(lines), all_tasks(other), f"round {number}")


# -- a failing disk --------------------------------------------------------------------------------


@functools.cache
def can_trace() -> bool:
    """Strace is there and may trace (a container often may not)."""
    if not shutil.which("strace"):
        return False
    return subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, timeout=20, check=False).returncode == 0


NTHS = (1, 2, 3, 4, 5, 6, 8, 11, 16, 24, 40)


@pytest.mark.parametrize(
    "fault", ["fsync,fdatasync:error=EIO", "pwrite64:error=EIO", "pwrite64:error=ENOSPC", "ftruncate,unlink,rename:error=EIO"]
)
def test_an_error_of_the_disk_at_the_nth_call(layout: Layout, fault: str) -> None:
    if not can_trace():
        pytest.skip("strace is missing, or may not trace here")
    struck = 0
    for nth in NTHS[: 4 if "rename" in fault else None]:
        other = place(Path(layout.state), f"n{nth}")
        trace = [
            "strace",
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "--seccomp-bpf",
            "-e",
            f"trace={fault.partition(':')[0]}",
            "-e",
            f"inject={fault}:when={nth}",
        ]
        ran = subprocess.run(
            [*trace, *command(other, 20_000, 20)], capture_output=True, text=True, env=environment(), timeout=60, check=False
        )
        lines, story = ran.stdout.splitlines(), f"{fault} at call {nth}"
        assert ran.returncode == 0 and "Traceback" not in ran.stderr, f"{story}: {ran.stderr[-2000:]}"
        struck += lines[-1] != "closed" or any(line.split()[0] in {"error", "refused", "full"} for line in lines)
        if any(line.startswith("error") for line in lines) and not lines[-1].startswith("error"):
            assert "again True" in lines, f"{story}: a store that failed wrote on: {lines[-4:]}"
        check_kept(acknowledged(lines), all_tasks(other), story)
    if "sync" in fault or "pwrite64:error=EIO" in fault:
        assert struck >= 5, "no fault was ever noticed"


def test_one_refused_write_on_a_full_disk_costs_nothing(layout: Layout) -> None:
    if not can_trace():
        pytest.skip("strace is missing, or may not trace here")
    trace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64", "-e", "inject=pwrite64:error=ENOSPC:when=40"]
    ran = subprocess.run(
        [*trace, *command(layout, 1 << 30, 20)], capture_output=True, text=True, env=environment(), timeout=60, check=False
    )
    assert ran.stdout.splitlines()[-1] == "closed", ran.stdout
    assert "full" not in ran.stdout and "error" not in ran.stdout, "the ballast was not given up for it"
    assert len(all_tasks(layout)) == 140
    assert not os.path.exists(layout.ballast) or os.path.getsize(layout.ballast) == 65536


# -- a full disk -----------------------------------------------------------------------------------


def test_full_without_a_full_disk(layout: Layout) -> None:
    """SQLite's own limit of pages gives the same answer as the disk, so this part needs no rights."""
    store = open_store(layout, StoreSettings(ballast_bytes=65536))
    put(store, *(new(n) for n in range(1, 11)))
    limit = ask(store, lambda reader: reader._connection.execute("PRAGMA page_count").fetchone()[0]) + 4
    ask(store, lambda reader: reader._connection.execute(f"PRAGMA max_page_count = {limit}").fetchone())
    big = [new(n, name="x" * 2000) for n in range(11, 200)]
    result = commit(store, new_tasks=big, meta={"half": "written"})
    assert isinstance(result.error, StorageFull) and not result.ok
    assert store.full and not os.path.exists(layout.ballast)
    assert ask(store, lambda reader: reader.last_ids(1)) == [10]
    assert store.load().meta == {}
    assert commit(store, tasks=[ended(new(1))]).ok, "what is small is still written"
    ask(store, lambda reader: reader._connection.execute("PRAGMA max_page_count = 1000000").fetchone())
    put(store, *big)
    store._writer.retry_ballast_at = 0.0
    wait_until(lambda: not store.full)
    assert os.path.getsize(layout.ballast) == 65536
    store.close()
    assert len(all_tasks(layout)) == 199


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and shutil.which("mount")
        and subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
        == 0
    )
    if not mounted:
        pytest.skip("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up_and_is_freed_five_times(small_disk: Path) -> None:
    layout = place(small_disk)
    store = open_store(layout, StoreSettings(ballast_bytes=512 * 1024))
    assert not store.full and os.stat(layout.ballast).st_blocks * 512 >= 512 * 1024
    kept: dict[int, Task] = {}
    number = 0
    for _ in range(5):
        open_tasks = [new(number + n) for n in range(1, 101)]
        number += 100
        put(store, *open_tasks)
        kept.update((task.id, task) for task in open_tasks)
        fill(small_disk / "filler")
        refused_at = 0
        for task in (end(task) for task in open_tasks):
            result = commit(store, tasks=[task])
            if not result.ok:
                assert isinstance(result.error, StorageFull), result.error
                refused_at = task.id
                break
            kept[task.id] = task
        assert store.full and not os.path.exists(layout.ballast)
        assert refused_at == 0 or refused_at > open_tasks[10].id, "no result was recorded out of the ballast"
        assert ask(store, everything) == kept
        os.unlink(small_disk / "filler")
        assert not store.full, "who made room is not refused for want of it"
        assert os.path.exists(layout.ballast)
        assert len(wait_for_trim(store)) > 0
        kept = ask(store, everything)
    store.close()
    assert all_tasks(layout) == kept


def everything(reader: Reader) -> dict[int, Task]:
    return reader.tasks(reader.last_ids(1 << 40))


def end(task: Task) -> Task:
    from msgspec.structs import replace

    from tmax.core.model import Outcome

    return replace(ended(task), outcome=Outcome(result=b"r" * 20_000, form="pickle"))


def wait_for_trim(store: object) -> list[int]:
    from tests.contract.stores import trim

    gone = trim(store, 10)  # type: ignore[arg-type]
    assert isinstance(gone, list), gone
    return gone


def fill(path: Path) -> None:
    with open(path, "wb", buffering=0) as file:
        for size in (65536, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass


def test_a_store_opened_on_a_full_disk_says_so(small_disk: Path) -> None:
    layout = place(small_disk)
    open_store(layout).close()
    fill(small_disk / "filler")
    store = open_store(layout, StoreSettings(ballast_bytes=512 * 1024))
    assert store.full and not os.path.exists(layout.ballast)
    os.unlink(small_disk / "filler")
    assert not store.full, "who made room is not refused for want of it"
    store.close()


def test_no_store_can_be_made_on_a_full_disk_and_none_is_claimed(small_disk: Path) -> None:
    from tmax.errors import StoreError

    layout = place(small_disk)
    fill(small_disk / "filler")
    with pytest.raises(StoreError):
        open_store(layout)
    os.unlink(small_disk / "filler")
    assert all_tasks(layout) == {}
