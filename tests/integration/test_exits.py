"""How functions and their forked children leave, by ``--py`` and through the API."""

from __future__ import annotations

import os
import sys
import traceback

import pytest

from tests.box import Box

WORK = """
import os, sys

def leave(*code):
    sys.exit(*code)

def quit_():
    exit()

def text():
    sys.exit("no such luck")

def child(how):
    pid = os.fork()
    if pid == 0:
        if how == "exit":
            sys.exit(7)
        if how == "raise":
            raise ValueError("in the child")
        if how == "os":
            os._exit(9)
        return None
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


@pytest.fixture(scope="module")
def box(module_box: Box) -> Box:
    (module_box.root / "work.py").write_text(WORK)
    return module_box


@pytest.mark.parametrize(
    ("call", "code", "state"),
    [
        (("leave",), 0, "done"),
        (("leave", "0"), 0, "done"),
        (("leave", "null"), 0, "done"),
        (("quit_",), 0, "done"),
        (("leave", "256"), 0, "done"),
        (("leave", "3"), 3, "failed"),
        (("leave", "511"), 255, "failed"),
        (("leave", "9223372036854775808"), 255, "failed"),
        (("leave", "true"), 1, "failed"),
        (("text",), 1, "failed"),
    ],
)
def test_a_function_that_leaves_is_a_program_that_leaves(box: Box, call: tuple[str, ...], code: int, state: str) -> None:
    done = box.tmax("run", "--py", f"work:{call[0]}", *call[1:], ok=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert ("no such luck" in done.stdout) == (call == ("text",)), "what it printed is its output"
    story = box.json("result", "@") if state == "done" else {"task": box.task(max(row["id"] for row in box.json("ps", "--all")["tasks"]))}
    assert story["task"]["state"] == state
    assert story["task"]["exit_code"] == (code or None)


@pytest.mark.parametrize(("how", "code"), [("exit", 7), ("return", 0), ("raise", 1), ("os", 9)])
def test_a_forked_child_leaves_as_a_child_of_any_program(box: Box, how: str, code: int) -> None:
    done = box.tmax("run", "--py", "work:child", how)
    assert done.stdout.splitlines()[-1] == str(code)
    assert ("ValueError: in the child" in done.stdout) == (how == "raise")
    assert "tmax_workers" not in done.stdout


@pytest.mark.parametrize("code", [0, 3, None, "text"])
def test_a_future_raises_the_exit_of_its_function(box: Box, monkeypatch: pytest.MonkeyPatch, code: object) -> None:
    for name in [name for name in os.environ if name.startswith(("TMAX", "XDG_"))]:
        monkeypatch.delenv(name)
    for name, text in box.env.items():
        monkeypatch.setenv(name, text)
    from tmax import Swarm

    with Swarm.connect() as swarm:
        error = swarm.submit(sys.exit, code).exception(timeout=30)
        assert type(error) is SystemExit and error.code == code, traceback.format_exception(error)
