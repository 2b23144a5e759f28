from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmax.cli.codec import decode, encode

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec=None)), inner),
)


@given(VALUES)
def test_says_and_reads_what_json_does(value: object) -> None:
    assert encode(value) == json.dumps(value)
    assert decode(json.dumps(value)) == value


def test_nan_and_infinity_as_json_has_them() -> None:
    assert encode([math.inf, -math.inf]) == "[Infinity, -Infinity]"
    assert math.isnan(decode(encode(math.nan)))


@pytest.mark.parametrize("text", ["", " ", "{", "[1,]", "1 2", "nope", '{"a" 1}', "'a'", "+1", "01"])
def test_what_is_not_one_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode(text)


def test_what_json_has_no_word_for_is_refused() -> None:
    with pytest.raises(TypeError):
        encode({"a": b"bytes"})
