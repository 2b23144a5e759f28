"""Small parts of a worker: options, spilled results, sources, packed values, failures."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import py_compile
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.wait import wait_until
from tmax_pipes.jobs import PythonJob
from tmax_pipes.messages import Done, Failed, Failure, Report
from tmax_workers import spill
from tmax_workers.failure_report import failure_of
from tmax_workers.kinds import python
from tmax_workers.kinds.python import TargetNotFound, Unpicklable
from tmax_workers.memory import own_rss_bytes, own_usage, peak_of
from tmax_workers.options import BadOptions, Options, parse
from tmax_workers.stale import SourceFiles

NEEDED = ["--life", "17", "--rt", "/run/x", "--state", "/state", "--control", "/run/c.sock"]


def test_options():
    assert parse(NEEDED) == Options(life=17, rt="/run/x", state="/state", control="/run/c.sock")
    full = parse([*NEEDED, "--preload=numpy,torch", "--threads", "3", "--orphan-ttl-s", "1.5"])
    assert (full.preload, full.threads, full.orphan_ttl_s) == (("numpy", "torch"), 3, 1.5)
    assert (full.logs, full.blobs) == ("/state/logs", "/state/blobs")


@pytest.mark.parametrize("argv", [[], NEEDED[:-1], NEEDED[:-2], [*NEEDED, "--more", "1"], ["--life", "x", *NEEDED[2:]]])
def test_a_wrong_command_line_is_refused(argv: list[str]):
    with pytest.raises(BadOptions):
        parse(argv)


# -- spilled results -------------------------------------------------------------------------------


def test_spilled_results_come_back_once(tmp_path: Path):
    results = [Done(1, 2, Report(tail=b"\xff"), b"result", "pickle"), Failed(3, 1, Report(), Failure("timeout", "late"))]
    spill.write(str(tmp_path), 7, results)
    assert os.stat(spill.path_of(str(tmp_path), 7)).st_mode & 0o777 == 0o600
    assert spill.read(str(tmp_path), 7) == results
    spill.forget_others(str(tmp_path), {7})
    assert spill.read(str(tmp_path), 7) == results
    spill.forget_others(str(tmp_path), {8})
    assert spill.read(str(tmp_path), 7) == []
    assert list(tmp_path.iterdir()) == []


def test_a_spill_that_is_torn_or_open_to_others_is_not_believed(tmp_path: Path):
    spill.write(str(tmp_path), 7, [Done(1, 1, Report())])
    path = Path(spill.path_of(str(tmp_path), 7))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"?")
    assert spill.read(str(tmp_path), 7) == []
    path.write_bytes(whole)
    path.chmod(0o644)
    assert spill.read(str(tmp_path), 7) == []


# -- sources ---------------------------------------------------------------------------------------


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "some_user_module.py"
    path.write_text("VALUE = 1\n")
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, "some_user_module", raising=False)
    return path


def test_an_edited_module_is_noticed_and_an_untouched_one_is_not(module: Path):
    sources = SourceFiles()
    importlib.import_module("some_user_module")
    sources.note()
    assert str(module) not in sources.changed()
    module.write_text("VALUE = 22\n")
    assert str(module) in sources.changed()


def test_a_module_touched_with_the_same_size_is_noticed(module: Path):
    sources = SourceFiles()
    importlib.import_module("some_user_module")
    sources.note()
    later = module.stat().st_mtime_ns + 1
    os.utime(module, ns=(later, later))
    assert str(module) in sources.changed()


def test_an_edit_between_the_import_and_the_note_is_noticed(module: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    importlib.import_module("some_user_module")
    module.write_text("VALUE = 333\n")
    sources = SourceFiles()
    sources.note()
    assert str(module) in sources.changed()


def test_a_module_whose_compiled_file_is_of_an_older_source_is_not_taken_for_edited(module: Path, monkeypatch: pytest.MonkeyPatch):
    """Where none is written (PYTHONDONTWRITEBYTECODE, somebody else's folder) the old one stays, and would cost each task its worker."""
    py_compile.compile(str(module), doraise=True)
    module.write_text("VALUE = 4444\n")
    wait_until(lambda: time.time_ns() > module.stat().st_ctime_ns + 200_000_000)
    sources = SourceFiles()
    sources.note()
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert importlib.import_module("some_user_module").VALUE == 4444
    sources.note()
    assert str(module) not in sources.changed()


def test_a_file_that_is_missing_for_a_moment_counts_as_unchanged(module: Path):
    sources = SourceFiles()
    importlib.import_module("some_user_module")
    sources.note()
    text = module.read_text()
    kept = module.stat()
    module.unlink()
    assert str(module) not in sources.changed()
    module.write_text(text)
    os.utime(module, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert str(module) not in sources.changed()


def test_only_user_modules_are_looked_at():
    sources = SourceFiles()
    sources.note()
    assert not [path for path in sources._versions if "site-packages" in path or path.startswith(os.path.dirname(json.__file__))]
    assert not [path for path in sources._versions if "/tmax_workers/" in path or "/tmax_pipes/" in path]


# -- values ----------------------------------------------------------------------------------------


def job(target: str, *args: object) -> PythonJob:
    return PythonJob(call=json.dumps([args, {}]).encode(), label=target, target=target)


@pytest.mark.parametrize(
    ("target", "args", "form"),
    [
        ("operator:add", (1, 2), "json"),
        ("builtins:list", ((1, 2),), "json"),
        ("builtins:tuple", ((1, 2),), "json"),
        ("builtins:set", ((1, 2),), "pickle"),
        ("builtins:float", ("nan",), "pickle"),
        ("builtins:bytes", (3,), "pickle"),
        ("collections:Counter", ("ab",), "json"),
        ("builtins:dict", ([[1, 2]],), "pickle"),
    ],
)
def test_json_is_used_only_where_it_means_the_same(tmp_path: Path, target: str, args: tuple[object, ...], form: str):
    assert python.run(job(target, *args), str(tmp_path)).form == form


def test_targets_that_are_not_there(tmp_path: Path):
    for target in ("no_such_module:f", "os:no_such", "os:path.no_such", "os:sep", "os.no_such:f", "os:"):
        with pytest.raises(TargetNotFound):
            python.run(job(target), str(tmp_path))


def test_an_unpicklable_result_names_its_type(tmp_path: Path):
    with pytest.raises(Unpicklable, match=r"_thread\.lock"):
        python.run(job("threading:Lock"), str(tmp_path))


def test_an_exception_as_data(tmp_path: Path):
    try:
        raise ValueError("no\udcff good") from KeyError("cause")
    except ValueError as error:
        failure = failure_of(error, str(tmp_path))
    assert failure.message == "ValueError: no\\udcff good"
    assert "KeyError: 'cause'" in failure.traceback
    assert isinstance(failure.error, bytes)
    assert isinstance(pickle.loads(failure.error), ValueError)
    assert failure_of(ValueError(threading.Lock()), str(tmp_path)).error is None


# -- memory ----------------------------------------------------------------------------------------


def test_memory_figures_are_plausible():
    assert 1_000_000 < own_rss_bytes() <= own_usage().peak_rss_bytes * 1.1
    assert own_usage().cpu_s > 0
    assert abs(peak_of(os.getpid()) - own_usage().peak_rss_bytes) < 50_000_000
    assert peak_of(2**22 + 1) == 0
