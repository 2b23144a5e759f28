"""The dashboard in a real tmux pane, fed over a real socket, read with capture-pane."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.integration.dashboard.feed_server import FeedServer, task_log
from tests.unit.dashboard.pictures import HOSTILE, many_workers, plain, snapshot, task, worker
from tests.wait import wait_until

REPOSITORY = Path(__file__).resolve().parents[3]
PACKAGE_PATH = os.pathsep.join(str(REPOSITORY / part) for part in (".", "workers", "pipes", "dashboard"))

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")


class Server:
    """A tmux server of its own."""

    def __init__(self, sock: Path) -> None:
        self.sock = str(sock)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TMUX", "TMAX", "NO_COLOR"))}
        self.env = {**kept, "PYTHONPATH": PACKAGE_PATH, "LC_ALL": "C.UTF-8"}
        self.viewers: list[tuple[int, int]] = []

    def tmux(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-f", "/dev/null", "-S", self.sock, *words], env=self.env, capture_output=True, text=True, timeout=10, check=False
        )
        return done.stdout

    def session(self, name: str, *command: str, size: tuple[int, int] = (80, 24), env: dict[str, str] | None = None) -> None:
        fields = [word for key, value in (env or {}).items() for word in ("-e", f"{key}={value}")]
        made = self.tmux("new-session", "-d", "-P", "-s", name, "-x", str(size[0]), "-y", str(size[1]), *fields, *command)
        assert made, f"session {name} was not made"

    def screen(self, name: str = "tmax") -> str:
        return self.tmux("capture-pane", "-p", "-t", f"={name}:")

    def pid(self, name: str = "tmax") -> int:
        return int(self.tmux("list-panes", "-t", f"={name}:", "-F", "#{pane_pid}"))

    def keys(self, *keys: str, name: str = "tmax") -> None:
        self.tmux("send-keys", "-t", f"={name}:", *keys)

    def shows(self, *words: str, name: str = "tmax", timeout_s: float = 10) -> str:
        wait_until(
            lambda: all(word in self.screen(name) for word in words), timeout_s, story=lambda: f"{words} not in\n{self.screen(name)}"
        )
        return self.screen(name)

    def view(self, name: str = "tmax") -> None:
        """Attach a client, as a person's terminal would."""
        pid, fd = pty.fork()
        if pid == 0:
            os.execvpe("tmux", ["tmux", "-S", self.sock, "attach-session", "-t", f"={name}"], {**self.env, "TERM": "xterm-256color"})
        self.viewers.append((pid, fd))
        wait_until(lambda: self.clients() == [name])

    def clients(self) -> list[str]:
        return self.tmux("list-clients", "-F", "#{session_name}").split()

    def close(self) -> None:
        pids = [int(pid) for pid in self.tmux("list-panes", "-a", "-F", "#{pane_pid}").split()]
        self.tmux("kill-server")
        for pid, fd in self.viewers:
            os.close(fd)
            os.waitpid(pid, 0)
        wait_until(lambda: not any(alive(pid) for pid in pids), story=lambda: f"processes left: {pids}")


