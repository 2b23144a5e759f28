"""How long commands wait: a verb that waits has no limit but the one it was given, and 0 is a limit like any other."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from tests.integration.cli.test_messages import command
from tests.integration.cli.toy import Answer, Toy
from tests.wait import wait_until
from tmax.cli import fast, request
from tmax.cli.verbs import wait

Capture = pytest.CaptureFixture[str]
CANCELLED = {"id": 7, "state": "cancelled", "why": "", "name": "", "kind": "shell", "label": "x"}
DONE = {"id": 7, "state": "done", "why": "", "name": "", "kind": "shell", "label": "x"}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every limit of silence is a tenth of a second."""
    for name in ("REPLY_TIMEOUT_S", "READ_TIMEOUT_S"):
        monkeypatch.setattr(request, name, 0.1)
    monkeypatch.setattr(wait, "SLACK_S", 0.1)


def late(toy: Toy, verb: str, answer: Answer) -> threading.Event:
    """Have this verb answered only when the returned event is set."""
    opened = threading.Event()

    def reply(_: Answer) -> Answer:
        opened.wait(30)
        return answer

    toy.replies[verb] = reply
    return opened


def test_wait_has_no_limit_of_silence(toy: Toy) -> None:
    opened = late(toy, "wait", {"ok": True, "tasks": [DONE]})
    threading.Timer(0.5, opened.set).start()
    assert fast.main(["wait", "7"]) == 0
    assert "timeout_s" not in toy.asked[-1]


def test_wait_has_no_limit_for_a_word_that_must_be_looked_up(toy: Toy) -> None:
    toy.replies["wait"] = {"ok": True, "tasks": [DONE]}
    opened = late(toy, "select", {"ok": True, "ids": [7]})
    threading.Timer(0.5, opened.set).start()
    assert fast.main(["wait", "@"]) == 0


def test_a_limit_longer_than_the_silence_of_other_verbs_is_waited_for(toy: Toy) -> None:
    opened = late(toy, "wait", {"ok": True, "tasks": [DONE]})
    threading.Timer(0.5, opened.set).start()
    assert fast.main(["wait", "7", "--timeout", "30"]) == 0
    assert 29 < toy.asked[-1]["timeout_s"] <= 30


@pytest.mark.parametrize("word", ["7", "@"])
def test_the_limit_is_kept_when_the_controller_does_not_answer(toy: Toy, capfd: Capture, word: str) -> None:
    opened = late(toy, "wait" if word == "7" else "select", {"ok": True, "tasks": [DONE]})
    began = time.monotonic()
    assert fast.main(["wait", word, "--timeout", "0.3"]) == 75
    assert 0.3 <= time.monotonic() - began < 5
    assert "did not reply" in capfd.readouterr().err
    opened.set()


def test_a_limit_of_nothing_is_one_look(toy: Toy) -> None:
    toy.replies["wait"] = {"error": {"code": "timeout", "message": "1 of 1 tasks have not ended: 7", "hint": ""}}
    assert fast.main(["wait", "7", "--timeout", "0"]) == 75
    assert toy.asked[-1]["timeout_s"] == 0


def test_a_kernel_has_no_limit_of_silence(toy: Toy, capfd: Capture, tmp_path: Path) -> None:
    toy.replies["submit"] = {"ok": True, "ids": [7]}
    toy.replies["logs"] = {"ok": True, "file": None, "wanted_file": str(tmp_path / "7.log"), "tail": ""}
    toy.replies["show"] = {"ok": True, "task": {**DONE, "kind": "kernel", "result": {"n": 3}}, "blobs": ""}
    opened = late(toy, "wait", {"ok": True, "tasks": [DONE]})
    threading.Timer(0.5, opened.set).start()
    assert fast.main(["kernel", "matmul", "--n", "3"]) == 0
    assert capfd.readouterr().out == "n  3\n"


@pytest.mark.parametrize("verb", ["cancel", "submit", "result"])
def test_a_verb_that_is_answered_at_once_says_that_nobody_answers(toy: Toy, capfd: Capture, verb: str) -> None:
    opened = late(toy, {"result": "show"}.get(verb, verb), {"ok": True})
    assert fast.main([verb, "7"]) == 75
    assert "did not reply within 0.1 s" in capfd.readouterr().err
    opened.set()


