"""Every exception of tmax is a ``TmaxError``, importable from ``tmax``, documented on one page, and survives a trip through pickle."""

from __future__ import annotations

import ast
import pickle
import re
import subprocess
import sys
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

import pytest

import tmax
from tests.box import PACKAGE_PATH
from tmax.api import task_errors
from tmax.errors import NoSwarm, TmaxError
from tmax.task_end import end_of

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
PUBLIC = [
    getattr(tmax, name) for name in tmax.__all__ if isinstance(getattr(tmax, name), type) and issubclass(getattr(tmax, name), Exception)
]
EXAMPLES: dict[type[TmaxError], tuple[tuple[Any, ...], dict[str, Any]]] = {
    tmax.NoSwarm: (("shop",), {"why": "was taken down"}),
    tmax.FolderError: (("/run/x", "is not yours"), {}),
    tmax.TaskFailed: (("no module", "install it"), {"task": 7, "kind": "notfound", "worker": "w1"}),
    tmax.ResultNotSendable: (("cannot pickle generator",), {"task": 7, "traceback": "Traceback: here"}),
    tmax.TaskTimeout: (("took longer than 2 s",), {"task": 7, "worker": "w1"}),
    tmax.TaskDead: (("died",), {"task": 7, "signal": 9, "peak_rss_bytes": 5, "worker": "w2", "causes": ("w2: killed",)}),
    tmax.TaskInterrupted: (("died",), {"task": 7, "worker": "w2"}),
    tmax.InitializerFailed: (("raised",), {"task": 7}),
}


def test_every_exception_of_the_two_modules_is_public_and_of_the_family() -> None:
    defined = {
        one
        for module in (sys.modules["tmax.errors"], task_errors)
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, Exception) and one.__module__ == module.__name__ and not one.__name__.startswith("_")
    }
    assert defined - {task_errors.RemoteTraceback} == set(PUBLIC)
    assert all(issubclass(one, TmaxError) for one in PUBLIC)
    codes = [one.code for one in PUBLIC]
    assert len(codes) == len(set(codes)), "two exceptions have one code"


def test_the_bases_that_programs_rely_on_are_kept() -> None:
    for kind in (tmax.TaskDead, tmax.TaskInterrupted, tmax.InitializerFailed, tmax.SwarmGone):
        assert issubclass(kind, BrokenExecutor)
    assert issubclass(tmax.TaskTimeout, TimeoutError)


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_an_exception_survives_pickle_with_every_field(kind: type[TmaxError]) -> None:
    args, fields = EXAMPLES.get(kind, (("what was wrong", "what to do"), {}))
    error = kind(*args, **fields)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.args, vars(again)) == (kind, str(error), error.args, vars(error))
    assert all(getattr(again, name) == value for name, value in fields.items() if kind is not NoSwarm)


def test_one_that_is_a_broken_process_pool_as_well_travels_too() -> None:
    from concurrent.futures.process import BrokenProcessPool

    error = task_errors.initializer_failed("raised", task=3)
    assert isinstance(error, BrokenProcessPool) and isinstance(error, TmaxError)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.message, again.task) == (tmax.InitializerFailed, "raised", 3)


def test_exit_codes_are_those_of_the_task_on_the_command_line() -> None:
    assert tmax.TaskTimeout.exit_code == end_of("failed", "timeout").exit_code
    assert tmax.TaskDead.exit_code == end_of("dead").exit_code
    assert tmax.TaskInterrupted.exit_code == end_of("interrupted").exit_code
    assert tmax.ResultNotSendable.exit_code == end_of("failed", "unpicklable").exit_code


def test_the_page_lists_every_exception_with_its_bases_and_exit_code() -> None:
    rows = re.findall(r"^\| `tmax\.(\w+)` \| ([^|]*) \| [^|]+ \| [^|]+ \| (\d+) \|$", PAGE, re.MULTILINE)
    bases = {one.__name__: " ".join(f"`{base.__name__}`" for base in one.__bases__ if base is not Exception) for one in PUBLIC}
    assert {name: (base, int(code)) for name, base, code in rows} == {one.__name__: (bases[one.__name__], one.exit_code) for one in PUBLIC}


def test_importing_tmax_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import tmax; dir(tmax); print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-S", "-c", code], env={"PYTHONPATH": PACKAGE_PATH}, capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout) == ["__future__", "tmax", "tmax.version"]


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'TaskFaild'"):
        tmax.TaskFaild  # noqa: B018 - reading it is the test
