from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.unit.dashboard.pictures import HOSTILE
from tmax_dashboard.text import bars, brief, clean, clip, count, log_lines, pad, since, size, took


def obeyed(text: str) -> list[str]:
    """Return the characters that a terminal would act on instead of showing."""
    return [character for character in text if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_hostile_is_left(text):
    assert obeyed(clean(text)) == []


@given(st.text(alphabet=st.characters()))
def test_nothing_that_a_terminal_obeys_is_left(text):
    assert obeyed(clean(text)) == []
    assert len(clean(text)) <= 300


def test_control_characters_are_shown_not_dropped():
    assert clean("a\x1b[31mb\x07c\x7f") == "a␛[31mb␇c␡"
    assert clean("one\ttwo\nthree\u2028four") == "one two three four"
    assert clean("a\u202eb\udc80c\x9bd") == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c\N{REPLACEMENT CHARACTER}d"


def test_markup_stays_text():
    assert clean("[red]x[/red]") == "[red]x[/red]"


def test_a_tower_of_marks_is_taken_down():
    assert len(clean("z" + "\u0301" * 60)) == 3


@given(st.text(), st.integers(0, 40))
def test_clip_and_pad_keep_to_the_columns(text, width):
    shown = clean(text)
    assert cell_len(clip(shown, width)) <= width
    assert cell_len(pad(shown, width)) == width
    assert cell_len(pad(shown, width, right=True)) == width


def test_clip_says_that_something_is_missing():
    assert clip("abcdef", 4) == "abc…"
    assert clip("漢字漢字", 4) == "漢…"
    assert clip("abcd", 4) == "abcd"


@pytest.mark.parametrize(
    "seconds, text",
    [
        (-5, "0s"),
        (0, "0s"),
        (12.9, "12s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7500, "2h05m"),
        (172_800, "2d00h"),
        (900_000, "10d10h"),
    ],
)
def test_since(seconds, text):
    assert since(seconds) == text


@pytest.mark.parametrize(
    "seconds, text",
    [(None, "-"), (0.00021, "0.2ms"), (0.34, "340ms"), (0.9999, "1.0s"), (1.24, "1.2s"), (9.96, "10s"), (61, "61s"), (700, "11m")],
)
def test_took(seconds, text):
    assert took(seconds) == text


@pytest.mark.parametrize(
    "amount, text", [(None, "-"), (0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_240_000, "1.2 MB"), (61e6, "61 MB"), (3e15, "3000.0 TB")]
)
def test_size(amount, text):
    assert size(amount) == text


@pytest.mark.parametrize(
    "number, text, short",
    [
        (0, "0", "0"),
        (12_345, "12,345", "12k"),
        (1234, "1,234", "1.2k"),
        (4e5, "400k", "400k"),
        (1.24e6, "1.2M", "1.2M"),
        (2e9, "2,000M", "2G"),
    ],
)
def test_counts(number, text, short):
    assert count(number) == text
    assert brief(number) == short


def test_bars_show_the_last_values_and_anything_above_zero():
    assert bars((9, 9, 0, 1, 4, 8), 4, 1) == (" ▁▄█",)
    assert bars((8, 4, 100, 1), 4, 2) == ("  █ ", "▁▁█▁")
    assert bars((), 3, 1) == ("   ",)
    assert bars((1, 2), 0, 1) == ("",)
    assert bars((0, 0), 2, 1) == ("  ",)


def test_log_lines_have_no_escapes_and_keep_what_was_drawn_last():
    data = b"\x1b[1mbold\x1b[0m\n10%\r50%\r100%\r\n\x1b]0;title\x07a\tb\nbell\x07\n\xff\n"
    assert log_lines(data) == ("bold", "100%", "a       b", "bell␇", "\N{REPLACEMENT CHARACTER}")


def test_log_lines_say_that_the_beginning_is_missing():
    assert log_lines(b"rt of a line\nwhole\n", cut=True) == ("… earlier output is left out", "whole")
    assert log_lines(b"") == ()


@given(st.binary())
def test_log_lines_are_harmless(data):
    assert [character for line in log_lines(data) for character in obeyed(line)] == []
