"""What is wrong around a swarm is said clearly, with the right exit code, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.box import Box
from tests.wait import wait_until


def refused(box: Box, *args: str, code: int) -> str:
    done = box.tmax(*args, ok=False)
    assert done.returncode == code, f"{done.returncode}: {done.stdout} {done.stderr}"
    assert done.stderr.startswith("error:"), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    "verb", [("status",), ("ps",), ("workers",), ("submit", "--", "true"), ("wait", "1"), ("logs", "1"), ("cancel", "1"), ("result", "1")]
)
def test_without_a_swarm_every_verb_says_so(box: Box, verb: tuple[str, ...]) -> None:
    assert "hint:" in refused(box, *verb, code=3)


def test_no_tmux(box: Box) -> None:
    empty = box.root / "empty"
    empty.mkdir()
    box.env["PATH"] = str(empty)
    assert "tmux" in refused(box, "init", code=1)


def test_tmux_too_old(box: Box) -> None:
    fake = box.root / "bin"
    fake.mkdir()
    (fake / "tmux").write_text("#!/bin/sh\necho tmux 2.9a\n")
    (fake / "tmux").chmod(0o755)
    box.env["PATH"] = f"{fake}:{os.environ['PATH']}"
    told = refused(box, "init", code=1)
    assert "2.9a" in told
    assert "3.2" in told


def test_a_state_folder_open_to_others_is_refused(box: Box) -> None:
    folder = box.root / "state" / "tmax" / "default"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert "chmod" in refused(box, "init", code=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_state_folder_that_cannot_be_written_is_named(box: Box) -> None:
    (box.root / "state").chmod(0o500)
    try:
        assert str(box.root / "state") in refused(box, "init", code=1)
    finally:
        (box.root / "state").chmod(0o700)


def test_a_state_folder_that_is_a_file_is_named(box: Box) -> None:
    (box.root / "state" / "tmax").write_text("not a folder")
    assert str(box.root / "state" / "tmax") in refused(box, "init", code=1)
    (box.root / "state" / "tmax").unlink()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[swarm\nworkers = 2", "config.toml"),
        ("[swarm]\nworkerz = 2", "workerz"),
        ("[swarm]\nworkers = 'many'", "workers"),
        ("[nothing]\nx = 1", "nothing"),
        ("[swarm]\nworkers = -1", "workers"),
    ],
)
def test_corrupted_configuration(box: Box, text: str, word: str) -> None:
    folder = box.root / "config" / "tmax"
    folder.mkdir()
    (folder / "config.toml").write_text(text)
    assert word in refused(box, "init", code=2)


def test_unknown_setting_in_the_environment(box: Box) -> None:
    box.env["TMAX_SWARM__WORKERZ"] = "3"
    assert "TMAX_SWARM__WORKERZ" in refused(box, "init", code=2)


def test_a_damaged_store_is_never_replaced_by_an_empty_one(box: Box) -> None:
    box.init(1)
    number = box.submit("--", "true")
    box.tmax("wait", str(number))
    box.tmax("down")
    database = box.state / "tmax.db"
    data = bytearray(database.read_bytes())
    data[: len(data) // 2] = b"\xff" * (len(data) // 2)
    database.write_bytes(bytes(data))
    told = refused(box, "init", code=74)
    assert "tmax.db" in told
    assert database.read_bytes()[:4] == b"\xff" * 4


def test_unknown_verb_and_bad_values(box: Box) -> None:
    refused(box, "no-such-verb", code=2)
    refused(box, "submit", "--priority", "urgent", "--", "true", code=2)
    refused(box, "submit", "--timeout", "soon", "--", "true", code=2)
    refused(box, "init", "-n", "many", code=2)
    refused(box, "submit", code=2)


def test_an_init_whose_workers_cannot_start_fails_and_leaves_nothing(box: Box) -> None:
    swarm = ("init", "-n", "1", "--python", str(_broken(box)))
    assert "before they are ready" in box.tmax(*swarm, ok=False, timeout_s=40).stderr
    assert "taken down" in box.tmax("status", ok=False).stderr
    assert "already running" not in box.tmax("init", "-n", "1").stdout, "it would have the settings of the first"


def test_a_worker_that_cannot_start_is_said_and_an_init_of_a_running_swarm_fails(box: Box) -> None:
    words = box.command("init", "-n", "1", "--python", str(_broken(box)))
    first = subprocess.Popen(words, env=box.env, cwd=box.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: box.tmax("status", ok=False).returncode == 0)
    first.kill()
    first.wait()
    wait_until(lambda: "no more are started" in box.status()["notice"], timeout_s=40)
    again = box.tmax("init", ok=False, timeout_s=40)
    assert again.returncode == 1
    assert "before they are ready" in again.stderr
    assert box.tmax("status").returncode == 0


def _broken(box: Box) -> Path:
    broken = box.root / "python"
    broken.write_text("#!/bin/sh\necho this python is broken >&2\nexit 3\n")
    broken.chmod(0o755)
    return broken


def test_a_state_folder_removed_under_a_swarm_takes_nothing_more(box: Box) -> None:
    box.init(1)
    running = box.submit("--py", "time:sleep", "1")
    wait_until(lambda: box.task(running)["state"] == "running")
    shutil.rmtree(box.state)
    told = refused(box, "submit", "--", "true", code=74)
    assert f"{box.state}/tmax.db was removed while the swarm ran; nothing new is accepted" in told
    assert "tmax down" in told
    assert "was removed while the swarm ran" in box.status()["notice"]
    assert box.tmax("wait", str(running)).returncode == 0, "what runs is finished"
    box.tmax("down")
    box.init(1)
    assert box.tmax("run", "--", "echo", "anew").stdout == "anew\n"
