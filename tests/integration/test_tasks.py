"""What a task does and what becomes of it, through the command line and a real worker."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.box import Box
from tests.gate import opened, shut
from tests.wait import wait_until


def runs(pid: int) -> bool:
    """Whether a process lives; one that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def one(box: Box) -> Box:
    """A box with a swarm of one worker."""
    box.init(1)
    return box


def test_run_gives_the_commands_output_and_its_exit_code(one: Box) -> None:
    done = one.tmax("run", "--", "sh", "-c", "echo out; exit 7", ok=False)
    assert (done.returncode, done.stdout) == (7, "out\n")
    killed = one.tmax("run", "--", "sh", "-c", "kill -9 $$", ok=False)
    assert killed.returncode == 137
    assert one.tmax("run", "--", "/etc/passwd", ok=False).returncode == 126


def test_the_submitters_folder_and_environment_are_used(one: Box) -> None:
    folder = one.root / "a b;c"
    folder.mkdir()
    env = {**one.env, "ODD": "x; #{y} 'z'"}
    done = one.tmax("run", "--", "sh", "-c", 'pwd; printf %s "$ODD"', cwd=folder, env=env)
    assert done.stdout.splitlines() == [str(folder), "x; #{y} 'z'"]


def test_bytes_that_are_not_utf8_pass_unharmed(one: Box) -> None:
    command = [os.fsencode(part) for part in one.command("run", "--", "printf", "%s")] + [b"caf\xe9"]
    done = subprocess.run(command, env=one.env, capture_output=True, timeout=30, check=True)
    assert done.stdout == b"caf\xe9"


@pytest.mark.parametrize("name", ["a;b", "#(touch x)", "../up", "#{E:x}", "'; kill-server", "$HOME"])
def test_a_hostile_name_is_a_name(one: Box, name: str) -> None:
    number = one.submit(f"--name={name}", "--", "echo", "fine;", "#(touch y)")
    one.tmax("wait", str(number))
    assert one.task(number)["name"] == name
    assert not list(one.root.rglob("x"))
    assert not list(one.root.rglob("y"))
    assert "w1" in one.tmux("list-sessions")


@pytest.mark.parametrize("swarm", ["a;b", "#(x)", "../up", "two\nlines", "-dash", "", "UPPER", "x" * 40])
def test_a_hostile_swarm_name_is_refused(box: Box, swarm: str) -> None:
    done = box.tmax("init", f"--swarm={swarm}", ok=False)
    assert done.returncode == 2
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr


def test_command_not_found_and_missing_module_and_unknown_kernel(one: Box) -> None:
    missing = one.tmax("run", "--", "no-such-command-here", ok=False)
    assert missing.returncode == 127
    assert "no-such-command-here" in missing.stderr
    number = one.submit("--py", "no_such_module:f")
    assert one.tmax("wait", str(number), ok=False).returncode == 1
    result = one.tmax("result", str(number), ok=False)
    assert result.returncode == 1
    assert "no_such_module" in result.stderr
    kernel = one.tmax("kernel", "no-such-kernel", ok=False)
    assert kernel.returncode != 0
    assert "matmul" in kernel.stderr
    shape = one.tmax("kernel", "matmul", "--n", "0", ok=False)
    assert shape.returncode != 0
    assert "error:" in shape.stderr


def test_python_result_and_remote_traceback(one: Box) -> None:
    number = one.submit("--py", "math:hypot", "3", "4")
    assert one.tmax("wait", str(number)).returncode == 0
    assert one.tmax("result", str(number)).stdout.strip() == "5.0"
    (one.root / "mine.py").write_text("def boom(x):\n    raise ValueError(f'no {x}')\n")
    number = one.submit("--py", "mine:boom", '"good"')
    one.tmax("wait", str(number), ok=False)
    told = one.tmax("result", str(number), ok=False)
    assert "ValueError: no good" in told.stderr
    assert "mine.py" in told.stderr


def test_edited_code_is_what_runs_next(one: Box) -> None:
    module = one.root / "edited.py"
    module.write_text("def f():\n    return 'old'\n")
    first = one.submit("--py", "edited:f")
    one.tmax("wait", str(first))
    assert "old" in one.tmax("result", str(first)).stdout
    module.write_text("def f():\n    return 'newer'\n")
    second = one.submit("--py", "edited:f")
    one.tmax("wait", str(second))
    assert "newer" in one.tmax("result", str(second)).stdout


def test_output_is_found_by_task_id_running_and_ended(one: Box) -> None:
    number = one.submit("--", "sh", "-c", "echo begun; sleep 1; seq 5000; echo over")
    wait_until(lambda: "begun" in one.tmax("logs", str(number)).stdout)
    followed = one.tmax("logs", "-f", str(number))
    assert followed.stdout.splitlines()[0] == "begun"
    assert followed.stdout.splitlines()[-1] == "over"
    assert len(one.tmax("logs", str(number)).stdout.splitlines()) == 5002


def test_the_pane_shows_what_happens(one: Box) -> None:
    one.tmax("run", "--", "sh", "-c", "echo seen-in-pane")
    screen = wait_until(lambda: screen if "seen-in-pane" in (screen := one.screen("w1")) else "")
    assert "shell" in screen


