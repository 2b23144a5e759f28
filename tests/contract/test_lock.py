"""The lock of a controller: one holder, gone with its process, and not fooled by a file that was exchanged."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.stores import place
from tests.wait import wait_until
from tmax.errors import StoreError
from tmax.layout import Layout
from tmax.storage.lock import LockHeld, controller_lock
from tmax.storage.lock import holder as lock_holder

ROOT = Path(__file__).resolve().parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to make a file of another user")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return place(tmp_path)


def child_env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/pipes"}


HOLD = """
import sys
from tmax.storage.lock import controller_lock
lock = controller_lock(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(layout: Layout) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, layout.lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=child_env()
    )
    with child:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        yield child
        child.kill()


def test_a_killed_holder_holds_nothing(layout: Layout, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(LockHeld) as caught:
        controller_lock(layout.lock)
    assert caught.value.pid == holder.pid and caught.value.path == layout.lock
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(10)
    controller_lock(layout.lock).close()


def test_a_lock_that_was_unlinked_is_not_ours(layout: Layout, holder: subprocess.Popen[str]) -> None:
    os.unlink(layout.lock)
    lock = controller_lock(layout.lock)
    with pytest.raises(LockHeld):
        controller_lock(layout.lock)
    lock.close()
    lock.close()
    controller_lock(layout.lock).close()


def test_the_lock_is_private_and_not_inherited(layout: Layout) -> None:
    with controller_lock(layout.lock) as lock:
        assert stat.S_IMODE(os.stat(layout.lock).st_mode) == 0o600
        assert fcntl.fcntl(lock._descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/null", path)], ids=["folder", "fifo", "link"])
def test_a_lock_that_is_no_file_is_refused(layout: Layout, make: object) -> None:
    make(layout.lock)  # type: ignore[operator]
    with pytest.raises(StoreError, match=r"opened|not a plain file"):
        controller_lock(layout.lock)


@needs_root
def test_a_lock_of_another_user_is_refused(layout: Layout) -> None:
    controller_lock(layout.lock).close()
    os.chown(layout.lock, 65534, 65534)
    with pytest.raises(StoreError, match="uid 65534"):
        controller_lock(layout.lock)


def test_of_many_only_one_gets_the_lock(layout: Layout) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", HOLD, layout.lock],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=child_env(),
        )
        for _ in range(8)
    ]
    try:
        wait_until(lambda: sum(child.poll() is None for child in children) == 1, 60)
        winner = next(child for child in children if child.poll() is None)
        assert winner.stdout is not None and winner.stdout.readline() == "held\n"
    finally:
        for child in children:
            child.kill()
            child.communicate()


def test_who_holds_it_can_be_asked_without_taking_it(layout: Layout, holder: subprocess.Popen[str]) -> None:
    assert lock_holder(layout.lock) == holder.pid
    holder.kill()
    holder.wait()
    assert lock_holder(layout.lock) is None
    controller_lock(layout.lock).close()
    assert lock_holder(f"{layout.lock}.other") is None
