"""Every verb reads a task's name as that name and as nothing else, whichever interface set it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmax.cli import verbs
from tmax.cli.declaration import parse
from tmax.control.protocol import BulkTask
from tmax.controller.intake import new_task, new_task_of_bulk
from tmax.controller.selectors import select
from tmax.core import option_values
from tmax.core.names import check_task_name
from tmax.core.settings import TaskSettings
from tmax.errors import TmaxError, UsageError
from tmax.layout import check_name
from tmax.storage.memory_store import MemoryReader
from tmax_pipes.jobs import ShellJob
from tmax_pipes.options_struct import NOTHING_GIVEN, GivenOptions

REFUSED = (
    "", "3", "007", "3-7", "7-3", "@", "@~1", "@x", "-x", "--name", " a", "a ", "a\nb", "a\x1b[31m", "a\x7f", "\u2028", "caf\udce9", "w1", "w0", "w12",
    "pool-3", "old-3", "dashboard", "x" * 201, "\t",
)  # fmt: skip
ALLOWED = (
    "train",
    "build-3",
    "3d",
    "3-",
    "w",
    "w1a",
    "W1",
    "pool",
    "pool-x",
    "a b",
    "ä",
    "日本",
    "a;b",
    "../up",
    "$HOME",
    "x" * 200,
    "w1-2",
    "²",
)


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_verbs_would_read_as_something_else_is_refused_by_every_interface(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_task_name(name)
    assert caught.value.hint
    with pytest.raises(UsageError):
        parse(["submit", "--name", name, "--", "true"], verbs.verb_named, verbs.DEFAULT)
    if name:  # an empty one is none, where none has to be said
        with pytest.raises(UsageError):
            new_task({"kind": "shell", "argv": ["true"], "name": name}, TaskSettings(), "")
        with pytest.raises(UsageError):
            new_task_of_bulk("c", BulkTask(seq=1, job=ShellJob(argv=(b"true",)), options=GivenOptions(name=name)), TaskSettings())


@pytest.mark.parametrize("name", REFUSED)
def test_the_python_api_refuses_it_too(name: str) -> None:
    from tmax.api.submission import View

    context: Any = None
    with pytest.raises(UsageError):
        View(context, NOTHING_GIVEN, {}).options(name=name)


@pytest.mark.parametrize("name", ALLOWED)
def test_other_names_are_allowed(name: str) -> None:
    assert check_task_name(name) == name
    assert option_values.task_name(name) == name


@given(st.text(min_size=1, max_size=12) | st.from_regex(r"[0-9@~w-]{1,6}", fullmatch=True))
def test_a_name_that_is_allowed_means_a_name_to_the_selector(name: str) -> None:
    try:
        check_task_name(name)
    except UsageError:
        return
    found = select([name], 10, MemoryReader())
    assert isinstance(found, TmaxError)
    assert "named" in found.message


@pytest.mark.parametrize("name", ["", "-x", "@", "A", "a b", "a\n", "ä", "x" * 33, "../x", "\udcff"])
def test_a_swarms_name_is_a_file_name_and_a_session_name(name: str) -> None:
    with pytest.raises(UsageError):
        check_name(name)
