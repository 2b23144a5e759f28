"""Places: published whole, read with suspicion, removed without a trace."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from tests.wait import wait_until
from tmax_pipes.fifo import WorkerFifos
from tmax_pipes.proc_stat import start_ticks
from tmax_pipes.rendezvous import Rendezvous, folder_of, forget, publish, remove, scan, traces


def place_of(folder: Path, life: int, n: int = 1) -> Rendezvous:
    return Rendezvous(folder=str(folder_of(folder, life, n)), pid=10, ticks=20, life=life, n=n)


def test_published_places_are_found_by_life(tmp_path: Path) -> None:
    for life in (10, 9, 2):
        publish(tmp_path, place_of(tmp_path, life))
    assert scan(tmp_path) == [place_of(tmp_path, life) for life in (2, 9, 10)]
    publish(tmp_path, place_of(tmp_path, 9, 2))
    assert scan(str(tmp_path))[1] == place_of(tmp_path, 9, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["life-10.json", "life-2.json", "life-9.json"]
    assert (tmp_path / "life-2.json").stat().st_mode & 0o777 == 0o600


def test_no_folder_no_places(tmp_path: Path) -> None:
    assert scan(tmp_path / "missing") == []


def test_a_folder_whose_name_is_not_text(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    publish(folder, place_of(folder, 1))
    assert scan(folder) == [place_of(folder, 1)]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"life": "\xff"}', b"\x00" * 5000])
def test_what_is_no_record_is_passed_over(tmp_path: Path, text: bytes) -> None:
    publish(tmp_path, place_of(tmp_path, 1))
    (tmp_path / "life-2.json").write_bytes(text)
    assert scan(tmp_path) == [place_of(tmp_path, 1)]


def test_records_that_lead_elsewhere_are_passed_over(tmp_path: Path) -> None:
    elsewhere = Rendezvous(folder="../../etc", pid=1, ticks=1, life=3, n=1)
    for path, place in {"life-3.json": elsewhere, "life-4.json": msgspec.structs.replace(elsewhere, folder="3.1")}.items():
        (tmp_path / path).write_bytes(msgspec.json.encode(place))
        (tmp_path / path).chmod(0o600)
    publish(tmp_path, place_of(tmp_path, 5))
    (tmp_path / "life-6.json").symlink_to(tmp_path / "life-5.json")
    (tmp_path / "life-7.json").mkdir()
    os.mkfifo(tmp_path / "life-8.json", 0o600)
    publish(tmp_path, place_of(tmp_path, 9))
    (tmp_path / "life-9.json").chmod(0o666)
    assert scan(tmp_path) == [place_of(tmp_path, 5)]


def test_an_older_connection_does_not_take_the_record_of_a_newer_one(tmp_path: Path) -> None:
    first = WorkerFifos.create(tmp_path, 7)
    second = WorkerFifos.create(tmp_path, 7, 2)
    remove(first.folder)
    assert [place.n for place in scan(tmp_path)] == [2]
    remove(second.folder)
    remove(second.folder)
    assert list(tmp_path.iterdir()) == []
    first.close()
    second.close()


def test_a_life_is_forgotten_with_all_it_left(tmp_path: Path) -> None:
    made = [WorkerFifos.create(tmp_path, 7), WorkerFifos.create(tmp_path, 7, 2), WorkerFifos.create(tmp_path, 77)]
    (tmp_path / ".life-7.3").touch()
    (tmp_path / "7.3").mkdir()
    forget(tmp_path, 7)
    forget(tmp_path, 7)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["77.1", "life-77.json"]
    for fifos in made:
        fifos.close()


def test_start_ticks_tell_processes_apart() -> None:
    assert start_ticks(os.getpid()) == start_ticks(os.getpid()) > 0
    child = subprocess.Popen(["sleep", "60"])
    assert start_ticks(child.pid) >= start_ticks(os.getpid())
    child.kill()
    child.wait()
    assert start_ticks(child.pid) == 0


def test_start_ticks_of_a_process_with_a_hostile_name(tmp_path: Path) -> None:
    program = tmp_path / "a) R (b 1"
    program.write_text("#!/bin/sh\nread line\n")
    program.chmod(0o700)
    child = subprocess.Popen([str(program)], stdin=subprocess.PIPE)
    try:
        wait_until(lambda: b"(a) R (b 1)" in Path(f"/proc/{child.pid}/stat").read_bytes())
        assert start_ticks(child.pid) >= start_ticks(os.getpid())
    finally:
        child.communicate(b"")


def test_a_life_that_never_published_leaves_traces_that_are_found(tmp_path: Path) -> None:
    (tmp_path / "7.2").mkdir()
    (tmp_path / ".life-9.json.abc").touch()
    (tmp_path / "life-11.results").touch()
    (tmp_path / "other").touch()
    assert traces(tmp_path) == {7, 9, 11}
