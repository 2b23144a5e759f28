"""The dashboard of a real swarm, in its monitor session, with a viewer attached."""

from __future__ import annotations

import os
import pty
import re
import time

import pytest

from tests.box import Box
from tests.wait import wait_until

SESSION = "=tmax:0"


@pytest.fixture
def watched(no_leaks):
    """A box with a swarm of two whose monitor session somebody looks at."""
    made = Box({"TMAX_DASHBOARD__ENABLED": "true"})
    viewer = None
    try:
        made.init(2)
        wait_until(lambda: "● ready" in screen(made), story=lambda: screen(made))
        viewer = look(made)
        yield made
    finally:
        left = made.close()
        if viewer:
            os.close(viewer[1])
            os.waitpid(viewer[0], 0)
    assert not left, "left over:\n" + "\n".join(left)


def screen(box):
    return box.tmux("capture-pane", "-p", "-t", SESSION, ok=False)


def look(box):
    """Attach a client to the monitor session, as a person's terminal would; return its pid and terminal."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execvpe("tmux", ["tmux", "-S", str(box.runtime / "tmux.sock"), "attach-session", "-t", "=tmax"], box.env)
    wait_until(lambda: viewers(box) == ["tmax"])
    return pid, fd


def viewers(box):
    """Return the sessions that people look at."""
    lines = box.tmux("list-clients", "-F", "#{session_name} #{client_control_mode}").splitlines()
    return [line.split()[0] for line in lines if line.endswith(" 0")]


def shows(box, pattern, timeout_s=10):
    wait_until(lambda: re.search(pattern, screen(box)), timeout_s, story=lambda: f"{pattern} not in\n{screen(box)}")


def test_a_submitted_task_is_seen_within_two_seconds_and_its_log_and_worker_are_a_key_away(watched):
    number = watched.submit("--name", "seen", "--", "sh", "-c", "echo words of the task; exec sleep 600")
    begun = time.monotonic()
    shows(watched, rf"#{number} +running +seen", timeout_s=2)
    assert time.monotonic() - begun < 2
    where = next(worker for worker in watched.status()["workers"] if worker["task"] == number)["name"]
    if where == "w2":
        watched.tmux("send-keys", "-t", SESSION, "j")
    watched.tmux("send-keys", "-t", SESSION, "l")
    shows(watched, "words of the task")
    watched.tmux("send-keys", "-t", SESSION, "q")
    shows(watched, "● ready")
    watched.tmux("send-keys", "-t", SESSION, "Enter")
    wait_until(lambda: viewers(watched) == [where], story=lambda: screen(watched))
    watched.tmux("switch-client", "-t", "=tmax")
    watched.tmax("cancel", str(number))
    shows(watched, rf"#{number} +cancelled +seen")
    watched.tmux("send-keys", "-t", SESSION, "q")
    wait_until(lambda: viewers(watched) == [], story=lambda: screen(watched))


def test_it_survives_its_controller(watched):
    os.kill(watched.status()["controller_pid"], 9)
    shows(watched, "controller gone, reconnecting")
    watched.init(2)
    shows(watched, "● ready")
    assert "reconnecting" not in screen(watched)
