"""How commands behave around one answer: errors, lost answers, closed pipes, interrupts."""

from __future__ import annotations

import base64
import json
import os
import pickle
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.box import PACKAGE_PATH
from tests.integration.cli.toy import Answer, Toy
from tests.wait import wait_until
from tmax.cli import fast
from tmax_pipes.blobs import put

Capture = pytest.CaptureFixture[str]


def command(toy: Toy, *args: str, **options: Any) -> subprocess.Popen[bytes]:
    env = {**toy.env, "PYTHONPATH": PACKAGE_PATH, **options.pop("env", {})}
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([sys.executable, "-m", "tmax", *args], env=env, **options)


def finished(running: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    out, err = running.communicate(timeout=30)
    return running.returncode, out, err


def test_an_answer_that_was_lost_is_asked_for_again_with_the_same_request_id(toy: Toy, capfd: Capture) -> None:
    tries: list[Answer] = []

    def submit(request: Answer) -> Answer | None:
        tries.append(request)
        return {"ok": True, "ids": [7]} if len(tries) == 3 else None

    toy.replies["submit"] = submit
    assert fast.main(["submit", "-q", "--", "true"]) == 0
    assert capfd.readouterr().out == "7\n"
    assert len({request["request_id"] for request in tries}) == 1
    assert len(tries) == 3


def test_two_submits_have_two_request_ids(toy: Toy) -> None:
    toy.replies["submit"] = {"ok": True, "ids": [7]}
    for _ in range(2):
        fast.main(["submit", "--", "true"])
    assert len({request["request_id"] for request in toy.asked}) == 2


def test_submit_carries_folder_and_environment_bytes_and_no_tmux(toy: Toy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    toy.replies["submit"] = {"ok": True, "ids": [7]}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMUX", "x,1,0")
    monkeypatch.setenv("TMUX_PANE", "%1")
    monkeypatch.setitem(os.environb, b"ODD", b"caf\xe9")
    assert fast.main(["submit", "--name", "n", "--priority", "high", "--timeout", "2m", "--", "echo", os.fsdecode(b"\xff"), "--json"]) == 0
    (task,) = toy.asked[-1]["tasks"]
    assert task["argv"] == ["echo", "\udcff", "--json"]
    assert task["cwd"] == str(tmp_path)
    assert task["env"]["ODD"] == "caf\udce9"
    assert not [name for name in task["env"] if name.startswith("TMUX")]
    assert (task["name"], task["priority"], task["timeout_s"]) == ("n", "high", 120.0)
    assert "retries" not in task


def test_python_arguments_are_json_words_keywords_or_stdin(toy: Toy) -> None:
    toy.replies["submit"] = {"ok": True, "ids": [7]}
    running = command(toy, "submit", "--py", "m:f", "3", "[1, null]", "word", 'key={"a": 1}', "-", '"a=b"', stdin=subprocess.PIPE)
    out, err = running.communicate(b' {"from": "stdin"}\n', timeout=30)
    assert (running.returncode, out, err) == (0, b"7\n", b"")
    (task,) = toy.asked[-1]["tasks"]
    assert task["args"] == [3, [1, None], "word", {"from": "stdin"}, "a=b"]
    assert task["kwargs"] == {"key": {"a": 1}}
    assert task["path"][0] == task["cwd"]


@pytest.mark.parametrize(
    "code, exit_code", [("usage", 2), ("not-found", 4), ("timeout", 75), ("store", 74), ("storage-full", 1), ("no-swarm", 3), ("odd", 1)]
)
def test_the_controllers_errors_have_two_lines_or_json_and_their_exit_code(toy: Toy, capfd: Capture, code: str, exit_code: int) -> None:
    toy.replies["cancel"] = {"error": {"code": code, "message": "it is\x1b[31m so", "hint": "do this"}}
    assert fast.main(["cancel", "1"]) == exit_code
    assert capfd.readouterr() == ("", "error: it is\\x1b[31m so\nhint: do this\n")
    assert fast.main(["cancel", "1", "--json"]) == exit_code
    out, err = capfd.readouterr()
    assert not out
    assert json.loads(err) == {"error": {"code": code, "message": "it is\x1b[31m so", "hint": "do this"}}


def test_a_traceback_only_with_debug(toy: Toy, capfd: Capture) -> None:
    toy.replies["cancel"] = {"ok": True}  # not what was agreed: a fault of ours
    assert fast.main(["cancel", "1"]) == 1
    told = capfd.readouterr().err
    assert told.startswith("error: KeyError")
    assert "Traceback" not in told
    assert fast.main(["cancel", "1", "--debug"]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_a_reader_that_goes_away_is_no_error(toy: Toy) -> None:
    toy.replies["ps"] = {"ok": True, "text": "x" * 1_000_000}
    reader, writer = os.pipe()
    os.close(reader)
    try:
        running = command(toy, "ps", stdout=writer)
    finally:
        os.close(writer)
    assert finished(running)[::2] == (141, b"")
    with command(toy, "--help", env={"COLUMNS": "100"}) as helping:
        assert helping.stdout is not None
        helping.stdout.close()
        assert helping.stderr is not None
        assert b"Traceback" not in helping.stderr.read()


def test_ctrl_c_while_waiting_says_nothing_and_is_130(toy: Toy) -> None:
    toy.replies["wait"] = []
    running = command(toy, "wait", "1")
    wait_until(lambda: toy.asked)
    running.send_signal(signal.SIGINT)
    assert finished(running) == (130, b"", b"")


def test_wait_goes_on_with_the_next_controller(toy: Toy, capfd: Capture) -> None:
    lost: list[Answer] = []

    def wait(request: Answer) -> Answer | None:
        lost.append(request)
        return None if len(lost) < 3 else {"ok": True, "tasks": [{"id": 1, "state": "failed", "why": "exit 3"}]}

    toy.replies["wait"] = wait
    assert fast.main(["wait", "1", "--timeout", "60"]) == 1
    assert capfd.readouterr().err == "task 1 failed: exit 3\n"
    assert lost[2]["timeout_s"] < lost[0]["timeout_s"]
    lost.clear()
    assert fast.main(["wait", "1", "--ignore-failures", "-q"]) == 0


def test_a_swarm_that_was_taken_down_is_not_started_by_submit(toy: Toy, capfd: Capture) -> None:
    toy.replies["submit"] = None
    toy.close_socket()
    (toy.state / "down").touch()
    assert fast.main(["submit", "--", "true"]) == 3
    assert "taken down" in capfd.readouterr().err


def test_a_socket_path_that_is_too_long_is_named(toy: Toy, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = toy.root / ("x" * 60) / ("y" * 60)
    (deep / "tmax" / "default").mkdir(parents=True)
    (toy.runtime / "control.sock").rename(deep / "tmax" / "default" / "control.sock")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    assert fast.main(["status"]) == 1
    assert "too long for a socket" in capfd.readouterr().err


# -- results ---------------------------------------------------------------------------------------


def story(**more: Any) -> Answer:
    return {"id": 5, "kind": "python", "state": "done", "why": "", "form": "none", "exit_code": None, **more}


@pytest.mark.parametrize(
    "task, code, out",
    [
        (story(form="json", result={"a": [1, "ä"]}), 0, '{"a": [1, "\\u00e4"]}\n'),
        (story(form="pickle", pickle=base64.b64encode(pickle.dumps({1, 2})).decode()), 0, "{1, 2}\n"),
        (story(), 0, "null\n"),
        (story(kind="shell", exit_code=0), 0, "exit code 0\n"),
        (story(state="running"), 75, ""),
        (story(state="cancelled"), 1, ""),
    ],
)
def test_results(toy: Toy, capfd: Capture, task: Answer, code: int, out: str) -> None:
    toy.replies["show"] = {"ok": True, "task": task, "blobs": "/nowhere"}
    assert fast.main(["result", "5"]) == code
    assert capfd.readouterr().out == out


@pytest.mark.parametrize(
    "state, why, told",
    [
        ("failed", "exit 3", "task 5 failed: exit 3"),
        ("cancelled", "cancelled", "task 5 cancelled\n"),
        ("cancelled", "cancelled from the pane", "task 5 cancelled from the pane\n"),
    ],
)
def test_an_end_is_not_said_twice(toy: Toy, capfd: Capture, state: str, why: str, told: str) -> None:
    toy.replies["show"] = {"ok": True, "task": story(state=state, why=why), "blobs": "/nowhere"}
    assert fast.main(["result", "5"]) == 1
    assert told in capfd.readouterr().err


def test_zero_is_a_value(toy: Toy) -> None:
    toy.replies["submit"] = {"ok": True, "ids": [7]}
    assert fast.main(["kernel", "matmul", "--n", "0"]) == 2, "refused, not taken for one that was not given"
    fast.main(["submit", "--retries", "0", "--", "true"])
    [asked] = [request for request in toy.asked if request["verb"] == "submit"]
    assert asked["tasks"][0]["retries"] == 0


def test_logs_of_neither_a_worker_nor_a_task_says_both(toy: Toy, capfd: Capture) -> None:
    gone = {"error": {"code": "not-found", "message": "no task named 'w9'", "hint": ""}}
    toy.replies |= {"logs": gone, "select": gone}
    assert fast.main(["logs", "w9"]) == 4
    assert "no worker 'w9', and no task named 'w9'" in capfd.readouterr().err


def test_attach_to_neither_a_worker_nor_a_task_says_both(toy: Toy, capfd: Capture) -> None:
    gone = {"error": {"code": "not-found", "message": "no task named 'w9'", "hint": ""}}
    toy.replies |= {"locate": gone, "select": gone}
    assert fast.main(["attach", "w9"]) == 4
    assert "no worker 'w9', and no task named 'w9'" in capfd.readouterr().err


def test_json_among_the_words_of_another_command_does_not_make_errors_json(toy: Toy, capfd: Capture) -> None:
    toy.replies["submit"] = {"error": {"code": "usage", "message": "no", "hint": ""}}
    for line, begin in (("submit ls --json", "error: no"), ("submit --json ls", '{"error"')):
        assert fast.main(line.split()) == 2
        assert capfd.readouterr().err.startswith(begin)


def test_a_large_result_is_read_from_its_file(toy: Toy, capfd: Capture) -> None:
    blob = put(toy.state, pickle.dumps("large"))
    toy.replies["show"] = {"ok": True, "task": story(form="pickle", blob=msgspec.to_builtins(blob)), "blobs": str(toy.state)}
    assert fast.main(["result", "5"]) == 0
    assert capfd.readouterr().out == "'large'\n"
    (toy.state / blob.digest).unlink()
    assert fast.main(["result", "5"]) == 74


class Canary:
    """Says that it was unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._path),)


def open_to_others(path: Path) -> None:
    path.chmod(0o644)


def foreign(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 65534, -1)


def changed(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"sang", b"SANG"))


@pytest.mark.parametrize("harm", [open_to_others, foreign, changed])
def test_a_body_that_others_may_have_written_is_not_unpickled(toy: Toy, capfd: Capture, harm: Callable[[Path], None]) -> None:
    blob = put(toy.state, pickle.dumps(Canary(toy.state / "sang")))
    harm(toy.state / blob.digest)
    toy.replies["show"] = {"ok": True, "task": story(form="pickle", blob=msgspec.to_builtins(blob)), "blobs": str(toy.state)}
    assert fast.main(["result", "5"]) == 74
    assert "accessible to you alone" in capfd.readouterr().err
    assert not {"sang", "SANG"}.intersection(os.listdir(toy.state))


def test_a_result_whose_module_is_missing_here_is_said(toy: Toy, capfd: Capture) -> None:
    data = b"\x80\x04\x8c\x0eno_such_module\x8c\x01C\x93."
    toy.replies["show"] = {"ok": True, "task": story(form="pickle", pickle=base64.b64encode(data).decode()), "blobs": "/nowhere"}
    assert fast.main(["result", "5"]) == 1
    told = capfd.readouterr().err
    assert "no_such_module" in told
    assert "hint:" in told


def test_a_failure_shows_the_remote_traceback_and_what_killed_its_workers(toy: Toy, capfd: Capture) -> None:
    failure = {"kind": "exception", "message": "boom", "traceback": "Traceback ...\nValueError: boom\n", "hint": ""}
    crashes = [{"worker": "w1", "cause": "killed by SIGKILL"}]
    toy.replies["show"] = {"ok": True, "task": story(state="dead", why="boom", failure=failure, crashes=crashes), "blobs": "/nowhere"}
    assert fast.main(["result", "5"]) == 1
    assert capfd.readouterr().err == (
        "Traceback ...\nValueError: boom\nerror: task 5 dead: boom\n  worker w1 died while it ran the task: killed by SIGKILL\nhint: its output: tmax logs 5\n"
    )


# -- attach ----------------------------------------------------------------------------------------

PLACE: Answer = {"ok": True, "session": "w1", "pane": "%3", "worker": "w1", "task": None}


def fake_tmux(toy: Toy) -> str:
    """Put a tmux on the path that writes down what it was given."""
    folder = toy.root / "bin"
    folder.mkdir()
    (folder / "tmux").write_text(f'#!/bin/sh\necho "TMUX=$TMUX" "$@" >> {toy.root}/said\n')
    (folder / "tmux").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def listening(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(path)
    made.listen(4)
    return made


def test_a_tmux_that_has_ended_or_is_another_users_is_named_with_what_to_type(
    toy: Toy, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.replies["locate"] = {**PLACE, "tmux": "/x/tmux.sock"}
    listening(str(toy.root / "deaf")).close()  # the file is there, and nobody listens
    for path in (str(toy.root / "gone"), str(toy.root / "deaf")):
        monkeypatch.setenv("TMUX", f"{path},1,0")
        assert fast.main(["attach", "w1"]) == 1
        told = capfd.readouterr().err
        assert f"TMUX names a tmux server that is no longer running: {path}\n" in told
        assert "hint: unset it: env -u TMUX tmax attach" in told
    monkeypatch.setenv("TMUX", "no socket at all")
    assert fast.main(["attach", "w1"]) == 2
    assert "needs a terminal" in capfd.readouterr().err


@pytest.mark.parametrize("term", ["no-such-terminal", "dumb", ""])
def test_a_terminal_that_tmux_refuses_is_named(toy: Toy, term: str) -> None:
    toy.replies["locate"] = {**PLACE, "tmux": "/x/tmux.sock"}
    path = fake_tmux(toy)
    (toy.root / "bin" / "tmux").write_text("#!/bin/sh\necho open terminal failed: not a terminal of ours >&2\nexit 1\n")
    master, slave = pty.openpty()
    try:
        code, _, err = finished(command(toy, "attach", "w1", env={"PATH": path, "TERM": term}, stdin=slave, stdout=slave))
    finally:
        os.close(slave)
        os.close(master)
    assert code == 1
    assert f"error: tmux cannot use this terminal (TERM={term}): open terminal failed: not a terminal of ours\n".encode() in err
    assert b"hint: set TERM to a terminal that tmux knows" in err


@pytest.mark.parametrize(
    "inside, words",
    [
        ("", "TMUX= -u -S {sock} attach-session -r -t %3"),
        ("{mine},1,0", "TMUX={mine},1,0 new-window -n tmax:w1 -- env -u TMUX -u TMUX_PANE tmux -u -S {sock} attach-session -r -t %3"),
        ("{sock},1,0", "TMUX={sock},1,0 -S {sock} switch-client -t %3"),
    ],
)
def test_attach_becomes_tmux_and_never_nests_silently(toy: Toy, inside: str, words: str) -> None:
    sock = str(toy.runtime / "tmux.sock")
    toy.replies["locate"] = {**PLACE, "tmux": sock}
    mine = str(toy.root / "mine")
    env = {"PATH": fake_tmux(toy), **({"TMUX": inside.format(sock=sock, mine=mine)} if inside else {})}
    master, slave = pty.openpty()
    try:
        with listening(sock), listening(mine):
            code, _, err = finished(command(toy, "attach", "-r", "w1", env=env, stdin=slave, stdout=slave))
    finally:
        os.close(slave)
        os.close(master)
    assert code == 0, err
    assert (toy.root / "said").read_text().strip() == words.format(sock=sock, mine=mine)
    assert (b"C-b C-b" in err) == (inside == "{mine},1,0")


def test_attach_without_a_terminal_says_what_to_type(toy: Toy, capfd: Capture) -> None:
    toy.replies["locate"] = {**PLACE, "tmux": "/x/tmux.sock"}
    code, _, err = finished(command(toy, "attach"))
    assert code == 2
    assert b"tmux -S /x/tmux.sock attach -t '%3'" in err
    assert toy.asked[-1]["target"] == "dashboard"


def test_attach_finds_a_task_by_name(toy: Toy, capfd: Capture) -> None:
    def locate(request: Answer) -> Answer:
        if request["target"] == "9":
            return {**PLACE, "tmux": "/x"}
        return {"error": {"code": "not-found", "message": "no worker train", "hint": ""}}

    toy.replies.update(locate=locate, select={"ok": True, "ids": [9]})
    assert fast.main(["attach", "train", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["session"] == "w1"


def test_tmux_reaches_our_server(toy: Toy) -> None:
    (toy.runtime / "tmux.sock").touch()
    assert finished(command(toy, "tmux", "list-sessions", "-F", "x", env={"PATH": fake_tmux(toy)}))[0] == 0
    assert (toy.root / "said").read_text() == f"TMUX= -u -S {toy.runtime}/tmux.sock list-sessions -F x\n"
