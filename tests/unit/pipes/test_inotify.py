"""A folder is watched through its removal and its return, whatever is done to it or to the folders above it."""

from __future__ import annotations

import os
import select
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tmax_pipes.inotify import IN_CREATE, FolderWatch, Inotify


@pytest.fixture
def inotify() -> Iterator[Inotify]:
    made = Inotify()
    assert made.fd >= 0
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "a" / "b" / "c"
    path.mkdir(parents=True)
    return path


def heard(inotify: Inotify, watch: FolderWatch) -> bool:
    """Whether the watch is concerned by what happened so far; all of it is taken in."""
    concerned = False
    while select.select([inotify.fd], [], [], 0)[0]:
        concerned |= watch.concerns(inotify.read())
    return concerned


def replace(folder: Path) -> None:
    folder.rename(folder.with_name("old"))
    folder.mkdir()


CHANGES: dict[str, Callable[[Path], object]] = {
    "removed": shutil.rmtree,
    "parent removed": lambda folder: shutil.rmtree(folder.parent),
    "grandparent removed": lambda folder: shutil.rmtree(folder.parent.parent),
    "moved": lambda folder: folder.rename(folder.with_name("other")),
    "parent moved": lambda folder: folder.parent.rename(folder.parent.with_name("other")),
    "grandparent moved": lambda folder: folder.parent.parent.rename(folder.parent.parent.with_name("other")),
    "replaced": replace,
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_way_to_lose_it_is_heard_and_so_is_its_return(inotify: Inotify, folder: Path, change: str) -> None:
    watch = FolderWatch(inotify, str(folder), IN_CREATE)
    assert watch.arm()
    assert not heard(inotify, watch)
    CHANGES[change](folder)
    assert heard(inotify, watch)
    if not watch.arm():
        heard(inotify, watch)
        for path in (folder.parent.parent, folder.parent, folder):
            if not path.exists():
                path.mkdir()
                assert heard(inotify, watch), path
                watch.arm()
    heard(inotify, watch)
    (folder / "new").touch()
    assert heard(inotify, watch)


def test_what_happens_beside_it_wakes_nobody(inotify: Inotify, folder: Path) -> None:
    watch = FolderWatch(inotify, str(folder), IN_CREATE)
    watch.arm()
    for other in (folder.parent, folder.parent.parent, folder.parent.parent.parent):
        (other / "beside").touch()
        (other / "beside").unlink()
    assert not select.select([inotify.fd], [], [], 0)[0]


def test_a_link_in_its_place_counts_as_missing(inotify: Inotify, folder: Path) -> None:
    folder.rename(folder.with_name("target"))
    folder.symlink_to("target")
    watch = FolderWatch(inotify, str(folder), IN_CREATE)
    assert not watch.arm()
    (folder.with_name("target") / "new").touch()
    assert not heard(inotify, watch)
    folder.unlink()
    assert heard(inotify, watch)


def test_a_folder_that_is_made_while_nothing_is_watched_is_found(inotify: Inotify, tmp_path: Path) -> None:
    path = tmp_path / "x" / "y"
    watch = FolderWatch(inotify, str(path), IN_CREATE)
    assert not watch.arm()
    os.makedirs(path)
    assert watch.arm()
