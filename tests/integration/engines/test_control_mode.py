"""Command lines through a real tmux: what is quoted arrives as it was, and runs nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine_rig import Rig
from tmax.engines.tmux.control_mode import command
from tmax.errors import TmuxError

CORPUS = [
    "5;", "a ; kill-server", "; kill-server ;", "\\;", "$(touch CANARY)", "`touch CANARY`", "#(touch CANARY)", "#{E:x}", "$HOME", "~", "-t", "--",
    "'", "''", "it's", '"', '"a"', "'\"'\"'", "{", "}", "{ kill-server }", "%if 1", "%begin 1 1 1", "%exit", "#", "# comment", "a#b", "\\n", "\\",
    "\\'", "ü", "日本", "🙂", " ", "  a  ", "a=b", "=w1:", "*", "w[0-9]", "!", "@x", "^", "\u202e", "a" * 4000,
]  # fmt: skip


@pytest.fixture(scope="module")
def talk() -> Iterator[Rig]:
    rig = Rig().open()
    yield rig
    rig.close()


def round_trip(rig: Rig, text: str) -> None:
    control = rig.tmux_sessions.control
    answers = control.call([command("set-option", "-g", "--", "@probe", text), command("show-options", "-gv", "@probe")])
    assert answers[1] == [text]


@pytest.mark.parametrize("text", CORPUS, ids=range(len(CORPUS)))
def test_the_corpus_arrives_as_it_was(talk: Rig, text: str, tmp_path) -> None:
    round_trip(talk, text.replace("CANARY", str(tmp_path / "canary")))
    assert not os.path.exists(tmp_path / "canary")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(text=st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp", "Cn", "Co")), min_size=1, max_size=60))
def test_any_text_arrives_as_it_was(talk: Rig, text: str) -> None:
    round_trip(talk, text)


def test_answers_come_to_whom_they_belong(talk: Rig) -> None:
    control = talk.tmux_sessions.control
    answers: list[tuple[int, bool, str]] = []
    for number in range(200):
        line = command("display-message", "-p", str(number)) if number % 3 else command("no-such-command")
        control.send(line, lambda ok, lines, number=number: answers.append((number, ok, lines[0])))
    talk.until(lambda: len(answers) == 200)
    assert [number for number, _, _ in answers] == list(range(200))
    assert all((ok, text) == (True, str(number)) if number % 3 else not ok for number, ok, text in answers)


def test_what_tmux_refuses_is_an_error(talk: Rig) -> None:
    with pytest.raises(TmuxError, match="refused"):
        talk.tmux_sessions.control.call([command("kill-session", "-t", "=nobody:")])
    assert talk.tmux_sessions.control.call([command("display-message", "-p", "still here")]) == [["still here"]]