def test_an_interrupted_shell_task_is_not_run_again_and_a_python_one_is(one: Box) -> None:
    shell = one.submit("--", "sh", "-c", "echo x >> shell.txt; sleep 30")
    wait_until((one.root / "shell.txt").exists)
    os.kill(one.workers()[0]["pid"], signal.SIGKILL)
    assert one.tmax("wait", str(shell), ok=False).returncode == 1
    assert one.task(shell)["state"] == "interrupted"
    assert (one.root / "shell.txt").read_text() == "x\n"
    (one.root / "slow.py").write_text("def f():\n    open('py.txt', 'a').write('x')\n    open('gate').close()\n    return 1\n")
    gate = shut(one.root / "gate")
    python = one.submit("--py", "slow:f")
    wait_until((one.root / "py.txt").exists, timeout_s=20)
    os.kill(one.workers()[0]["pid"], signal.SIGKILL)
    with opened(gate):
        one.tmax("wait", str(python))
    assert (one.root / "py.txt").read_text() == "xx"


def test_the_children_of_a_killed_worker_die_before_its_task_runs_again(one: Box) -> None:
    number = one.submit("--deliveries", "3", "--", "sh", "-c", "echo $$ >> pids.txt; sleep 2 & wait")
    pid = int(wait_until(lambda: (one.root / "pids.txt").exists() and (one.root / "pids.txt").read_text()))
    os.kill(one.workers()[0]["pid"], signal.SIGKILL)
    wait_until(lambda: len((one.root / "pids.txt").read_text().split()) == 2)
    assert not runs(pid)
    one.tmax("wait", str(number))
    assert one.task(number)["attempt"] == 2


def test_timeout_and_cancel_end_the_whole_group(one: Box) -> None:
    late = one.submit("--timeout", "0.5", "--", "sh", "-c", "trap '' TERM; sleep 60 & echo $! > child.txt; wait; sleep 60")
    assert one.tmax("wait", str(late), ok=False).returncode == 1
    assert one.task(late)["state"] == "failed"
    child = int((one.root / "child.txt").read_text())
    wait_until(lambda: not runs(child))
    python = one.submit("--py", "time:sleep", "60")
    wait_until(lambda: one.task(python)["state"] == "running")
    one.tmax("cancel", str(python))
    assert one.tmax("wait", str(python), ok=False).returncode == 1
    assert one.task(python)["state"] == "cancelled"
    assert one.tmax("run", "--", "true").returncode == 0


def test_a_python_task_that_ignores_everything_costs_only_its_worker(one: Box) -> None:
    (one.root / "deaf.py").write_text(
        "import signal\ndef f():\n    while True:\n        try:\n            signal.pause()\n        except BaseException:  # it ignores everything\n            pass\n"
    )
    number = one.submit("--timeout", "0.3", "--py", "deaf:f")
    assert one.tmax("wait", str(number), ok=False).returncode == 1
    assert one.task(number)["state"] == "failed"
    assert one.tmax("run", "--", "echo", "alive").stdout.strip() == "alive"


def test_a_poison_task_is_dead_after_three_deliveries(one: Box) -> None:
    (one.root / "poison.py").write_text("import os, signal\ndef f():\n    os.kill(os.getpid(), signal.SIGSEGV)\n")
    number = one.submit("--py", "poison:f")
    assert one.tmax("wait", str(number), ok=False, timeout_s=60).returncode == 1
    assert one.task(number)["state"] == "dead"
    assert one.tmax("run", "--", "true").returncode == 0


def test_retries_of_a_failing_command(one: Box) -> None:
    number = one.submit("--retries", "2", "--", "sh", "-c", "echo x >> tries.txt; test $(wc -l < tries.txt) = 3")
    one.tmax("wait", str(number))
    assert (one.root / "tries.txt").read_text() == "x\n" * 3


def test_wait_times_out_with_75_and_the_work_goes_on(one: Box) -> None:
    number = one.submit("--", "sleep", "1")
    assert one.tmax("wait", "--timeout", "0.1", str(number), ok=False).returncode == 75
    one.tmax("wait", str(number))


def test_selectors(one: Box) -> None:
    ids = [one.submit("--name", f"n{place}", "--", "true") for place in range(4)]
    one.tmax("wait", "@")
    one.tmax("wait", f"{ids[0]}-{ids[2]}", "@~1", "n2")
    assert one.tmax("wait", "999", ok=False).returncode == 4
    assert one.tmax("wait", "no-such-name", ok=False).returncode == 4


def test_ctrl_c_of_run_cancels_the_task(one: Box) -> None:
    running = subprocess.Popen(
        one.command("run", "--name", "mine", "--", "sleep", "60"), env=one.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_until(lambda: any(row["state"] == "running" for row in one.json("ps")["tasks"]))
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert b"Traceback" not in err
    wait_until(lambda: [row["state"] for row in one.json("ps", "--all")["tasks"]] == ["cancelled"])


def test_the_same_request_is_the_same_task(one: Box) -> None:
    first = one.submit("--request-id", "abc", "--", "true")
    one.tmax("wait", str(first))
    assert one.submit("--request-id", "abc", "--", "true") == first
    one.kill_controller()
    assert one.submit("--request-id", "abc", "--", "true") == first


def test_what_a_submitter_says_is_in_no_command_line_of_ours(one: Box) -> None:
    """Anybody on the machine can read command lines: the program has the words it was given, and no process of ours has any."""
    folder = one.root / "canary-folder"
    folder.mkdir()
    where: dict[str, Any] = {"env": {**one.env, "TOKEN": "canary-token"}, "cwd": folder}
    one.tmax("submit", "--name", "canary-name", "--", "sh", "-c", "echo up; read line", "canary-word", **where)
    one.tmax("submit", "--name", "canary-name", "--py", "builtins:print", '"canary-argument"', **where)
    wait_until(lambda: "up" in one.tmax("logs", "1").stdout)
    shown = [text for text in one.processes().values() if "canary" in text]
    assert len(shown) == 1, shown
    assert shown[0].startswith("sh -c echo up; read line canary-word")
