"""A hot verb starts in hardly more than a bare interpreter: what it imports is a list, what it costs is a ratio."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.box import PACKAGE_PATH, REPOSITORY
from tests.integration.cli.toy import Toy

TASK = {"id": 1, "kind": "shell", "label": "true", "state": "done", "exit_code": 0, "form": "none", "name": "", "why": ""}
REPLIES = {
    "status": {"ok": True, "text": "fine\n", "snapshot": {"at": 1.0, "workers": []}},
    "ps": {"ok": True, "text": "fine\n", "tasks": [TASK]},
    "submit": {"ok": True, "ids": [1]},
    "wait": {"ok": True, "tasks": [TASK]},
    "show": {"ok": True, "task": TASK, "blobs": "/nowhere"},
    "logs": {"ok": True, "task": 1, "state": "done", "file": None, "tail": "aGkK", "live": False},
    "cancel": {"ok": True, "results": [{"id": 1, "was": "ready", "now": "cancelled"}]},
    "select": {"ok": True, "ids": [1]},
}
ALLOWED = {
    "__future__", "_json", "_socket", "binascii", "time", "tmax", "tmax.errors", "tmax.layout", "tmax.version", "tmax.cli", "tmax.cli.fast", "tmax.cli.arguments",
    "tmax.cli.declaration", "tmax.cli.output", "tmax.cli.codec", "tmax.cli.request", "tmax.cli.verbs", "tmax.control", "tmax.control.dial",
    "tmax.cli.task_flags", "tmax.core", "tmax.core.option_values", "tmax_pipes", "tmax_pipes.task_options",
}  # fmt: skip
"""What every verb may import; the others are named by their last part."""


def environment(toy: Toy, tmp_path: Path) -> dict[str, str]:
    return {**toy.env, "PYTHONPATH": PACKAGE_PATH, "PYTHONPYCACHEPREFIX": str(tmp_path)}


def imported(command: list[str], env: dict[str, str]) -> set[str]:
    done = subprocess.run([sys.executable, "-X", "importtime", *command], env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return {match[1] for match in re.finditer(r"^import time:.*\|\s*(\S+)$", done.stderr, re.MULTILINE)}


@pytest.mark.parametrize(
    "line, own",
    [
        ("", {"status"}),
        ("status --json", {"status"}),
        ("ps -a", {"ps", "task_end"}),
        ("submit -- true", {"submit", "task_flags", "task_request", "reconnect", "resource"}),
        ("wait 1", {"wait", "task_ids", "reconnect", "task_end"}),
        ("wait @", {"wait", "task_ids", "reconnect", "task_end"}),
        ("result 1", {"result", "task_ids", "outcome", "task_end"}),
        ("cancel 1", {"cancel_verb", "task_ids"}),
        ("logs 1", {"logs", "task_ids", "log_output"}),
    ],
)
def test_a_hot_verb_imports_only_what_is_on_the_list(toy: Toy, tmp_path: Path, line: str, own: set[str]) -> None:
    toy.replies.update(REPLIES)
    env = environment(toy, tmp_path)
    bare = imported(["-c", "pass"], env)
    found = imported([str(REPOSITORY / "scripts" / "tmax"), *line.split()], env) - bare
    more = {name.rpartition(".")[2] for name in found - ALLOWED}
    assert more <= own, more - own


def test_a_hot_verb_takes_little_more_than_a_bare_interpreter(toy: Toy, tmp_path: Path) -> None:
    """The target is 1.5 times; the best of many runs side by side, as this machine may be busy with other things."""
    toy.replies.update(REPLIES)
    env = environment(toy, tmp_path)
    commands = {"bare": ["-c", "pass"], "tmax": [str(REPOSITORY / "scripts" / "tmax"), "status"]}

    def once(name: str) -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, *commands[name]], env=env, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - begun

    once("tmax")
    ratio = 9.9
    for _ in range(4):
        rounds = [(once("bare"), once("tmax")) for _ in range(10)]
        ratio = min(ratio, min(tmax for _, tmax in rounds) / min(bare for bare, _ in rounds))
        if ratio < 1.5:
            return
    assert ratio < 1.5


def test_bare_python_m_tmax_works_too(toy: Toy) -> None:
    toy.replies.update(REPLIES)
    done = subprocess.run(
        [sys.executable, "-m", "tmax"],
        env={**os.environ, **toy.env, "PYTHONPATH": PACKAGE_PATH},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "fine\n"
