"""The repository's own scripts: checks that can fail, and a set-up that says what is missing."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def script(name: str) -> ModuleType:
    """A script as a module, whatever its file is called; nothing is left beside it."""
    loader = importlib.machinery.SourceFileLoader(f"tmax_script_{name.partition('.')[0]}", str(SCRIPTS / name))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


# -- check_lines, check_links ----------------------------------------------------------------------


def test_long_files_and_functions_are_found(tmp_path: Path) -> None:
    check = script("check_lines.py")
    path = tmp_path / "a.py"
    path.write_text("class A:\n    def long(self):\n        '''Not\n        counted.'''\n" + "        x = 1\n" * 61 + "\n" * 435)
    assert list(check.offenders(path, "a.py")) == ["a.py:2: A.long has a body of 61 lines, the limit is 60"]
    path.write_text(path.read_text() + "\n")
    assert next(iter(check.offenders(path, "a.py"))) == "a.py: 501 lines, the limit is 500"
    path.write_text("def short():\n" + "    x = 1\n" * 60)
    assert list(check.offenders(path, "a.py")) == []


def test_inner_and_async_functions_count_too() -> None:
    check = script("check_lines.py")
    tree = ast.parse("async def a():\n    if x:\n        def b():\n            pass\nclass C:\n    def d(self): ...\n")
    assert [name for name, _ in check.functions(tree)] == ["a", "a.b", "C.d"]


def test_scripts_without_suffix_are_checked_as_python() -> None:
    check = script("check_lines.py")
    assert check.is_python_script(SCRIPTS / "setup")
    assert not check.is_python_script(SCRIPTS / "test")


def test_broken_links_are_found(tmp_path: Path) -> None:
    check = script("check_links.py")
    (tmp_path / "there.md").write_text("x")
    page = tmp_path / "page.md"
    page.write_text("[a](there.md#part) [b](gone.md) [c](https://example.org/x) [d](#here)\n```\n[e](in-code.md)\n```\n")
    assert check.broken_links(page) == ["gone.md"]


# -- setup -----------------------------------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout with nothing but the set-up script, and a PATH with nothing on it."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "path").mkdir()
    shutil.copy(SCRIPTS / "setup", tmp_path / "scripts" / "setup")
    return tmp_path


def command(folder: Path, name: str, body: str) -> None:
    path = folder / "path" / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def set_up(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, str(folder / "scripts" / "setup"), *arguments]
    return subprocess.run(program, env={"PATH": str(folder / "path")}, capture_output=True, text=True, check=False, timeout=60)


def test_no_tmux_and_no_package_tool(bare: Path) -> None:
    done = set_up(bare)
    assert done.returncode == 69
    assert done.stderr == "error: tmux is missing and no known package tool was found\nhint: install tmux and run this again\n"


def test_tmux_too_old(bare: Path) -> None:
    command(bare, "tmux", "echo tmux 3.1c")
    done = set_up(bare)
    assert done.returncode == 69
    assert "error: tmux 3.1c is too old; 3.2a or newer is needed" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="as another user the package tool is not even tried")
def test_a_package_tool_that_fails_leaves_the_command_to_type(bare: Path) -> None:
    command(bare, "apt-get", "echo E: no network; exit 100")
    done = set_up(bare)
    assert done.returncode == 69
    assert "E: no network" in done.stderr
    assert done.stderr.endswith("hint: type: sudo apt-get install -y --no-install-recommends tmux\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be allowed to install")
def test_tmux_is_installed_after_the_lists_were_refreshed(bare: Path) -> None:
    """The first install fails as in a fresh container; the tmux it then brings is too old, which ends the script before pip."""
    path = bare / "path"
    lines = (
        f'echo "$@" >> {bare}/calls',
        f'if [ "$1" = update ]; then echo > {bare}/fresh; exit 0; fi',
        f"[ -e {bare}/fresh ] || exit 100",
        f"printf '#!/bin/sh\\necho tmux 2.0\\n' > {path}/tmux",
        f"/bin/chmod +x {path}/tmux",
    )
    command(bare, "apt-get", "\n".join(lines))
    done = set_up(bare)
    assert "tmux 2.0 is too old" in done.stderr, done
    assert [line.split()[0] for line in (bare / "calls").read_text().splitlines()] == ["install", "update", "install"]


def test_wrong_usage_is_2(bare: Path) -> None:
    assert set_up(bare, "--nonsense").returncode == 2
    assert set_up(bare, "--no-torch", "--torch-any").returncode == 2


@pytest.mark.parametrize("folder", ["a b", "x" * 130, 'quo"te $HOME', "plain"])
def test_the_command_starts_wherever_the_checkout_lies(tmp_path: Path, folder: str) -> None:
    """As pip leaves it: the interpreter's path in the first line, which the kernel cannot read if it has a space."""
    setup = script("setup")
    python = tmp_path / folder / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    entry = tmp_path / folder / "tmax"
    entry.write_text(f'#!{python}\n"""Says what it was given."""\nimport sys\nprint(sys.argv[1:])\n')
    entry.chmod(0o755)
    setup.mend_entry(entry, python)
    done = subprocess.run([str(entry), "a b", "$c"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "['a b', '$c']\n", "")


PLAIN = {"torch": "2.15.0", "numpy": "2.4.6"}
WITH_GPU = {**PLAIN, "nvidia-cudnn-cu13": "9", "triton": "3"}


@pytest.mark.parametrize(
    ("local", "index_answers", "from_index", "usual", "expected"),
    [
        ({"torch": "2.13.0+cpu"}, True, PLAIN, PLAIN, ["torch==2.13.0+cpu"]),
        ({}, True, {"torch": "2.15.0+cpu"}, WITH_GPU, ["--index-url", "INDEX", "torch==2.15.0+cpu"]),
        ({"torch": "2.13.0"}, False, {}, PLAIN, ["torch==2.15.0"]),
        ({}, True, WITH_GPU, PLAIN, ["torch==2.15.0"]),
        ({}, False, {}, WITH_GPU, []),
        ({}, True, WITH_GPU, WITH_GPU, []),
        ({}, True, {}, {}, []),
    ],
)
def test_a_machine_without_gpu_never_takes_gpu_packages(
    monkeypatch: pytest.MonkeyPatch,
    local: dict[str, str],
    index_answers: bool,
    from_index: dict[str, str],
    usual: dict[str, str],
    expected: list[str],
) -> None:
    setup = script("setup")

    def would_install(*arguments: str) -> dict[str, str]:
        return local if "--no-index" in arguments else from_index if "--index-url" in arguments else usual

    monkeypatch.setattr(setup, "would_install", would_install)
    monkeypatch.setattr(setup, "reachable", lambda _url: index_answers)
    chosen, why = setup.cpu_choice()
    assert [argument.replace(setup.CPU_INDEX, "INDEX") for argument in chosen] == expected
    assert bool(why) == (not expected)
    if usual == WITH_GPU and why:
        assert "2 GPU packages (nvidia-cudnn-cu13 ... triton)" in why


@pytest.mark.parametrize(
    ("state", "choice", "enough"),
    [
        ("installed", "keep", True),
        ("declined", "keep", True),
        ("unfit", "keep", True),
        ("declined", "auto", False),
        ("unfit", "any", False),
        ("installed", "any", True),
        ("unfit", "none", False),
    ],
)
def test_a_second_run_has_nothing_to_do_unless_something_else_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str, choice: str, enough: bool
) -> None:
    setup = script("setup")
    monkeypatch.setattr(setup, "NOTE", tmp_path / "note.json")
    monkeypatch.setattr(setup, "PYTHON", Path(sys.executable))
    setup.write_note(["dev"], {"state": state})
    note: dict[str, Any] = setup.read_note()
    assert setup.nothing_to_do(note, ["dev"], choice) is enough
    assert not setup.nothing_to_do(note, ["dev", "more"], choice)
    assert not setup.nothing_to_do({**note, "fingerprint": "other"}, ["dev"], choice)
    assert not setup.nothing_to_do({**note, "root": "/elsewhere"}, ["dev"], choice)
    assert not setup.nothing_to_do({}, [], choice)


@pytest.mark.parametrize("text", ["", "not json", json.dumps(["a list"])])
def test_a_damaged_note_counts_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    setup = script("setup")
    monkeypatch.setattr(setup, "NOTE", tmp_path / "note.json")
    (tmp_path / "note.json").write_text(text)
    assert setup.read_note() == {}
