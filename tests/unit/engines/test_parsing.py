"""What tmux says and what we say to it, without tmux."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmax.core.settings import TmuxSettings
from tmax.engines.life_mark import without_marks
from tmax.engines.process_end import ProcessEnd, describe, signal_number
from tmax.engines.teardown import cause_of, last_lines
from tmax.engines.tmux import tmux_conf, tmux_version
from tmax.engines.tmux.control_mode import Parser, command, quote
from tmax.engines.tmux.sessions import _found, _monitor_lines
from tmax.engines.worker_process import WorkerProcess
from tmax.errors import TmuxError

STREAM = (
    b"%begin 1 10 0\n%end 1 10 0\n%session-changed $0 ctl\n"
    b"%begin 2 11 1\n$1 %1 77\n%end 2 10 1\n%error 3 11 1\n%end 2 11 1\n"
    b"%sessions-changed\n%begin 2 12 1\nduplicate session: w1\n%error 2 12 1\n"
    b"%begin 2 13 1\n%end 2 13 1\nserver exited unexpectedly\n%exit\n"
)


def parse(chunks: list[bytes]) -> tuple[list[tuple[bool, list[str], bool]], list[str]]:
    answers: list[tuple[bool, list[str], bool]] = []
    notices: list[str] = []
    parser = Parser(lambda ok, lines, ours: answers.append((ok, lines, ours)), notices.append)
    for chunk in chunks:
        parser.feed(chunk)
    return answers, notices


def test_answers_and_notifications() -> None:
    answers, notices = parse([STREAM])
    assert answers == [
        (True, [], False),
        (True, ["$1 %1 77", "%end 2 10 1", "%error 3 11 1"], True),  # what a pane shows may look like the end of a block
        (False, ["duplicate session: w1"], True),
        (True, [], True),
    ]
    assert notices == ["%session-changed $0 ctl", "%sessions-changed", "server exited unexpectedly", "%exit"]


@given(st.lists(st.integers(1, len(STREAM) - 1), max_size=20))
def test_it_does_not_matter_how_it_is_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert parse([STREAM[a:b] for a, b in pairwise(edges)]) == parse([STREAM])


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(data: bytes) -> None:
    parse([data, b"\n", STREAM])


@given(st.text(max_size=40))
def test_a_quoted_word_is_one_line_or_refused(text: str) -> None:
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text):
        with pytest.raises(TmuxError):
            quote(text)
    else:
        assert "\n" not in quote(text)
        assert (
            quote(text).replace("'\"'\"'", "\0").strip("'").replace("\0", "'") == text.strip("'")
            or text.startswith("'")
            or text.endswith("'")
        )


@pytest.mark.parametrize("text", ["a\nb", "\x1b]0;x\x07", "\0", "\x7f", "\x9b", "\r"])
def test_control_characters_are_refused(text: str) -> None:
    with pytest.raises(TmuxError):
        command("rename-session", text)


def test_what_names_other_servers_and_workers_is_not_inherited() -> None:
    assert without_marks({"TMUX": "x", "TMUX_PANE": "%1", "TMAX_LIFE": "a:b:1", "PATH": "/bin"}) == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "text, version",
    [
        ("tmux 3.3a", (3, 3)),
        ("3.2", (3, 2)),
        ("tmux next-3.4", (3, 4)),
        ("tmux 3.10-rc2", (3, 10)),
        ("tmux master", (999, 0)),
        ("tmux 2.9a", (2, 9)),
    ],
)
def test_versions(text: str, version: tuple[int, int]) -> None:
    assert tmux_version.parse(text) == version


def test_what_is_too_old_or_no_version() -> None:
    with pytest.raises(TmuxError, match=r"3\.1c is too old: 3\.2") as caught:
        tmux_version.require("tmux 3.1c")
    assert "install" in caught.value.hint
    for text in ("", "tmux", "hello world"):
        with pytest.raises(TmuxError, match="not a version"):
            tmux_version.require(text)
    assert tmux_version.require("3.2a") == (3, 2)


@pytest.mark.parametrize("text, number", [("9", 9), ("KILL", 9), ("SIGSEGV", 11), ("", None), ("0", None), ("what", None)])
def test_signals_in_the_words_of_any_tmux(text: str, number: int | None) -> None:
    assert signal_number(text) == number


def test_how_an_end_is_told() -> None:
    assert describe(ProcessEnd(signal=11)) == "killed by SIGSEGV"
    assert describe(ProcessEnd(signal=63)) == "killed by signal 63"
    assert describe(ProcessEnd(exit_code=0)) == "exited with 0"
    assert describe(None) == describe(ProcessEnd()) == "exit status unknown"


def test_our_reason_counts_only_for_the_end_we_gave() -> None:
    life = WorkerProcess(1, "w1", doomed="too old")
    assert cause_of(life, ProcessEnd(signal=9)) == cause_of(life, None) == "too old"
    assert cause_of(life, ProcessEnd(signal=11)) == "killed by SIGSEGV"
    assert cause_of(life, ProcessEnd(exit_code=0)) == "exited with 0"
    assert cause_of(WorkerProcess(1, "w1", paneless=True), None) == "left, because its session was closed"


def test_the_last_lines_of_a_pane_are_text() -> None:
    pane = "first\n\x1b[31mred\x07\n\n" + "x" * 500 + "\nPane is dead (status 1, Fri Nov 20 19:43:35 2026)\n\n"
    assert last_lines(pane) == ["first", "[31mred", "x" * 160]
    assert last_lines("") == []
    assert len(last_lines("\n".join(map(str, range(100))))) == 20


def test_panes_of_tmux_in_words() -> None:
    found = _found("$3 %5 77 1 L17 w 2")
    assert found is not None
    assert (found.session_id, found.pane_id, found.pid, found.dead, found.life, found.name) == ("$3", "%5", 77, True, 17, "w 2")
    assert _found("$3 %5 77 0 L ctl").life == 0  # type: ignore[union-attr]
    assert _found("nonsense") is None


def test_the_monitor_is_brought_to_what_it_shall_be() -> None:
    windows = {"dashboard": ["a"], "log": ["b", "c"]}
    new = _monitor_lines(windows, ["ctl cat %0 0"])
    assert ["new-session" in new[0], "new-window" in new[1], len(new)] == [True, True, 2]
    half = _monitor_lines(windows, ["tmax dashboard %1 1"])
    assert half == ["'respawn-pane' '-t' '%1' '--' 'a'", "'new-window' '-d' '-t' '=tmax:' '-n' 'log' '--' 'b' 'c'"]
    assert _monitor_lines(windows, ["tmax dashboard %1 0", "tmax log %2 0"]) == []


def test_the_configuration_says_what_people_chose() -> None:
    text = tmux_conf.render(TmuxSettings(mouse=True, history_limit=77, config="/home/me/it's mine.conf"), "lab", "screen-256color")
    lines = text.split("\n")
    assert "set -g mouse on" in lines
    assert "set -g history-limit 77" in lines
    assert "set -g default-terminal screen-256color" in lines
    assert lines[-2] == "source-file -q '/home/me/it'\"'\"'s mine.conf'"
    assert "[lab]" in text
    assert "source-file" not in tmux_conf.render(TmuxSettings(), "lab", "x")


def test_a_terminal_is_used_when_it_is_described(tmp_path) -> None:
    (tmp_path / "t").mkdir()
    assert not tmux_conf.has_terminfo("tmux-256color", [str(tmp_path)])
    (tmp_path / "t" / "tmux-256color").touch()
    assert tmux_conf.has_terminfo("tmux-256color", ["/nonexistent", str(tmp_path)])