def alive(pid: int) -> bool:
    """Return whether a process runs; one that only waits for init to take note of its end does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def folder(no_leaks):
    # Not pytest's tmp_path: a Unix socket's path has at most 107 bytes.
    made = Path(tempfile.mkdtemp(prefix="tmd-", dir="/tmp"))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def server(folder):
    made = Server(folder / "tmux.sock")
    yield made
    made.close()


@pytest.fixture
def control(folder):
    made = FeedServer(str(folder / "control.sock"))
    yield made
    made.close()


def command(folder, *more):
    sockets = ["--control", str(folder / "control.sock"), "--tmux", str(folder / "tmux.sock")]
    return [sys.executable, "-P", "-m", "tmax_dashboard", "--swarm", "default", *sockets, *more]


def opened(server, control, folder, shot=None, **options):
    """Start the dashboard in its pane and wait until it shows the first picture."""
    control.push(plain(shot or snapshot()))
    server.session("tmax", *command(folder), **options)
    server.shows("● ready")


# -- what is on the screen -------------------------------------------------------------------------


def test_a_change_is_on_the_screen_at_once(server, control, folder):
    opened(server, control, folder)
    server.shows("w1       busy      #124 matmul", "#121    dead        pkg.mod:leak(10)", "done 12,345")
    begun = time.monotonic()
    control.push(plain(snapshot(recent=(task(500, "running", name="fresh", worker="w3"),))))
    server.shows("#500    running     fresh", timeout_s=2)
    assert time.monotonic() - begun < 2
    assert control.asked == [{"verb": "watch", "always": False}]


def test_it_waits_for_the_controller_finds_it_and_finds_it_again(server, folder):
    server.session("tmax", *command(folder, "--always"))
    server.shows("controller gone, reconnecting", "swarm 'default' is not running: start it with: tmax init")
    first = FeedServer(str(folder / "control.sock"))
    try:
        first.push(plain(snapshot()))
        server.shows("● ready", "w1")
        assert first.asked[0]["always"] is True
    finally:
        first.close()
    server.shows("controller gone, reconnecting", "w1")
    os.unlink(folder / "control.sock")
    second = FeedServer(str(folder / "control.sock"))
    try:
        second.push(plain(snapshot(uptime_s=3.0)))
        server.shows("● ready", "up 3s")
        assert "reconnecting" not in server.screen()
    finally:
        second.close()


def test_a_picture_that_cannot_be_read_is_said(server, control, folder):
    opened(server, control, folder)
    control.push(plain(snapshot()) | {"schema_version": 9, "workers": "many"})
    server.shows("the controller's picture cannot be read (schema 9, this dashboard knows 1)", "w1 ")
    control.push(plain(snapshot(uptime_s=12.0)) | {"something": "new"})
    server.shows("● ready", "up 12s")
    assert "cannot be read" not in server.screen()


@pytest.mark.parametrize("size", [(60, 15), (200, 60)])
def test_small_and_large_screens_and_a_resize(server, control, folder, size):
    # COLUMNS and LINES of the shell that started the server are not the pane's size.
    opened(server, control, folder, many_workers(100), size=size, env={"COLUMNS": "80", "LINES": "24"})
    lines = server.screen().split("\n")
    assert len(lines[0]) <= size[0] and "w1 " in lines[2] and "leave" in lines[size[1] - 1]
    server.tmux("resize-window", "-t", "=tmax:", "-x", "80", "-y", "24")
    wait_until(lambda: "leave" in server.screen().split("\n")[23], story=server.screen)


@pytest.mark.parametrize("term", ["screen", "xterm", "vt100", "linux"])
def test_poor_terminals(server, control, folder, term):
    opened(server, control, folder, env={"TERM": term})
    server.shows("w1       busy", "q leave")


def test_no_color_sends_no_color(server, control, folder):
    opened(server, control, folder, env={"NO_COLOR": "1", "COLORTERM": "truecolor"})
    shown = server.tmux("capture-pane", "-p", "-e", "-t", "=tmax:")
    assert re.search(r"\x1b\[[0-9;]*7m *(\x1b\[[0-9;]*m)* *w1", shown), ascii(shown)
    assert not [code for code in ("[31m", "[32m", "[33m", "[36m", "[38;") if code in shown]


def test_hostile_text_cannot_reach_the_terminal(server, control, folder):
    views = tuple(worker(number, task=number, task_label=text, state="busy") for number, text in enumerate(HOSTILE, 1))
    opened(server, control, folder, snapshot(workers=views, workers_wanted=len(views), notice=HOSTILE[1]))
    shown = server.shows("[red]not red[/red]", "␛[31mred", "漢字", "w6")
    assert server.tmux("display-message", "-p", "-t", "=tmax:", "#{pane_title}").strip() != "title"
    heads = next(line for line in shown.split("\n") if line.startswith(" worker"))
    assert all(line.rstrip().endswith(("for", "busy")) or len(line) <= len(heads) + 2 for line in shown.split("\n")[2:4])


# -- keys ------------------------------------------------------------------------------------------


def test_enter_moves_the_viewer_to_the_worker_and_q_detaches_it(server, control, folder):
    opened(server, control, folder)
    server.session("w2", "cat")
    server.view()
    server.keys("j", "Enter")
    wait_until(lambda: server.clients() == ["w2"], story=server.screen)
    server.tmux("switch-client", "-t", "=tmax")
    wait_until(lambda: server.clients() == ["tmax"])
    server.keys("k", "Enter")
    server.shows("can't find session: w1")
    server.keys("q")
    wait_until(lambda: server.clients() == [], story=server.screen)
    control.push(plain(snapshot(uptime_s=42.0)))
    server.shows("up 42s")


def test_outside_enter_attaches_in_place_and_q_ends(server, control, folder):
    server.session("w1", "sh", "-c", "echo this is worker one; exec cat")
    other = Server(folder / "other.sock")
    try:
        control.push(plain(snapshot()))
        line = " ".join(command(folder))
        other.session("mine", "sh", "-c", f"{line}; echo ended with $?; exec cat")
        other.shows("● ready", name="mine")
        other.keys("Enter", name="mine")
        other.shows("this is worker one", name="mine")
        wait_until(lambda: server.clients() == ["w1"])
        control.push(plain(snapshot(uptime_s=77.0)))
        server.tmux("detach-client", "-s", "=w1")
        other.shows("● ready", "up 77s", "w4", name="mine")
        other.keys("q", name="mine")
        other.shows("ended with 0", name="mine")
        assert "ready" not in other.screen("mine")
    finally:
        other.close()


def test_the_log_of_a_running_task_grows_on_the_screen(server, control, folder):
    log = folder / "124.log"
    log.write_bytes(b"x" * 300_000 + b"\n" + b"\x1b[31mepoch 1\x1b[0m\n")
    control.logs[124] = task_log(124, "w1", file=str(log), live=True)
    opened(server, control, folder)
    server.keys("l")
    server.shows("task 124, running, w1", "epoch 1", "earlier output is left out")
    with log.open("ab") as file:
        file.write(b"epoch 2\n")
    control.push(plain(snapshot(uptime_s=9000.0)))
    server.shows("epoch 2")
    server.keys("q")
    server.shows("up 2h30m", "● ready")


def test_logs_that_are_short_missing_or_refused(server, control, folder):
    control.logs[123] = task_log(123, "w3", tail=b"short and done\n")
    control.logs[124] = task_log(124, "w1", live=True)
    control.logs["w1"] = {"worker": "w1", "text": "the pane of w1\n\n", "task": 124}
    control.logs[121] = {"error": {"code": "not-found", "message": "no task 121", "hint": "tmax ps"}, "ok": False}
    opened(server, control, folder)
    for moves, told in (([], "the pane of w1"), (["j", "j"], "short and done"), (["j"], "no task 121")):
        server.keys(*moves, "l")
        server.shows(told)
        server.keys("Escape")
        server.shows("● ready")


# -- cost ------------------------------------------------------------------------------------------


def switches(pid: int) -> int:
    """Return how often the threads of a process have gone to sleep or been put to sleep."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        total += sum(int(line.split()[1]) for line in status.read_text().splitlines() if "ctxt_switches" in line)
    return total


