"""The sample job on a real swarm, and the script that leads there."""

from __future__ import annotations

import os
import pty
import re
import signal
import string
import subprocess
import sys
from typing import Any

import pytest

from examples import run_sample
from examples.report import Run, report
from examples.sample_job import KernelRun, Work
from tests.box import REPOSITORY, Box
from tests.wait import wait_until
from tmax import Swarm
from tmax.control.client import connect
from tmax.layout import locate

START = REPOSITORY / "scripts" / "start"
NOTE = REPOSITORY / ".venv" / "tmax-setup.json"


def sample(box: Box) -> subprocess.CompletedProcess[str]:
    """The sample job without torch, on the box's swarm."""
    command = [sys.executable, "-m", "examples.run_sample", "--no-torch"]
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env=box.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )


def cells(report: str, head: str) -> dict[str, list[str]]:
    """The lines of the table whose first line begins with ``head``, by their first word."""
    lines = report.splitlines()
    begin = next(place for place, line in enumerate(lines) if line.startswith(head))
    table = []
    for line in lines[begin + 1 :]:
        if not line:
            break
        table.append(line.split())
    return {row[0]: row[1:] for row in table}


@pytest.mark.slow
def test_every_figure_of_the_report_is_what_the_swarm_recorded(box: Box) -> None:
    box.init(2)
    done = sample(box)
    assert done.returncode == 0, done.stdout + done.stderr
    rows: list[dict[str, Any]] = box.json("ps", "--all", "--limit", "1000")["tasks"]
    kinds = cells(done.stdout, "kind ")
    ran_by = cells(done.stdout, "ran by")
    for kind in ("kernel", "python", "shell"):
        ours = [row for row in rows if row["kind"] == kind]
        assert {row["state"] for row in ours} == {"done"}
        assert kinds[kind][:2] == [str(len(ours)), "0"]
        assert " ".join(kinds[kind]).endswith(" yes (within 1e-08)" if kind == "kernel" else " yes"), (
            "the plain process came to other results"
        )
        assert ran_by[kind] == [str(sum(row["worker"] == name for row in ours)) for name in ("w1", "w2")]
    assert box.status()["tasks"]["done"] == len(rows) == 9 + 32 + 32
    assert "To attach: " in done.stdout
    assert len(box.workers()) == 2, "the swarm stays up"


def test_failed_tasks_are_on_record_and_fail_the_run(box: Box, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    box.init(2)
    for name in ("XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, box.env[name])
    small = Work(
        kernels=(KernelRun(name="eigvals", n=5, backend="numpy", repeat=1), KernelRun(name="nonsense", n=5, backend="numpy", repeat=1)),
        token_batches=((string.__file__,), ("/nonexistent.py",)),
        hash_commands=(("sha256sum", "--", string.__file__), ("sh", "-c", "exit 7"), ("no-such-program",)),
    )
    with Swarm.connect() as swarm:
        layout = locate(swarm.name)
        futures = run_sample.run_on(swarm, layout, small)
        with connect(layout) as client:
            records = [run_sample.recorded(client, kind, future) for kind, some in futures.items() for future in some]
        checks = run_sample.checks_of(small, futures)
    run = Run(swarm="default", workers=("w1", "w2"), cores=2, python="3", records=records, checks=checks, plain=None)
    assert [(record.kind, record.state) for record in run.failed] == [
        ("kernel", "failed"),
        ("python", "failed"),
        *[("shell", "failed")] * 2,
    ]
    assert not run.ok and checks == {}
    text = report(run)
    for why in (
        "unknown kernel 'nonsense'",
        "No such file or directory: '/nonexistent.py'",
        "exit 7",
        "command not found: no-such-program",
    ):
        assert why in text
    assert "shell    3 tasks ended, 2 of them badly" in capsys.readouterr().out


def test_without_a_swarm_it_says_what_to_type(box: Box) -> None:
    box.init(1)
    box.down()
    wait_until(lambda: not box.processes())
    done = sample(box)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == "hint: start it with: tmax init"


# -- the script ------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["-n", "0"], ["-n"], ["-n", "x"], ["-nx"], ["--nonsense"], ["extra"]])
def test_wrong_usage_is_2_before_anything_is_done(words: list[str]) -> None:
    done = subprocess.run([str(START), *words], capture_output=True, text=True, check=False, timeout=10)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == "hint: usage: scripts/start [--no-torch] [-n N]"


@pytest.mark.skipif(not NOTE.exists(), reason="this checkout was not set up by scripts/setup; scripts/test does that first")
def test_a_second_start_is_quick_and_ctrl_c_leaves_the_swarm_as_it_was(box: Box) -> None:
    """Typed by a link's name from another folder, on a terminal; interrupted while the sample job runs."""
    box.init(2)
    link = box.root / "start it"
    link.symlink_to(START)
    keyboard, terminal = pty.openpty()
    command = [str(link), "-n", "2"]
    running = subprocess.Popen(command, cwd="/", env=box.env, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True)
    os.close(terminal)
    try:
        os.set_blocking(keyboard, False)
        said = Said(keyboard)
        wait_until(lambda: "kernel   [" in said.text(), timeout_s=60, story=said.text)
        assert "already there" in said.text()
        assert "already running: 2 workers" in said.text()
        os.killpg(running.pid, signal.SIGINT)
        wait_until(lambda: (said.text(), running.poll())[1] is not None, timeout_s=30, story=said.text)
        assert running.returncode == 130, said.text()
        assert "the swarm stays up" in said.text()
        assert "Traceback" not in said.text()
    finally:
        os.close(keyboard)
        running.kill()
        running.wait()
    wait_until(lambda: not box.json("ps")["tasks"], timeout_s=30)
    assert {worker["state"] for worker in box.workers()} == {"idle"}


class Said:
    """What came out of a terminal so far."""

    def __init__(self, keyboard: int) -> None:
        self._keyboard = keyboard
        self._data = b""

    def text(self) -> str:
        """Read what is there."""
        try:
            while data := os.read(self._keyboard, 65536):
                self._data += data
        except OSError:
            pass  # nothing there now (EAGAIN), or nobody writes any more (EIO)
        return self._data.decode(errors="replace")


def test_the_python_of_the_first_page_prints_what_it_says(box: Box) -> None:
    box.init(1)
    code = re.search(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert code is not None
    program = box.root / "tour.py"
    program.write_text(code[1])
    done = subprocess.run(
        [sys.executable, str(program)], env=box.env, cwd=box.root, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    told = re.findall(r"print\(.*\)\s+# (.*)", code[1])
    assert told[0] == "1024"
    printed = done.stdout.splitlines()
    assert [line for line in printed if line in told] == told
    assert "failed: invalid literal for int() with base 10: 'x'" in printed
