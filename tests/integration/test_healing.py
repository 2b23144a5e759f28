"""Whatever is removed from the runtime folder under a swarm is made again, and no task is lost, repeated or ended by it."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.box import Box
from tests.wait import wait_until
from tmax_pipes.proc_stat import start_ticks

NAMES = ("control.sock", "tmux.sock", "tmux.conf", "zygote.sock", "workers")
WORKERS = 2
HEAL_S = 5.0
"""Measured: 0.035 s; a machine that runs other tests beside gets more."""


def is_whole(box: Box) -> bool:
    return all(os.path.lexists(box.runtime / name) for name in NAMES)


def is_running(box: Box, number: int) -> bool:
    return bool(box.task(number)["state"] == "running")


def wait_whole(box: Box) -> None:
    wait_until(lambda: is_whole(box), timeout_s=HEAL_S, story=box.story)


def servers(box: Box, word: str) -> list[int]:
    """Return the processes whose command line has this word: ``tmax_workers.zygote``, ``tmux -S``."""
    return sorted(pid for pid, text in box.processes().items() if word in text)


def tmux_servers(box: Box) -> list[int]:
    """Return the tmux servers: of the processes with our socket those that lead no client of a controller."""
    parents = {int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]) for pid in box.processes()}
    return [pid for pid in servers(box, "tmux -S") if pid in parents]


def pids(box: Box) -> dict[str, int]:
    return {worker["name"]: worker["pid"] for worker in box.workers()}


def slow_task(box: Box, name: str = "slow") -> int:
    """Submit a task that says in a file that it ran, and waits for ``box.root/go``; return it once it runs."""
    ran = box.root / f"{name}.ran"
    script = f"echo ran >> {ran}; while [ ! -e {box.root}/go ]; do sleep 0.05; done"
    number = box.submit("--", "sh", "-c", script)
    wait_until(ran.exists, story=box.story)
    return number


def finish(box: Box, number: int, name: str = "slow") -> None:
    """Let that task end; it has run once, in one attempt."""
    (box.root / "go").touch()
    box.tmax("wait", str(number))
    assert (box.root / f"{name}.ran").read_text() == "ran\n"
    assert (box.task(number)["state"], box.task(number)["attempt"]) == ("done", 1)


def works(box: Box) -> None:
    """The swarm runs tasks, forks workers and shows panes as one that was never touched; there is one server of each kind."""
    assert box.tmax("run", "--", "echo", "hello").stdout == "hello\n"
    before = pids(box)
    name, pid = min(before.items())
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pids(box).get(name) not in {None, 0, pid}, story=box.story)
    wait_until(lambda: all(worker["state"] == "idle" for worker in box.workers()), story=box.story)
    assert set(before) <= set(box.tmux("list-sessions", "-F", "#{session_name}").split())
    # A worker that has just been forked has the command line of its zygote for a moment.
    wait_until(lambda: len(servers(box, "tmax_workers.zygote")) == 1, story=lambda: f"{box.processes()}\n{box.story()}")
    assert len(tmux_servers(box)) == 1, box.processes()


def remove_tree(path: Path) -> None:
    """Remove a folder in which others make and rename files meanwhile."""
    for _ in range(100):
        try:
            shutil.rmtree(path)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTEMPTY}:
                raise
            if path.exists():
                continue
        return
    raise AssertionError(f"{path} cannot be removed")


def remove_all(box: Box) -> None:
    remove_tree(box.root / "run" / "tmax")


def remove_old_files(box: Box) -> None:
    """As a cleaner of old files does: the files go, the folders stay."""
    for path in [*box.runtime.rglob("*")]:
        if not path.is_dir():
            path.unlink()


def remove_one(name: str) -> Callable[[Box], None]:
    def remove(box: Box) -> None:
        path = box.runtime / name
        if path.is_dir():
            remove_tree(path)
        else:
            path.unlink()

    return remove


def move_away(box: Box) -> None:
    (box.root / "run" / "tmax").rename(box.root / "run" / "moved")


def replace(box: Box) -> None:
    """Another folder of that name."""
    box.runtime.rename(box.root / "aside")
    box.runtime.mkdir(mode=0o700)


REMOVALS = {
    "everything": remove_all,
    "its files": remove_old_files,
    "moved": move_away,
    "replaced": replace,
    **{name: remove_one(name) for name in NAMES},
}


@pytest.mark.parametrize("what", REMOVALS)
def test_what_is_removed_is_made_again_and_what_runs_goes_on(box: Box, what: str) -> None:
    box.init(WORKERS)
    number = slow_task(box)
    controller, before = box.controller_pid(), pids(box)
    REMOVALS[what](box)
    wait_whole(box)
    assert box.controller_pid() == controller
    assert pids(box) == before
    assert is_running(box, number)
    assert "created again once" in box.tmax("doctor", ok=False).stdout
    finish(box, number)
    works(box)
    shutil.rmtree(box.root / "run" / "moved", ignore_errors=True)


def test_a_verb_that_comes_while_nothing_is_there_waits_for_it(box: Box) -> None:
    box.init(1)
    for _ in range(5):
        remove_all(box)
        assert "1 of 1 workers ready" in box.tmax("status").stdout
        remove_all(box)
        number = box.submit("--", "true")
        remove_all(box)
        box.tmax("wait", str(number))
        remove_all(box)
        assert "already running" in box.tmax("init").stdout
    wait_until(lambda: len(servers(box, "tmax_workers.zygote")) == 1)


@pytest.mark.parametrize("what", ["everything", "its files"])
def test_the_next_controller_finds_the_workers_of_a_folder_that_was_made_again(box: Box, what: str) -> None:
    box.init(WORKERS)
    number, before = slow_task(box), pids(box)
    REMOVALS[what](box)
    wait_whole(box)
    box.kill_controller()
    box.init(WORKERS)
    assert pids(box) == before
    finish(box, number)
    works(box)


@pytest.mark.parametrize("what", ["everything", "its files", "workers", "tmux.sock", "zygote.sock", "control.sock"])
def test_a_controller_that_died_with_its_folder_is_replaced_by_init(box: Box, what: str) -> None:
    box.init(WORKERS)
    number, before = slow_task(box), pids(box)
    controller = box.controller_pid()
    os.kill(controller, signal.SIGSTOP)  # so that it cannot be quicker
    REMOVALS[what](box)
    os.kill(controller, signal.SIGKILL)
    wait_until(lambda: controller not in box.processes())
    box.init(WORKERS)
    assert pids(box) == before
    wait_until(lambda: is_running(box, number), story=box.story)
    finish(box, number)
    works(box)


def test_a_stopped_controller_heals_when_it_goes_on(box: Box) -> None:
    box.init(1)
    number, controller = slow_task(box), box.controller_pid()
    os.kill(controller, signal.SIGSTOP)
    remove_all(box)
    assert box.tmax("status", ok=False).returncode == 3
    os.kill(controller, signal.SIGCONT)
    wait_whole(box)
    assert box.controller_pid() == controller
    finish(box, number)
    works(box)


@pytest.mark.parametrize("verb", [("init", "-n", "1"), ("submit", "-q", "--", "true")], ids=["init", "submit"])
def test_a_stopped_controller_whose_folder_was_removed_is_replaced(box: Box, verb: tuple[str, ...]) -> None:
    box.init(1)
    number, controller, before = slow_task(box), box.controller_pid(), pids(box)
    os.kill(controller, signal.SIGSTOP)
    remove_all(box)
    box.tmax(*verb)
    assert box.controller_pid() != controller
    assert controller not in box.processes()
    wait_until(lambda: pids(box) == before, story=box.story)
    finish(box, number)
    works(box)


def test_a_link_in_its_place_is_not_followed(box: Box) -> None:
    box.init(1)
    number = slow_task(box)
    target = box.root / "target"
    target.mkdir(mode=0o700)
    remove_tree(box.runtime)
    box.runtime.symlink_to(target)
    wait_until(lambda: "a link is not accepted here" in (box.state / "controller.log").read_text(), story=box.story)
    told = box.tmax("init", ok=False)
    assert told.returncode == 1
    assert "a link is not accepted here" in told.stderr
    assert list(target.iterdir()) == []
    box.runtime.unlink()
    wait_whole(box)
    finish(box, number)
    works(box)


def test_a_folder_open_to_others_in_its_place_is_not_used(box: Box) -> None:
    box.init(1)
    number = slow_task(box)
    remove_tree(box.runtime)
    box.runtime.mkdir()
    box.runtime.chmod(0o777)
    wait_until(lambda: "is open to others" in (box.state / "controller.log").read_text(), story=box.story)
    assert list(box.runtime.iterdir()) == []
    box.runtime.chmod(0o700)
    wait_until(lambda: is_whole(box), timeout_s=10, story=box.story)
    finish(box, number)
    works(box)


CLIENT = """
    import sys
    from pathlib import Path
    from tmax import Swarm
    def note(folder, number):
        with open(f"{folder}/{number}", "a") as file:
            file.write("x")
        return number
    if __name__ == "__main__":
        folder = sys.argv[1]
        with Swarm.connect("default") as swarm:
            first = [swarm.submit(note, folder, number) for number in range(200)]
            print("begun", flush=True)
            more = [swarm.submit(note, folder, number) for number in range(200, 2000)]
            assert [future.result(timeout=60) for future in first + more] == list(range(2000))
        print("ended", flush=True)
