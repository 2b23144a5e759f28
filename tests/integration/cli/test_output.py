"""Standard descriptors that are closed, full or gone, and answers of any size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.box import PACKAGE_PATH
from tests.integration.cli.toy import Answer, Toy
from tests.wait import wait_until
from tmax.cli import fast
from tmax_pipes.blobs import put

TASK: Answer = {
    "id": 1,
    "kind": "python",
    "label": "f",
    "state": "done",
    "exit_code": None,
    "form": "json",
    "result": {"n": 1},
    "name": "",
    "why": "",
}
REPLIES: dict[str, Any] = {
    "status": {"ok": True, "text": "fine\n", "snapshot": {"at": 1.0, "workers": []}},
    "workers": {"ok": True, "text": "fine\n", "workers": []},
    "hello": {"ok": True, "workers": 1, "pid": 1, "swarm": "default", "notice": "", "version": "0"},
    "ready": {"ok": True, "workers": 1},
    "ps": {"ok": True, "text": "fine\n", "tasks": [TASK]},
    "submit": {"ok": True, "ids": [1]},
    "wait": {"ok": True, "tasks": [TASK]},
    "show": {"ok": True, "task": TASK, "blobs": "/nowhere"},
    "logs": {"ok": True, "task": 1, "state": "done", "file": None, "wanted_file": "/nowhere/1.log", "tail": "aGkK", "live": False},
    "cancel": {"ok": True, "results": [{"id": 1, "was": "ready", "now": "cancelled"}]},
    "select": {"ok": True, "ids": [1]},
    "hold": {"ok": True, "held": True},
    "locate": {"ok": True, "session": "w1", "pane": "%1", "worker": "w1", "task": None, "tmux": "/x"},
}
LINES = (
    "", "--help", "ps --help", "--version", "status", "workers", "ps", "ps --json", "ps -q", "submit -- true", "kernel matmul --n 2", "wait --json 1", "result 1",
    "logs 1", "logs --json 1", "cancel 1", "hold", "init", "attach --json", "down --dry-run", "doctor",
)  # fmt: skip


def shell(toy: Toy, line: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    command = line.replace("TMAX", f"{sys.executable} -m tmax")
    made = {**toy.env, "PYTHONPATH": PACKAGE_PATH, **env}
    return subprocess.run(["sh", "-c", command], env=made, capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL)


@pytest.fixture
def full(toy: Toy) -> Toy:
    """A toy that answers every verb."""
    toy.replies.update(REPLIES)
    toy.replies["status"]["snapshot"] = {"controller_pid": 2**22, "workers": [], "tasks": {}}
    return toy


@pytest.mark.parametrize("line", LINES)
def test_an_output_that_cannot_be_written_is_named_and_is_74(full: Toy, line: str) -> None:
    done = shell(full, f"TMAX {line} >/dev/full")
    assert done.returncode == 74, done.stderr
    assert b"cannot write to standard output: No space left on device" in done.stderr
    assert b"bug in tmax" not in done.stderr
    closed = shell(full, f"TMAX {line} <&- >&-")
    assert closed.returncode == 74, closed.stderr
    assert b"cannot write to standard output: it is closed" in closed.stderr


def test_a_submit_that_cannot_print_its_id_says_that_the_task_was_accepted(full: Toy) -> None:
    done = shell(full, "TMAX submit -- true >/dev/full")
    assert done.returncode == 74
    assert b"hint: task 1 was accepted" in done.stderr


@pytest.mark.parametrize("line", LINES[:-1])
def test_a_closed_stdin_or_stderr_breaks_no_verb(full: Toy, line: str) -> None:
    open_ = shell(full, f"TMAX {line}")
    for closed in ("<&- 2>&-", "2>/dev/full"):
        done = shell(full, f"TMAX {line} {closed}")
        assert done.returncode == open_.returncode
        assert (done.stdout == b"") == (open_.stdout == b"")


def test_a_closed_descriptor_is_never_taken_for_the_control_socket(full: Toy) -> None:
    shell(full, "TMAX ps --json >&-")
    assert [request["verb"] for request in full.asked] == ["ps"]


def test_an_error_needs_neither_stderr_nor_stdout(full: Toy) -> None:
    for line in ("frob", "ps --nope", "wait --json", "submit --name 3 -- true", "--debug frob"):
        for closed in ("2>&-", "2>/dev/full", ">&- 2>&-"):
            assert shell(full, f"TMAX {line} {closed}").returncode == 2
    assert b"Traceback" in shell(full, "TMAX --debug frob").stderr
    assert shell(full, "TMAX --debug frob 2>&-").stdout == b""


def test_a_json_argument_from_a_closed_stdin_is_a_wrong_usage(full: Toy) -> None:
    done = shell(full, "TMAX submit --py m:f - <&-")
    assert done.returncode == 2
    assert b"standard input" in done.stderr or b"stdin" in done.stderr


def test_help_whose_reader_goes_away_is_141_and_silent(full: Toy) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        env = {**full.env, "PYTHONPATH": PACKAGE_PATH}
        done = subprocess.run([sys.executable, "-m", "tmax", "--help"], env=env, stdout=writer, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


# -- many rows -------------------------------------------------------------------------------------


def test_an_answer_in_pieces_is_one_text_one_json_value_or_one_list_of_ids(toy: Toy, capfd: pytest.CaptureFixture[str]) -> None:
    rows = [{**TASK, "id": number} for number in range(1, 8)]
    toy.replies["ps"] = lambda request: (
        [{"ok": True, "more": True, "text": "a\n"}, {"ok": True, "text": "b\n"}]
        if request.get("text")
        else [{"ok": True, "more": True, "tasks": rows[:3]}, {"ok": True, "more": True, "tasks": []}, {"ok": True, "tasks": rows[3:]}]
    )
    assert fast.main(["ps", "--limit", "0"]) == 0
    assert capfd.readouterr().out == "a\nb\n"
    assert fast.main(["ps", "--json"]) == 0
    value = json.loads(capfd.readouterr().out)
    assert value["schema_version"] == 1
    assert [row["id"] for row in value["tasks"]] == [1, 2, 3, 4, 5, 6, 7]
    assert fast.main(["ps", "-q"]) == 0
    assert capfd.readouterr().out.split() == list("1234567")
    assert [request["limit"] for request in toy.asked] == [0, 50, 50]
    toy.replies["ps"] = {"ok": True, "tasks": []}
    assert fast.main(["ps", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"schema_version": 1, "tasks": []}


def test_wait_names_some_of_many_failed_tasks_each_on_one_line(toy: Toy, capfd: pytest.CaptureFixture[str]) -> None:
    toy.replies["wait"] = {
        "ok": True,
        "tasks": [{**TASK, "id": number, "state": "failed", "why": "no\n" * 1500} for number in range(1, 201)],
    }
    toy.replies["select"] = {"ok": True, "ids": list(range(1, 201))}
    assert fast.main(["wait", "1-200"]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 51
    assert lines[0].startswith("task 1 failed: no no no")
    assert lines[0].endswith("…")
    assert max(map(len, lines)) < 250
    assert lines[-1] == "and 150 more of 200 did not succeed: tmax ps --failed --limit 0"


MEMORY_KB = 150_000

# -- large outputs and results ---------------------------------------------------------------------


def output_of(toy: Toy, *args: str) -> bytes:
    """Run a command that may use hardly more memory than it needs to start; return what it printed."""
    path = toy.root / "out"
    command = ["sh", "-c", f'ulimit -v {MEMORY_KB}; exec "$@"', "sh", sys.executable, "-m", "tmax", *args]
    with path.open("wb") as out:
        done = subprocess.run(
            command, env={**toy.env, "PYTHONPATH": PACKAGE_PATH}, stdout=out, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    return path.read_bytes()


def test_a_log_of_any_size_is_streamed_as_one_json_value(toy: Toy) -> None:
    log = toy.root / "7.log"
    line = "päper\x1b[31m \N{GRINNING FACE}".encode() + b"\xff\n"
    log.write_bytes(b"x" + line * (60_000_000 // len(line)))  # borders of pieces fall into characters
    toy.replies["logs"] = {**REPLIES["logs"], "file": str(log)}
    value = json.loads(output_of(toy, "logs", "7", "--json"))
    assert value["output"] == log.read_bytes().decode("utf-8", "replace")
    assert (value["task"], value["state"], "tail" in value) == (1, "done", False)


@pytest.mark.parametrize("form", ["json", "pickle"])
def test_a_large_result_is_streamed(toy: Toy, form: str) -> None:
    import base64

    folder = toy.root / "blobs"
    folder.mkdir(mode=0o700)
    data = json.dumps("y" * 50_000_000).encode() if form == "json" else b"z" * 50_000_001
    blob = put(folder, data)
    task = {key: one for key, one in TASK.items() if key != "result"}
    named = {"digest": blob.digest, "size_bytes": blob.size_bytes}
    toy.replies["show"] = {"ok": True, "task": {**task, "form": form, "blob": named}, "blobs": str(folder)}
    shown = json.loads(output_of(toy, "result", "1", "--json"))["task"]
    assert shown["result"] == "y" * 50_000_000 if form == "json" else base64.b64decode(shown["pickle"]) == data
    assert "blob" not in shown
    if form == "json":
        assert output_of(toy, "result", "1") == data + b"\n"


# -- a working directory that is gone --------------------------------------------------------------


@pytest.mark.parametrize("line", [*LINES[2:-1], "submit --py m:f", "run -- true"])
def test_in_a_removed_working_directory_verbs_work_or_say_why(full: Toy, line: str) -> None:
    gone = full.root / "gone"
    gone.mkdir()
    done = shell(full, f"cd {gone} && rmdir {gone} && TMAX {line}")
    needs_it = line.startswith(("submit", "run"))
    assert b"bug in tmax" not in done.stderr
    assert b"Traceback" not in done.stderr
    if needs_it:
        assert done.returncode == 2
        assert b"error: the working directory no longer exists\nhint: cd" in done.stderr
    else:
        assert done.returncode == 0, done.stderr


def test_quick_calls_in_a_loop_leave_nothing_behind(full: Toy) -> None:
    done = shell(full, "i=0; while [ $i -lt 20 ]; do TMAX ps | head -c 1 >/dev/null || exit 9; i=$((i+1)); done")
    assert (done.returncode, done.stderr) == (0, b"")
    wait_until(lambda: len(full.asked) == 20)
