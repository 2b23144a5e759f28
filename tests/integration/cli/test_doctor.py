"""The checks of ``doctor`` on a machine where something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.cli.toy import Toy
from tmax.cli import checks, fast
from tmax.cli.checks import Check
from tmax.layout import locate


def the(lines: list[Check], name: str) -> Check:
    return next(line for line in lines if line.name == name)


@pytest.mark.parametrize("mode, word, hint", [(0o755, "open to others (mode 0755)", "chmod 700"), (0o700, "free", "")])
def test_a_folder_is_looked_at(tmp_path: Path, mode: int, word: str, hint: str) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)
    line = checks._folder("state", str(folder), "XDG_STATE_HOME")
    assert line.state == ("ok" if mode == 0o700 else "fail")
    assert word in line.detail
    assert line.hint == (f"{hint} {folder}" if hint else "")


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    assert checks._folder("state", str(tmp_path / "state"), "X").hint == f"mv {tmp_path}/state {tmp_path}/state.aside"


def test_a_folder_that_is_not_made_yet(tmp_path: Path) -> None:
    line = checks._folder("state", str(tmp_path / "a" / "b"), "X")
    assert line.state == "ok"
    assert "not created yet" in line.detail


def test_tmux_missing(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(toy.root))
    (line,) = checks._tmux(locate("default"))
    assert line.state == "fail"
    assert "apt-get install tmux" in line.hint


def test_settings_that_are_wrong(toy: Toy) -> None:
    (toy.root / "config" / "tmax").mkdir(parents=True)
    (toy.root / "config" / "tmax" / "config.toml").write_text("[swarm]\nworkerz = 1\n")
    (line,) = checks._configuration()
    assert line.state == "fail"
    assert "workerz" in line.detail


def test_threads_that_the_environment_fixes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    (line,) = checks._threads()
    assert (line.state, line.hint) == ("warn", "unset OMP_NUM_THREADS")


def test_leftovers_of_a_controller_that_is_gone(toy: Toy) -> None:
    toy.close_socket()
    (toy.state / "tmax.db").touch()
    assert the(checks._swarm(locate("default")), "swarm default").state == "warn"
    line = the(checks._leftovers(locate("default")), "leftovers")
    assert line.state == "warn"
    assert "control.sock" in line.detail


def test_a_running_swarm_of_another_version(toy: Toy) -> None:
    toy.replies.update(hello={"ok": True, "pid": 7, "version": "0.0.1"}, status={"ok": True, "snapshot": {"workers": [], "notice": ""}})
    line = the(checks._swarm(locate("default")), "swarm default")
    assert line.state == "warn"
    assert "0.0.1" in line.detail
    assert the(checks._leftovers(locate("default")), "leftovers").state == "ok"


def test_the_report(monkeypatch: pytest.MonkeyPatch, toy: Toy, capfd: pytest.CaptureFixture[str]) -> None:
    lines = [
        Check(name="one", state="ok", detail="fine"),
        Check(name="two", state="warn", detail="\x1b[31mso so", hint="look"),
        Check(name="three", state="fail", detail="broken", hint="mend it"),
    ]
    monkeypatch.setattr(checks, "every_check", lambda layout: lines)
    assert fast.main(["doctor"]) == 1
    assert capfd.readouterr().out == (
        "ok    one             fine\nwarn  two             \\x1b[31mso so\n      type: look\nfail  three           broken\n      type: mend it\n"
    )
    assert fast.main(["doctor", "-q"]) == 1
    assert "fine" not in capfd.readouterr().out
    assert fast.main(["doctor", "--json"]) == 1
    report = json.loads(capfd.readouterr().out)
    assert (report["ok"], [check["state"] for check in report["checks"]]) == (False, ["ok", "warn", "fail"])
    lines.pop()
    assert fast.main(["doctor"]) == 0
