"""What is typed as an argument of a function: JSON where it is JSON, else text.  The real command, which has not imported ``json``."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.box import Box


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    made = Box()
    made.init(1)
    yield made
    left = made.close()
    assert not left, left


@pytest.mark.parametrize("word", ["[1,2", '{"a" 1}', '"abc', '{"a":1,}', "x]", "[1,]", '{"a":', "\\u12", "1e", "nul"])
def test_a_word_that_is_not_json_is_text(box: Box, word: str) -> None:
    assert json.loads(json.loads(box.tmax("run", "--py", "json:dumps", word).stdout)) == word
    assert json.loads(json.loads(box.tmax("run", "--py", "json:dumps", f"obj={word}").stdout)) == word


@pytest.mark.parametrize("text", ["[1,2", '{"a" 1}', ""])
def test_standard_input_that_is_not_json_is_named(box: Box, text: str) -> None:
    done = box.tmax("run", "--py", "json:dumps", "-", ok=False, input=text)
    assert done.returncode == 2
    assert "stdin does not hold one JSON value" in done.stderr


def test_a_call_with_wrong_arguments_shows_no_frame_of_ours(box: Box) -> None:
    done = box.tmax("run", "--py", "math:hypot", "3", "x", ok=False)
    assert "must be real number" in done.stderr
    assert "tmax_workers" not in done.stderr


def test_result_shows_one_task(box: Box) -> None:
    box.submit("--py", "os:getpid")
    box.submit("--py", "os:getpid")
    done = box.tmax("result", "1-2", ok=False)
    assert done.returncode == 2
    assert "means 2 tasks" in done.stderr
