"""The order of search as it is sent: what a worker must look for, where, and in which order."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tmax.api.searchpath import SearchPath
from tmax_pipes.jobs import STDLIB


@pytest.fixture(autouse=True)
def modules_as_before() -> Iterator[None]:
    yield
    for name in ("strayed", "strayed_package", "twice", "made", "loaded"):  # not torch: it does not survive a second import
        sys.modules.pop(name, None)


def test_the_order_is_that_of_sys_path_with_one_mark_for_the_standard_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = [entry for entry in sys.path if "site-packages" in entry]
    library = [entry for entry in sys.path if entry.endswith(("python3.11", "lib-dynload", ".zip")) or os.path.exists(f"{entry}/os.py")]
    monkeypatch.setattr(sys, "path", ["/first", *library, *own, "/last.egg"])
    assert SearchPath().ordered()[: len(own) + 3] == ("/first", STDLIB, *own, "/last.egg")


def test_the_current_folder_is_where_the_program_is_now(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = SearchPath()
    monkeypatch.setattr(sys, "path", ["", "lib", *sys.path])
    monkeypatch.chdir(tmp_path)
    assert path.ordered()[:2] == (str(tmp_path), str(tmp_path / "lib"))
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    assert path.ordered()[0] == str(tmp_path / "sub")


def test_a_folder_that_only_an_imported_module_leads_to_is_added(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "strayed.py").write_text("")
    (tmp_path / "pack" / "inner").mkdir(parents=True)
    (tmp_path / "pack" / "inner" / "strayed_package").mkdir()
    (tmp_path / "pack" / "inner" / "strayed_package" / "__init__.py").write_text("")
    path = SearchPath()
    monkeypatch.setattr(sys, "path", ["", str(tmp_path / "pack" / "inner"), *sys.path])
    monkeypatch.chdir(tmp_path)
    for name in ("strayed", "strayed_package"):
        importlib.import_module(name)
    monkeypatch.chdir("/")
    sys.path.remove(str(tmp_path / "pack" / "inner"))
    assert set(path.ordered()[-2:]) == {str(tmp_path), str(tmp_path / "pack" / "inner")}
    assert not path.lost() & {"strayed", "strayed_package"}


def test_what_a_search_does_not_lead_to_is_lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = SearchPath()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "twice.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "b"))
    importlib.import_module("twice")
    assert "twice" not in path.lost()
    monkeypatch.syspath_prepend(str(tmp_path / "a"))  # from now on the name means another file
    sys.modules["made"] = ModuleType("made")
    (tmp_path / "file-with-dash.py").write_text("")
    spec = importlib.util.spec_from_file_location("loaded", tmp_path / "file-with-dash.py")
    assert spec is not None
    sys.modules["loaded"] = importlib.util.module_from_spec(spec)
    (tmp_path / "a" / "random.py").write_text("")
    spec = importlib.util.spec_from_file_location("random", tmp_path / "a" / "random.py")
    assert spec is not None
    monkeypatch.setitem(sys.modules, "random", importlib.util.module_from_spec(spec))
    assert path.lost() & {"twice", "made", "loaded", "random"} == {"twice", "made", "loaded", "random"}
    del sys.modules["made"], sys.modules["loaded"]


def test_nothing_installed_is_lost() -> None:
    for name in ("numpy", "torch", "msgspec"):
        if importlib.util.find_spec(name):  # torch may be left out
            importlib.import_module(name)
    assert not {name for name in SearchPath().lost() if name.partition(".")[0] in {"numpy", "torch", "msgspec", "pytest", "tmax"}}


def test_entries_that_no_frame_can_carry_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/bad\udcff", 7, "/new\nline", *sys.path])
    ordered = SearchPath().ordered()
    assert ordered[0] == "/new\nline"
    assert "/bad\udcff" not in ordered


def test_it_is_computed_again_only_when_something_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    path = SearchPath()
    assert path.ordered() is path.ordered()
    monkeypatch.setattr(sys, "path", [*sys.path, "/more"])
    assert "/more" in path.ordered()
