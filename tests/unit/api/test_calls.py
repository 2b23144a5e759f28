"""Calls as bytes: read back in a process of their own, as a worker would."""

from __future__ import annotations

import functools
import io
import os.path
import pickle
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import cloudpickle
import pytest

from tmax.api.calls import Functions, SearchPath, dump_call, label_of_function
from tmax.api.shared_bodies import SharedBodies
from tmax_pipes.jobs import Blob, Body


@pytest.fixture
def functions(tmp_path: Path) -> Functions:
    return Functions(SharedBodies(str(tmp_path)), SearchPath())


def _bytes(body: Body) -> bytes:
    assert isinstance(body, bytes)
    return body


CODE = """
import sys
from tmax.api.shared_bodies import SharedBodies
from tmax.api.calls import dump_call

FACTOR = 3

class Point:
    def __init__(self, x): self.x = x

def times(x): return FACTOR * x

def of_point(point): return point.x

how = sys.argv[1]
if how == "main":
    data = dump_call(times, (7,), {})
elif how == "lambda":
    data = dump_call(lambda x, *, y: x * FACTOR + y, (6,), {"y": 3})
elif how == "main argument":
    data = dump_call(of_point, (Point(21),), {})
elif how == "main argument to importable":
    import operator
    data = dump_call(operator.attrgetter("x"), (Point(21),), {})
sys.stdout.buffer.write(data)
"""


@pytest.mark.parametrize("how", ["main", "lambda", "main argument", "main argument to importable"])
def test_what_belongs_to_main_travels_by_value(how: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(CODE))
    env = {"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"}
    data = subprocess.run([sys.executable, str(script), how], env=env, capture_output=True, check=True).stdout
    function, args, kwargs = pickle.loads(data)
    assert function(*args, **kwargs) == 21


def test_an_importable_function_travels_by_name(functions: Functions) -> None:
    ready = functions.prepare(os.path.join)
    assert isinstance(ready.body, bytes) and b"join" in ready.body and len(ready.body) < 60
    assert functions.prepare(os.path.join) is ready
    assert pickle.loads(_bytes(functions.call(ready, ("a",), {"b": 1}, context=b"", submitter_environment=b"").call)) == (("a",), {"b": 1})


def test_a_large_function_is_put_into_a_file_once_and_again_after_a_while(
    functions: Functions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = "x" * 5000
    function = lambda: data  # noqa: E731
    body = functions.prepare(function).body
    assert isinstance(body, Blob)
    file = tmp_path / body.digest
    written = file.stat().st_mtime_ns
    assert functions.prepare(function).body == body and file.stat().st_mtime_ns == written
    file.unlink()
    monkeypatch.setattr("tmax.api.shared_bodies.PUT_AGAIN_S", 0.0)
    assert functions.prepare(function).body == body and file.exists()


def test_what_a_function_refers_to_is_sent_as_it_is_at_each_submit(functions: Functions) -> None:
    params = {"lr": 1}
    rate = 1
    reads_dict, reads_cell = lambda: params["lr"], lambda: rate
    first = functions.prepare(reads_cell)
    assert functions.prepare(reads_cell) is first
    assert pickle.loads(functions.prepare(reads_dict).data)() == 1
    params["lr"], rate = 2, 2
    assert pickle.loads(functions.prepare(reads_dict).data)() == 2
    assert pickle.loads(functions.prepare(reads_cell).data)() == 2


def test_what_cannot_be_pickled_says_so() -> None:
    with pytest.raises(TypeError, match="pickle"):
        dump_call(os.path.join, ((x for x in [1]),), {})


def test_a_module_registered_by_value_is_sent_by_value(functions: Functions) -> None:
    from tests import wait

    by_name = len(functions.prepare(wait.wait_until).data)
    cloudpickle.register_pickle_by_value(wait)
    try:
        assert len(dump_call(wait.wait_until, (), {})) > 3 * by_name
        assert len(functions.prepare(wait.wait_until).data) > 3 * by_name
    finally:
        cloudpickle.unregister_pickle_by_value(wait)


def test_labels_are_what_a_person_would_call_it() -> None:
    assert label_of_function(os.path.join) == "posixpath.join"
    assert label_of_function(len) == "len"
    assert label_of_function(functools.partial(len)) == "partial len"
    assert label_of_function(lambda: None).endswith("test_labels_are_what_a_person_would_call_it.<lambda>")
    assert label_of_function(functools.lru_cache) == "functools.lru_cache"


def test_the_search_path_tells_only_what_a_worker_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = SearchPath()
    assert all("site-packages" not in entry and "lib-dynload" not in entry for entry in path.extras())
    monkeypatch.syspath_prepend(str(tmp_path))
    assert path.extras()[0] == str(tmp_path)
    assert path.extras() is path.extras()


def test_cloudpickle_has_what_is_built_upon() -> None:
    """A new version of it that moves these parts shows here, before it shows in somebody's program."""
    from cloudpickle import cloudpickle as parts

    def function() -> None: ...

    make, newargs, state, _, _, _ = parts.Pickler(io.BytesIO(), 5)._dynamic_function_reduce(function)
    assert make is parts._make_function and len(newargs) == 5
    assert {"__globals__", "__closure__", "_cloudpickle_submodules"} <= state[1].keys()
    local = type("Local", (), {})
    make, newargs, state, _, _, setter = parts._dynamic_class_reduce(local)
    assert make is parts._make_skeleton_class and setter is parts._class_setstate
    assert isinstance(newargs[3], dict) and newargs[4] == parts._get_or_create_tracker_id(local) and len(state) == 2
    make, args = parts._code_reduce(function.__code__)
    assert make is type(function.__code__) and "<dynamic-code>" in args
    assert parts._class_reduce(int) is NotImplemented and parts._whichmodule(os.path.join, "join") == "posixpath"
    assert parts._should_pickle_by_reference(os.path.join)
    assert "io" in parts._extract_code_globals(test_cloudpickle_has_what_is_built_upon.__code__)
    assert {"_make_skeleton_enum", "_make_typevar", "_decompose_typevar", "_getattribute", "subimport", "_function_getstate"} <= vars(
        parts
    ).keys()


@pytest.mark.parametrize(
    ("args", "kwargs", "name"),
    [
        ((1, [threading.Lock()]), {"a": 2}, "argument 2, a builtins.list"),
        ((1,), {"a": 2, "b": threading.Lock()}, "argument 'b', a _thread.lock"),
    ],
)
def test_an_argument_that_cannot_be_pickled_is_named(
    functions: Functions, args: tuple[object, ...], kwargs: dict[str, object], name: str
) -> None:
    with pytest.raises(TypeError, match="cannot pickle") as raised:
        functions.call(print, args, kwargs, context=b"", submitter_environment=b"")
    assert raised.value.__notes__ == [f"{name}, cannot be sent to a worker"]
