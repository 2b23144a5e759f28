"""The verbs on a real swarm, where a toy would not do."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess

import pytest

from tests.box import Box
from tests.wait import wait_until


def test_init_reports_phases_and_again_says_so(box: Box) -> None:
    told = json.loads(box.tmax("init", "-n", "1", "--json").stdout)
    assert told["started"]
    assert told["workers"] == 1
    assert {"settings", "controller", "workers ready"} <= {phase["phase"] for phase in told["phases"]}
    assert sum(phase["ms"] for phase in told["phases"] if phase["phase"] in {"settings", "controller", "workers ready"}) <= told["ms"] + 1
    again = box.tmax("up", "-n", "3")
    assert "already running: 1 worker " in again.stdout
    assert "hint: it keeps 1 worker" in again.stderr
    assert json.loads(box.tmax("init", "--json").stdout)["controller_pid"] == told["controller_pid"]
    assert box.tmax("init", "-q").stdout == ""


def test_without_its_controller_reading_verbs_read_the_store(box: Box) -> None:
    box.init(1)
    done = box.submit("--name", "sum", "--py", "math:hypot", "3", "4")
    loud = box.submit("--", "sh", "-c", "echo heard; exit 3")
    box.tmax("wait", str(done), str(loud), "--ignore-failures")
    running = box.submit("--", "sleep", "20")
    wait_until(lambda: box.task(running)["state"] == "running")
    box.kill_controller()
    assert box.tmax("result", "sum").stdout == "5.0\n"
    assert box.tmax("logs", "@~1").stdout == "heard\n"
    assert box.tmax("wait", str(done)).returncode == 0
    assert box.tmax("wait", str(loud), ok=False).returncode == 1
    assert box.tmax("wait", str(running), ok=False).returncode == 3
    assert box.tmax("result", str(running), ok=False).returncode == 75
    assert box.tmax("result", "99", ok=False).returncode == 4
    rows = {row["id"]: row for row in box.json("ps", "--all")["tasks"]}
    assert [rows[one]["state"] for one in (done, loud, running)] == ["done", "failed", "running"]
    assert [row["id"] for row in box.json("ps", "--failed")["tasks"]] == [loud]
    status = box.tmax("status", "--json", ok=False)
    assert status.returncode == 3
    assert json.loads(status.stdout)["tasks"] == {"done": 1, "failed": 1, "running": 1}
    assert json.loads(status.stderr)["error"]["code"] == "no-swarm"
    box.tmax("down", "--now")
    assert "already down" in box.tmax("down").stdout
    assert "was taken down" in box.tmax("status", ok=False).stderr


def test_run_outlives_its_controller(box: Box) -> None:
    box.init(1)
    words = ["run", "--", "sh", "-c", "echo one; while [ ! -e go ]; do sleep 0.05; done; echo two; exit 9"]
    running = subprocess.Popen(box.command(*words), env=box.env, cwd=box.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: any(row["state"] == "running" for row in box.json("ps")["tasks"]))
    box.kill_controller()
    (box.root / "go").touch()
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (9, b"one\ntwo\n"), err


def test_ctrl_c_of_run_shows_what_the_task_still_says_and_a_second_one_leaves(box: Box) -> None:
    box.init(1, "--preload", "")
    box.env["TMAX_TASKS__GRACE_S"] = "10"
    stubborn = "trap 'echo asked' TERM; echo begun; while [ ! -e go ]; do sleep 0.05; done; echo over"
    running = subprocess.Popen(
        box.command("run", "--grace", "20", "--", "sh", "-c", stubborn),
        env=box.env,
        cwd=box.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdout is not None
    assert running.stdout.readline() == b"begun\n"
    running.send_signal(signal.SIGINT)
    said = [running.stdout.readline(), running.stdout.readline()]  # the shell tells that its sleep was terminated, too
    assert b"asked\n" in said
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=10)
    assert running.returncode == 130
    assert b"Traceback" not in err
    (box.root / "go").touch()
    wait_until(lambda: box.json("ps", "--all")["tasks"][0]["state"] in {"cancelled", "done"})


def test_logs_follow_a_task_that_has_not_begun(box: Box) -> None:
    box.init(1)
    first = box.submit("--", "sh", "-c", "while [ ! -e go ]; do sleep 0.05; done")
    second = box.submit("--", "seq", "3000")
    following = subprocess.Popen(box.command("logs", "-f", str(second)), env=box.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    (box.root / "go").touch()
    out, err = following.communicate(timeout=20)
    assert (following.returncode, err) == (0, b"")
    assert out.split() == [str(number).encode() for number in range(1, 3001)]
    assert box.tmax("wait", str(first), str(second)).stdout == ""


def test_down_says_what_it_would_do_and_what_it_keeps(box: Box) -> None:
    box.init(1)
    box.tmax("hold")
    box.submit("--", "true")
    assert "would end 1 worker; 0 running tasks would be finished, 1 queued task kept" in box.tmax("down", "--dry-run").stdout
    pid = box.controller_pid()
    told = json.loads(box.tmax("down", "--json").stdout)
    assert told == {"schema_version": 1, "down": True, "was_running": True, "queued": 1}
    assert pid not in box.processes()


def test_cancel_many_and_a_dry_run(box: Box) -> None:
    box.init(1)
    box.tmax("hold")
    ids = [box.submit("--name", f"n{number}", "--", "true") for number in range(4)]
    dry = box.tmax("cancel", "--dry-run", f"{ids[0]}-{ids[1]}")
    assert dry.stdout.count("would be cancelled") == 2
    assert box.json("cancel", f"{ids[0]}-{ids[1]}", "n3")["results"][2] == {"id": ids[3], "was": "ready", "now": "cancelled"}
    assert box.tmax("ps", "-q").stdout.split() == [str(ids[2])]
    assert "resume" in box.tmax("ps").stdout
    box.tmax("resume")
    box.tmax("wait", str(ids[2]))


def test_the_kernel_verb(box: Box) -> None:
    box.init(1)
    shown = box.tmax("kernel", "matmul", "--n", "64", "--repeat", "2", "--backend", "numpy").stdout
    assert "gflops" in shown
    value = box.json("kernel", "eigvals", "--n", "10", "--batch", "2", "--backend", "numpy")
    assert value["task"]["result"]["sizes"] == {"n": 10, "batch": 2}
    wrong = box.tmax("kernel", "matmul", "--n", "8", "--dtype", "int7", ok=False)
    assert wrong.returncode == 2
    assert "int7" in wrong.stderr


def test_doctor_knows_a_good_swarm(box: Box) -> None:
    box.init(1)
    report = json.loads(box.tmax("doctor", "--json").stdout)
    assert report["ok"]
    lines = {check["name"]: check for check in report["checks"]}
    assert {
        "python",
        "packages",
        "numpy",
        "torch",
        "tmux",
        "pidfd",
        "state",
        "runtime",
        "socket path",
        "settings",
        "leftovers",
    } <= lines.keys()
    assert "1 workers" in lines["swarm default"]["detail"]
    assert lines["tmux"]["detail"].endswith("; sessions: ctl w1")


def drain(terminal: int) -> None:
    """Read until nobody writes any more: a program cannot end while its last words find no room."""
    try:
        while os.read(terminal, 65536):
            pass
    except OSError:
        pass  # how a terminal says that it is closed


@pytest.mark.parametrize("target", ["w1", "@"])
def test_attach_shows_the_worker_in_a_real_terminal(box: Box, target: str) -> None:
    box.init(1)
    number = box.submit("--", "sh", "-c", "echo look-here; while [ ! -e go ]; do sleep 0.05; done")
    wait_until(lambda: box.task(number)["state"] == "running")
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(box.root)
        command = box.command("attach", target)
        os.execve(command[0], command, box.env)
    try:
        seen = b""

        def looks() -> bool:
            nonlocal seen
            seen += os.read(terminal, 65536)
            return b"look-here" in seen

        wait_until(looks, timeout_s=10)
        session = box.tmux("list-clients", "-F", "#{session_name} #{client_control_mode}").splitlines()
        assert "w1 0" in session
        box.tmux("detach-client", "-s", "=w1")
        drain(terminal)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
    finally:
        os.close(terminal)
    (box.root / "go").touch()
    box.tmax("wait", str(number))


def test_attach_to_a_worker_without_a_session_names_the_worker(box: Box) -> None:
    box.init(1)
    number = box.submit("--", "sh", "-c", "while [ ! -e go ]; do sleep 0.05; done")
    wait_until(lambda: box.task(number)["state"] == "running")
    box.tmux("kill-server")
    wait_until(lambda: not next(worker for worker in box.workers() if worker["task"] == number)["session"])
    for target in ("w1", str(number), "@"):
        refused = box.tmax("attach", target, ok=False)
        assert (refused.returncode, refused.stderr) == (4, "error: w1 has no session now\nhint: tmax workers lists them\n")
    (box.root / "go").touch()
    box.tmax("wait", str(number))