"""


@pytest.mark.parametrize("kill", [False, True], ids=["healed", "killed"])
def test_the_futures_of_a_client_end_once_each(box: Box, kill: bool) -> None:
    box.init(WORKERS)
    traces = box.root / "traces"
    traces.mkdir()
    (box.root / "client.py").write_text(textwrap.dedent(CLIENT))
    with subprocess.Popen(
        [sys.executable, str(box.root / "client.py"), str(traces)], env=box.env, stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "begun\n"
        for _ in range(3):
            if kill:
                controller = box.controller_pid()
                remove_all(box)
                os.kill(controller, signal.SIGKILL)
                wait_until(lambda: is_whole(box), timeout_s=30, story=box.story)
            else:
                remove_all(box)
                wait_whole(box)
        assert client.stdout.read() == "ended\n", box.story()
    counts = {path.name: path.stat().st_size for path in traces.iterdir()}
    assert len(counts) == 2000
    assert set(counts.values()) == {1}, {name: size for name, size in counts.items() if size != 1}
    wait_whole(box)
    works(box)


@pytest.mark.parametrize("when", ["workers", "tmux.conf", "tmux.sock", "zygote.sock", "control.sock", "workers/life-1.json"])
def test_a_folder_removed_during_init_is_made_again(box: Box, when: str) -> None:
    with subprocess.Popen(box.command("init", "-n", "2"), env=box.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as init:
        for _ in range(2):
            wait_until(lambda: init.poll() is not None or os.path.lexists(box.runtime / when), step_s=0.0002, story=box.story)
            shutil.rmtree(box.root / "run" / "tmax", ignore_errors=True)
        out, err = init.communicate(timeout=30)
    assert init.returncode == 0, f"{out}{err}{box.story()}"
    wait_whole(box)
    works(box)


def test_a_spilled_result_outlives_the_runtime_folder(box: Box) -> None:
    box.env["TMAX_WORKER__ORPHAN_TTL_S"] = "0.5"
    box.init(1)
    ran = box.root / "ran"
    script = f"echo ran >> {ran}; while [ ! -e {box.root}/go ]; do sleep 0.05; done"
    number = box.submit("--", "sh", "-c", script)
    wait_until(ran.exists)
    worker = pids(box)["w1"]
    ticks = start_ticks(worker)
    box.kill_controller()
    remove_all(box)
    (box.root / "go").touch()
    wait_until(lambda: start_ticks(worker) != ticks, story=box.story)
    box.init(1)
    box.tmax("wait", str(number))
    assert ran.read_text() == "ran\n"
    assert box.task(number)["state"] == "done"