def test_ps_asks_for_everything_with_a_limit_of_0(toy: Toy) -> None:
    toy.replies["ps"] = {"ok": True, "tasks": []}
    for given, asked in (([], 50), (["--limit", "5"], 5), (["--limit", "0"], 0)):
        assert fast.main(["ps", "-q", *given]) == 0
        assert toy.asked[-1]["limit"] == asked


def test_a_submit_that_was_not_answered_is_no_success_and_says_how_to_find_out(toy: Toy, capfd: Capture) -> None:
    opened = late(toy, "submit", {"ok": True, "ids": [7]})
    assert fast.main(["submit", "--request-id", "mine", "--", "true"]) == 75
    out, err = capfd.readouterr()
    assert not out
    assert "the task may have been accepted" in err
    assert "--request-id mine" in err
    opened.set()


def test_ctrl_c_before_the_answer_takes_the_task_back(toy: Toy) -> None:
    opened = threading.Event()

    def submit(_: Answer) -> Answer:
        if not opened.is_set():
            opened.set()
            running.send_signal(signal.SIGINT)
            threading.Event().wait(0.5)
        return {"ok": True, "ids": [7]}

    toy.replies["submit"] = submit
    toy.replies["cancel"] = {"ok": True, "results": [{"id": 7, "was": "ready", "now": "cancelled"}]}
    running = command(toy, "submit", "--", "true")
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out, err) == (130, b"", b"")
    first, second, cancel = toy.asked
    assert first["request_id"] == second["request_id"]
    assert cancel["ids"] == [7]


def test_ctrl_c_before_the_answer_to_run_cancels_the_task_once_it_is_accepted(toy: Toy) -> None:
    cancelled = threading.Event()

    def submit(_: Answer) -> Answer:
        running.send_signal(signal.SIGINT)
        threading.Event().wait(0.5)
        return {"ok": True, "ids": [7]}

    def cancel(_: Answer) -> Answer:
        cancelled.set()
        return {"ok": True, "results": [{"id": 7, "was": "ready", "now": "cancelled"}]}

    def wait(_: Answer) -> Answer:
        cancelled.wait(30)
        return {"ok": True, "tasks": [CANCELLED]}

    toy.replies.update(submit=submit, cancel=cancel, wait=wait)
    toy.replies["logs"] = {"ok": True, "wanted_file": str(toy.state / "7.log"), "file": None, "tail": ""}
    toy.replies["show"] = {"ok": True, "task": CANCELLED, "blobs": ""}
    running = command(toy, "run", "--", "true")
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (130, b""), err
    assert [one["ids"] for one in toy.asked if one["verb"] == "cancel"] == [[7]]
    assert b"error" not in err


def test_ctrl_c_before_the_answer_of_a_stopped_controller_says_how_to_find_out(toy: Toy) -> None:
    opened = late(toy, "submit", {"ok": True, "ids": [7]})
    running = command(toy, "submit", "--request-id", "mine", "--", "true")
    wait_until(lambda: toy.asked)
    running.send_signal(signal.SIGINT)
    wait_until(lambda: len(toy.asked) == 2)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    opened.set()
    assert running.returncode == 130
    assert b"the task may have been accepted" in err
    assert b"--request-id mine" in err


def test_ctrl_c_twice_before_the_answer_to_run_says_how_to_find_out(toy: Toy) -> None:
    opened = late(toy, "submit", {"ok": True, "ids": [7]})
    running = command(toy, "run", "--request-id", "mine", "--", "true")
    wait_until(lambda: toy.asked)

    def left() -> bool:
        running.send_signal(signal.SIGINT)  # the first one is answered once the task is accepted; two at once may be one
        return running.poll() is not None

    wait_until(left)
    _, err = running.communicate(timeout=30)
    opened.set()
    assert running.returncode == 130
    assert b"the task may have been accepted" in err
    assert b"--request-id mine" in err
