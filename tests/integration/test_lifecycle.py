"""A swarm comes, stays, and goes: real tmux, real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.box import Box
from tests.wait import wait_until


def sessions(box: Box) -> set[str]:
    return set(box.tmux("list-sessions", "-F", "#{session_name}").split())


def test_init_starts_attachable_workers_and_says_so_when_asked_again(box: Box) -> None:
    first = box.tmax("init", "-n", "2")
    assert "ms" in first.stdout + first.stderr
    assert {"w1", "w2"} <= sessions(box)
    again = box.tmax("init", "-n", "2")
    assert "already running" in again.stdout + again.stderr
    status = box.status()
    assert [worker["name"] for worker in status["workers"]] == ["w1", "w2"]
    for worker in status["workers"]:
        assert worker["state"] == "idle"
        assert worker["pane"].startswith("%")
        assert Path(f"/proc/{worker['pid']}").exists()
    assert status["controller_pid"] in box.processes()


def test_several_inits_at_once_give_one_swarm(box: Box) -> None:
    running = [
        subprocess.Popen(box.command("init", "-n", "1"), env=box.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(5)
    ]
    for one in running:
        out, err = one.communicate(timeout=60)
        assert one.returncode == 0, f"{out!r} {err!r}"
    assert sum("tmax.controller" in text for text in box.processes().values()) == 1
    assert len(box.workers()) == 1


def test_down_ends_everything_keeps_the_queue_and_init_goes_on_with_it(box: Box) -> None:
    box.init(1)
    running = box.submit("--", "sleep", "2")
    queued = [box.submit("--", "true") for _ in range(3)]
    wait_until(lambda: box.task(running)["state"] == "running")
    told = box.tmax("down")
    assert "3" in told.stdout + told.stderr
    wait_until(lambda: not box.processes())
    assert not list(box.runtime.rglob("*"))
    refused = box.tmax("submit", "--", "true", ok=False)
    assert refused.returncode == 3
    assert "hint:" in refused.stderr
    box.init(1)
    box.tmax("wait", *map(str, queued))
    assert box.task(running)["state"] == "done"


def test_down_now_interrupts_a_shell_task_and_keeps_a_python_one(box: Box) -> None:
    box.init(2)
    shell = box.submit("--", "sleep", "60")
    python = box.submit("--py", "time:sleep", "60")
    wait_until(lambda: all(box.task(one)["state"] == "running" for one in (shell, python)))
    box.tmax("down", "--now")
    wait_until(lambda: not box.processes())
    box.init(2)
    assert box.task(shell)["state"] == "interrupted"
    assert box.task(python)["state"] in ("ready", "sent", "running")
    box.tmax("cancel", str(python))


def test_a_controller_that_was_killed_comes_back_and_does_not_run_again_what_runs(box: Box) -> None:
    box.init(2)
    shell = box.submit("--", "sh", "-c", "echo ran >> shell.txt; sleep 1.5; echo ended >> shell.txt")
    python = box.submit("--py", "time:sleep", "1.5")
    wait_until(lambda: all(box.task(one)["state"] == "running" for one in (shell, python)))
    pids = {worker["name"]: worker["pid"] for worker in box.workers()}
    box.kill_controller()
    later = box.submit("--", "true")
    box.tmax("wait", str(shell), str(python), str(later))
    assert (box.root / "shell.txt").read_text() == "ran\nended\n"
    assert box.task(python)["attempt"] == 1
    assert {worker["name"]: worker["pid"] for worker in box.workers()} == pids


def test_status_says_when_the_controller_is_missing(box: Box) -> None:
    box.init(1)
    box.kill_controller()
    status = box.tmax("status", ok=False)
    assert status.returncode == 3
    assert "error:" in status.stderr
    assert "hint:" in status.stderr


def test_a_killed_worker_is_replaced_from_the_pool_by_renaming(box: Box) -> None:
    box.init(1, "--pool", "1")
    spare = wait_until(lambda: next((w for w in box.status()["workers"] if w["pooled"] and w["state"] == "idle"), None), timeout_s=20)
    os.kill(box.workers()[0]["pid"], signal.SIGKILL)
    wait_until(lambda: [w["pid"] for w in box.workers()] == [spare["pid"]], timeout_s=10)
    assert "w1" in sessions(box)
    assert box.tmax("run", "--", "true").returncode == 0
    wait_until(lambda: any(w["pooled"] and w["state"] == "idle" for w in box.status()["workers"]), timeout_s=20)


def test_tmux_killed_costs_a_view_and_no_task(box: Box) -> None:
    box.init(1)
    number = box.submit("--py", "time:sleep", "2")
    wait_until(lambda: box.task(number)["state"] == "running")
    server = int(box.tmux("display-message", "-p", "#{pid}"))
    os.kill(server, signal.SIGKILL)
    box.tmax("wait", str(number), timeout_s=30)
    assert box.task(number)["state"] == "done"
    assert box.task(number)["attempt"] == 1
    wait_until(lambda: "w1" in sessions_or_none(box), timeout_s=15)
    assert box.tmax("run", "--", "echo", "again").stdout.strip() == "again"


def sessions_or_none(box: Box) -> set[str]:
    return set(box.tmux("list-sessions", "-F", "#{session_name}", ok=False).split())


def test_everything_killed_at_once_loses_nothing(box: Box) -> None:
    box.init(2)
    ids = [box.submit("--py", "time:sleep", "0.2") for _ in range(6)]
    for pid in box.processes():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not box.processes())
    box.init(2)
    box.tmax("wait", *map(str, ids), timeout_s=60)
    assert {box.task(number)["state"] for number in ids} == {"done"}


def test_two_swarms_side_by_side(box: Box) -> None:
    box.init(1)
    box.tmax("init", "-n", "1", "--swarm", "other")
    assert box.tmax("run", "--swarm", "other", "--", "sh", "-c", "echo $TMAX_SWARM").stdout.strip() == "other"
    box.tmax("down", "--now", "--swarm", "other")
    assert box.tmax("run", "--", "sh", "-c", "echo $TMAX_SWARM").stdout.strip() == "default"


def test_init_inside_tmux_leaves_the_users_server_alone(box: Box) -> None:
    mine = str(box.root / "mine.sock")
    user = {**box.env, "TMUX_TMPDIR": str(box.root)}
    subprocess.run(["tmux", "-S", mine, "-f", "/dev/null", "new-session", "-d", "-s", "me", "sh"], env=user, check=True)
    try:
        inside = subprocess.run(
            ["tmux", "-S", mine, "display-message", "-p", "#{socket_path},#{pid},0"], capture_output=True, text=True, check=True
        )
        box.env["TMUX"] = inside.stdout.strip()
        box.init(1)
        told = box.tmax("run", "--", "sh", "-c", "echo ${TMUX-none}")
        assert told.stdout.strip() == "none"
        listed = subprocess.run(["tmux", "-S", mine, "list-sessions", "-F", "#{session_name}"], capture_output=True, text=True, check=True)
        assert listed.stdout.split() == ["me"]
    finally:
        subprocess.run(["tmux", "-S", mine, "kill-server"], check=False, capture_output=True)


def test_results_of_workers_that_left_without_a_controller_are_taken_over(box: Box) -> None:
    box.env["TMAX_WORKER__ORPHAN_TTL_S"] = "1"
    box.init(1)
    number = box.submit("--", "sh", "-c", "echo ran >> ran.txt; sleep 2.5")
    wait_until((box.root / "ran.txt").exists)
    worker = box.workers()[0]["pid"]
    box.kill_controller()
    wait_until(lambda: worker not in box.processes(), timeout_s=20)
    box.init(1)
    box.tmax("wait", str(number))
    assert box.task(number)["state"] == "done"
    assert (box.root / "ran.txt").read_text() == "ran\n"


def test_a_swarm_started_inside_a_task_outlives_its_worker(box: Box) -> None:
    box.init(1)
    script = f"import subprocess, sys; sys.exit(subprocess.run({box.command('init', '-n', '1', '--swarm', 'inner')!r}).returncode)"
    assert box.tmax("run", "--", sys.executable, "-c", script).returncode == 0
    os.kill(box.workers()[0]["pid"], signal.SIGKILL)
    wait_until(lambda: [worker["state"] for worker in box.workers()] == ["idle"] and box.status()["deaths"] == 1)
    assert box.tmax("run", "--swarm", "inner", "--", "echo", "here").stdout == "here\n"


def test_a_worker_deep_in_c_code_is_left_alone_by_the_next_controller(box: Box) -> None:
    (box.root / "deep.py").write_text("import ctypes\ndef f():\n    open('ran.txt', 'a').write('x')\n    ctypes.PyDLL(None).sleep(4)\n")
    box.init(1)
    number = box.submit("--py", "deep:f")
    wait_until((box.root / "ran.txt").exists)
    box.kill_controller()
    box.init(1)
    assert box.task(number)["state"] in ("sent", "running")
    box.tmax("wait", str(number))
    assert (box.root / "ran.txt").read_text() == "x"
    assert box.task(number)["attempt"] == 1


def test_a_runtime_folder_removed_under_a_swarm_leaves_nothing_behind(box: Box) -> None:
    box.init(1)
    number = box.submit("--py", "time:sleep", "1")
    controller = box.controller_pid()
    shutil.rmtree(box.runtime)
    os.kill(controller, signal.SIGKILL)
    wait_until(lambda: controller not in box.processes())
    box.init(1)
    box.tmax("wait", str(number))
    box.tmax("down")
    wait_until(lambda: not box.processes(), timeout_s=10)
