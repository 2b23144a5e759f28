"""The store of a swarm that is down has one reader at a time: others wait for it, and so does a controller that starts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box import Box
from tests.wait import wait_until

HOLD = """
import sys
from tmax.layout import locate
from tmax.storage.store import open_for_reading
with open_for_reading(locate("default")):
    print("reads", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def reader(box: Box) -> Iterator[subprocess.Popen[str]]:
    """Somebody who reads the store of the box's swarm, which is down, until its standard input ends."""
    box.init(1)
    box.tmax("run", "--", "echo", "kept")
    box.tmax("down")
    with subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=box.env) as child:
        assert child.stdout is not None and child.stdout.readline() == "reads\n"
        yield child
        child.kill()


def started(box: Box, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        box.command(*words), env=box.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def opens_the_store(process: subprocess.Popen[str]) -> bool:
    """Whether this verb has found that there is no controller: only then it needs SQLite."""
    assert process.poll() is None
    return "_sqlite3" in Path(f"/proc/{process.pid}/maps").read_text()


@pytest.mark.parametrize("words", [("ps", "--all"), ("result", "1"), ("logs", "1"), ("wait", "1"), ("status",)])
def test_a_reading_verb_waits_for_another_one(box: Box, reader: subprocess.Popen[str], words: tuple[str, ...]) -> None:
    waiting = started(box, *words)
    wait_until(lambda: opens_the_store(waiting))
    reader.communicate()
    _, err = waiting.communicate(timeout=30)
    assert waiting.returncode == (3 if words == ("status",) else 0), err
    assert "lock" not in err


def test_many_reading_verbs_at_once_all_read(box: Box, reader: subprocess.Popen[str]) -> None:
    reader.communicate()
    together = [started(box, "logs", "1") for _ in range(8)]
    assert [one.communicate(timeout=60)[0] for one in together] == ["kept\n"] * 8


def test_init_waits_for_who_reads(box: Box, reader: subprocess.Popen[str]) -> None:
    log = box.state / "controller.log"
    size = log.stat().st_size
    starting = started(box, "init", "-n", "1")
    wait_until(lambda: any("tmax.controller" in text for text in box.processes().values()))
    waiting = started(box, "logs", "1")  # waits for the same, and then for the controller
    reader.communicate()
    _, err = starting.communicate(timeout=60)
    assert starting.returncode == 0, err
    assert waiting.communicate(timeout=30)[0] == "kept\n"
    assert b"is held" not in log.read_bytes()[size:]
