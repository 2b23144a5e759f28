"""What ps and /proc show of a process, rewritten in place; and the word for the code that is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tmax_workers import code_fingerprint
from tmax_workers.proctitle import LIFE_VARIABLE, PLACEHOLDER

ROOT = Path(__file__).resolve().parents[3]

SHOW = """
import os, sys
from tmax_workers.proctitle import locate
shown = locate()
pid = os.fork()
if pid == 0:
    shown.show(tuple(os.fsencode(word) for word in sys.argv[1:-1]), os.fsencode(sys.argv[-1]))
    for name in ("cmdline", "environ"):
        print(open(f"/proc/self/{name}", "rb").read())
    sys.exit(0)
code = os.waitpid(pid, 0)[1]
assert b"." * 120 in open("/proc/self/environ", "rb").read()
sys.exit(os.waitstatus_to_exitcode(code))
"""


def show(*words: str, env: dict[str, str] | None = None) -> tuple[bytes, bytes]:
    given = {
        "PYTHONPATH": f"{ROOT / 'workers'}:{ROOT / 'pipes'}",
        "BEFORE": "1",
        LIFE_VARIABLE.decode(): PLACEHOLDER,
        "AFTER": "2",
        **(env or {}),
    }
    done = subprocess.run([sys.executable, "-c", SHOW, *words], env=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    cmdline, environ = done.stdout.decode().splitlines()
    return eval(cmdline), eval(environ)


@pytest.mark.parametrize("mark", ["s:0123456789ab:1", "x" * 117, "x" * 118, "x" * 119, "x" * 120, ""])
def test_command_and_mark_are_shown(mark: str) -> None:
    cmdline, environ = show("python", "-m", "worker", mark)
    assert cmdline.rstrip(b"\0").split(b"\0") == [b"python", b"-m", b"worker"]
    variables = environ.split(b"\0")
    assert LIFE_VARIABLE + b"=" + mark.encode() in variables
    assert {b"BEFORE=1", b"AFTER=2"} <= set(variables)


def test_a_long_command_is_cut_and_touches_nothing_behind_it() -> None:
    cmdline, environ = show("python", "y" * 100, "z" * 100_000, "m")
    assert cmdline.startswith(b"python\0" + b"y" * 100 + b"\0zzz")
    assert b"BEFORE=1" in environ.split(b"\0")


def test_a_mark_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(AssertionError, match="a mark of 121 bytes, at most 120 fit"):
        show("python", "x" * 121)


def test_without_room_there_is_no_mark_but_an_error() -> None:
    with pytest.raises(AssertionError, match="at most 0 fit"):
        show("python", "x", env={LIFE_VARIABLE.decode(): "short"})


def test_the_word_for_the_code_changes_with_it(tmp_path: Path) -> None:
    for name in ("workers/tmax_workers", "pipes/tmax_pipes"):
        shutil.copytree(ROOT / name, tmp_path / Path(name).name, ignore=shutil.ignore_patterns("__pycache__"))

    def word() -> str:
        program = "import tmax_workers.code_fingerprint as code; print(code.fingerprint())"
        env = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True).stdout

    words = [word(), word()]
    (tmp_path / "tmax_workers" / "kinds" / "new.py").write_text("")
    words.append(word())
    os.utime(tmp_path / "tmax_pipes" / "jobs.py", (1, 1))
    words.append(word())
    assert words[0] == words[1]
    assert len(set(words)) == 3
    assert code_fingerprint.fingerprint() == code_fingerprint.fingerprint()
