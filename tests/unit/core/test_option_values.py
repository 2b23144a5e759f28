"""Readers of option values."""

from __future__ import annotations

import pytest

from tmax.core import option_values
from tmax.errors import UsageError


@pytest.mark.parametrize(
    "text, value",
    [
        ("0", 0.0),
        ("90", 90.0),
        ("1.5", 1.5),
        ("250ms", 0.25),
        ("30m", 1800.0),
        ("1h30m", 5400.0),
        ("2d", 172800.0),
        ("10 s", 10.0),
        (" 5 ", 5.0),
        ("1h 30m", 5400.0),
        ("5min", 300.0),
        ("1000000000", 1e9),
    ],
)
def test_durations(text: str, value: float) -> None:
    assert option_values.seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", " ", "x", "1x", "-1", "1h x", "m", "1.2.3", "1e3", "1e9h", "inf", "nan", "1 0 s", "1\n"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(UsageError, match="is not a duration") as caught:
        option_values.seconds(text)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["1000000001", "300000h", "9" * 400])
def test_a_duration_that_is_too_long_is_told_the_limit(text: str) -> None:
    with pytest.raises(UsageError, match="the longest duration is 1000000000 seconds"):
        option_values.seconds(text)


@pytest.mark.parametrize(
    "text, value", [("0", 0), ("007", 7), ("1000000000", 10**9), ("9223372036854775807", 2**63 - 1), ("0" * 30 + "5", 5)]
)
def test_numbers(text: str, value: int) -> None:
    assert option_values.count(text) == value


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "1e3", "1_000", " 1", "x", "\N{SUPERSCRIPT TWO}", "\N{ARABIC-INDIC DIGIT THREE}"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(UsageError, match="is not a whole number of 0 or more"):
        option_values.count(text)


@pytest.mark.parametrize("text", ["9223372036854775808", "9" * 5000])
def test_a_number_that_is_too_large_is_told_the_limit(text: str) -> None:
    with pytest.raises(UsageError, match="at most 9223372036854775807") as caught:
        option_values.count(text)
    assert len(caught.value.message) < 120
