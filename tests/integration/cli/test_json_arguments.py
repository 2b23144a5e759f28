"""What is typed as an argument of a function: JSON where it is JSON, else text.  The real command, which has not imported ``json``."""

from __future__ import annotations

import json

import pytest

from tests.box import Box


@pytest.mark.parametrize("word", ["[1,2", '{"a" 1}', '"abc', '{"a":1,}', "x]", "[1,]", '{"a":', "\\u12", "1e", "nul"])
def test_a_word_that_is_not_json_is_text(module_box: Box, word: str) -> None:
    assert json.loads(json.loads(module_box.tmax("run", "--py", "json:dumps", word).stdout)) == word
    assert json.loads(json.loads(module_box.tmax("run", "--py", "json:dumps", f"obj={word}").stdout)) == word


@pytest.mark.parametrize("text", ["[1,2", '{"a" 1}', ""])
def test_standard_input_that_is_not_json_is_named(module_box: Box, text: str) -> None:
    done = module_box.tmax("run", "--py", "json:dumps", "-", ok=False, input=text)
    assert done.returncode == 2
    assert "reads one JSON value from standard input" in done.stderr


def test_a_call_with_wrong_arguments_shows_no_frame_of_ours(module_box: Box) -> None:
    done = module_box.tmax("run", "--py", "math:hypot", "3", "x", ok=False)
    assert "must be real number" in done.stderr
    assert "tmax_workers" not in done.stderr


def test_result_shows_one_task(module_box: Box) -> None:
    module_box.submit("--py", "os:getpid")
    module_box.submit("--py", "os:getpid")
    done = module_box.tmax("result", "1-2", ok=False)
    assert done.returncode == 2
    assert "selects 2 tasks" in done.stderr