def test_nothing_wakes_while_nothing_comes(server, control, folder):
    opened(server, control, folder)
    pid = server.pid()
    # It has drawn its picture, but its last timers may still run out.
    still = {"count": -1, "since": time.monotonic()}

    def quiet_for_three_seconds() -> bool:
        now = switches(pid)
        if now != still["count"]:
            still.update(count=now, since=time.monotonic())
        return time.monotonic() - still["since"] > 3

    wait_until(quiet_for_three_seconds, timeout_s=10, step_s=0.2, story=lambda: f"{still}")
    control.push(plain(snapshot(uptime_s=55.0)))
    server.shows("up 55s")


def test_without_a_terminal_it_says_so(folder):
    done = subprocess.run(
        command(folder),
        env={**os.environ, "PYTHONPATH": PACKAGE_PATH},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "error: the dashboard needs a terminal\n")


def test_it_ends_with_its_terminal(server, control, folder):
    opened(server, control, folder)
    pid = server.pid()
    os.kill(pid, 0)
    server.tmux("kill-session", "-t", "=tmax")
    wait_until(lambda: not alive(pid))
    wait_until(lambda: control.watchers == 0)


def test_a_killed_dashboard_leaves_the_controller_alone(server, control, folder):
    opened(server, control, folder)
    os.kill(server.pid(), signal.SIGKILL)
    wait_until(lambda: control.watchers == 0)
