"""Tasks that harm their worker, and files of a swarm that somebody put something else in place of."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.box import Box
from tests.integration.control.test_hostile_words import ask
from tmax.errors import FolderError
from tmax.layout import private_folder

HARM = """
import signal
def ignore_all():
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
def block_all():
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
def blocked():
    return sorted(int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
def forever():
    while True:
        pass
"""


def test_signals_that_a_task_ignored_or_blocked_do_not_harm_the_next_ones(box: Box) -> None:
    (box.root / "harm.py").write_text(HARM)
    box.init(1)
    pid = box.workers()[0]["pid"]
    for function in ("ignore_all", "block_all"):
        box.tmax("wait", str(box.submit("--py", f"harm:{function}")))
        assert box.tmax("run", "--", "sh", "-c", "true | cat; exit 0").returncode == 0
    number = box.submit("--py", "harm:blocked")
    box.tmax("wait", str(number))
    assert box.tmax("result", str(number)).stdout.strip() == "[]"
    number = box.submit("--py", "harm:forever", "--timeout", "0.2")
    box.tmax("wait", str(number), "--ignore-failures")
    assert "timed out" in box.tmax("result", str(number), ok=False).stderr
    assert box.workers()[0]["pid"] == pid


def test_a_variable_without_a_name_fails_its_task_alone(box: Box) -> None:
    box.init(1)
    pid = box.workers()[0]["pid"]
    (number,) = ask(box, verb="submit", tasks=[{"kind": "shell", "argv": ["true"], "env": {"a=b": "x"}}])["ids"]
    box.tmax("wait", str(number), "--ignore-failures")
    assert box.task(number)["state"] == "failed"
    assert box.workers()[0]["pid"] == pid


def become_a_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def test_down_ends_everything_although_it_cannot_be_marked(box: Box) -> None:
    box.init(1)
    become_a_folder(box.state / "down")
    box.tmax("down")
    assert box.processes() == {}


@pytest.mark.parametrize("name", ["down", "init.lock", "settings.json", "controller.log", "created"])
def test_a_folder_in_the_place_of_a_file_is_named(box: Box, name: str) -> None:
    box.init(1)
    box.tmax("down")
    become_a_folder(box.state / name)
    done = box.tmax("init", "-n", "1", ok=False)
    assert done.returncode in (1, 74)
    assert str(box.state / name) in done.stderr
    assert "bug in tmax" not in done.stderr
    assert "Errno" not in done.stderr
    (box.state / name).rmdir()


@pytest.mark.parametrize("text", [b"\xff\xfe\0", b"relative/path", b"/tmp/a\n/tmp/b", b""])
def test_a_record_of_the_runtime_folder_that_makes_no_sense_is_passed_over(box: Box, text: bytes) -> None:
    box.init(1)
    box.tmax("down")
    (box.state / "place").write_bytes(text)
    box.init(1)
    assert box.status()["controller_pid"]


def open_folder(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def foreign_folder(path: Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, 65534, 65534)


SQUATS: dict[str, Callable[[Path], object]] = {
    "a link": lambda path: path.symlink_to(path.parent.parent),
    "a file": lambda path: path.write_text(""),
    "a FIFO": os.mkfifo,
    "a folder open to others": open_folder,
    "a folder of another user": foreign_folder,
}


@pytest.mark.parametrize("what", SQUATS)
def test_what_another_user_put_in_the_place_of_our_folder_in_tmp_is_refused(tmp_path: Path, what: str) -> None:
    if what == "a folder of another user" and os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    public = tmp_path / "tmp"
    public.mkdir()
    public.chmod(0o1777)
    SQUATS[what](public / "tmax-1000")
    with pytest.raises(FolderError) as refused:
        private_folder(str(public / "tmax-1000" / "default"))
    assert str(public / "tmax-1000") in refused.value.message
    assert not (tmp_path / "default").exists()


def test_in_tmp_the_folder_above_ours_is_made_for_us_alone(tmp_path: Path) -> None:
    public = tmp_path / "tmp"
    public.mkdir()
    public.chmod(0o1777)
    private_folder(str(public / "tmax-1000" / "default"))
    assert (public / "tmax-1000").stat().st_mode & 0o777 == 0o700
