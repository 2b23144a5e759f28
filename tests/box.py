"""A swarm in a box: its own folders and tmux server, driven through the command line as a user does.

Everything started in a box carries TMAX_TEST_ROOT in its environment, so that what is left over is found and named,
and nothing outside the box is ever touched.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.wait import wait_until
from tmax.control.client import connect
from tmax.layout import locate

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE_PATH = os.pathsep.join(str(REPOSITORY / part) for part in (".", "workers", "pipes", "dashboard"))
DEFAULTS = {
    "TMAX_SWARM__POOL": "0",
    "TMAX_SWARM__PRELOAD": "",
    "TMAX_TASKS__GRACE_S": "1",
    "TMAX_DASHBOARD__ENABLED": "false",
}
"""Small and quick unless a test is about it."""


def environment_of(pid: int) -> bytes:
    """Return the environment block of a process; empty when it is gone or not ours."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


class Box:
    """One test's folders, and the swarms in them."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        # Not pytest's tmp_path: a Unix socket's path has at most 107 bytes.
        self.root = Path(tempfile.mkdtemp(prefix="tmb-", dir="/tmp"))
        for name in ("state", "run", "config", "home"):
            (self.root / name).mkdir(mode=0o700)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("TMAX", "TMUX", "XDG_", "PYTHONDONTWRITE"))}
        self.env = {
            **kept,
            "HOME": str(self.root / "home"),
            "XDG_STATE_HOME": str(self.root / "state"),
            "XDG_RUNTIME_DIR": str(self.root / "run"),
            "XDG_CONFIG_HOME": str(self.root / "config"),
            "TMAX_TEST_ROOT": str(self.root),
            "PYTHONPATH": PACKAGE_PATH,
            "TERM": "xterm-256color",
            **DEFAULTS,
            **(settings or {}),
        }

    # -- commands ----------------------------------------------------------------------------------

    def command(self, *args: str) -> list[str]:
        """Return the argument vector of a tmax command."""
        return [sys.executable, "-m", "tmax", *args]

    def tmax(self, *args: str, ok: bool = True, timeout_s: float = 60.0, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a tmax command; with ``ok`` its exit code must be 0."""
        options.setdefault("cwd", self.root)
        options.setdefault("env", self.env)
        options.setdefault("stdin", subprocess.DEVNULL if "input" not in options else None)
        if "input" in options:
            del options["stdin"]
        done = subprocess.run(self.command(*args), capture_output=True, text=True, timeout=timeout_s, check=False, **options)
        if ok and done.returncode != 0:
            raise AssertionError(f"tmax {' '.join(args)} -> {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.story()}")
        return done

    def json(self, *args: str) -> Any:
        """Run a reading command with --json and return its value."""
        return json.loads(self.tmax(*args, "--json").stdout)

    def init(self, workers: int = 2, *args: str) -> None:
        """Start a swarm and wait until it is ready."""
        self.tmax("init", "-n", str(workers), *args)

    def submit(self, *args: str) -> int:
        """Submit a task and return its id."""
        return int(self.tmax("submit", "-q", *args).stdout.strip())

    def status(self) -> dict[str, Any]:
        """Return ``status --json``."""
        status: dict[str, Any] = self.json("status")
        return status

    def task(self, number: int) -> dict[str, Any]:
        """Return the line of one task, live or ended."""
        rows = self.json("ps", "--all", "--limit", "100000")["tasks"]
        return next(row for row in rows if row["id"] == number)

    # -- what is there -----------------------------------------------------------------------------

    @property
    def state(self) -> Path:
        """The state folder of the default swarm."""
        return self.root / "state" / "tmax" / "default"

    @property
    def runtime(self) -> Path:
        """The runtime folder of the default swarm."""
        return self.root / "run" / "tmax" / "default"

    def tmux(self, *args: str, ok: bool = True) -> str:
        """Run a tmux command on the swarm's own server."""
        done = subprocess.run(
            ["tmux", "-S", str(self.runtime / "tmux.sock"), *args], capture_output=True, text=True, timeout=10, check=False
        )
        if ok and done.returncode != 0:
            raise AssertionError(f"tmux {args}: {done.stderr}")
        return done.stdout

    def screen(self, session: str) -> str:
        """Return what a person would see in a session's pane, scrollback included."""
        return self.tmux("capture-pane", "-p", "-S", "-500", "-t", f"={session}:")

    def controller_pid(self) -> int:
        """Return the controller's pid."""
        return int(self.status()["controller_pid"])

    def workers(self) -> list[dict[str, Any]]:
        """Return the workers (not the pooled ones)."""
        return [worker for worker in self.status()["workers"] if not worker["pooled"]]

    def processes(self) -> dict[int, str]:
        """Return the processes of this box that are alive: pid -> command line."""
        mark = f"TMAX_TEST_ROOT={self.root}".encode() + b"\0"
        found = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) != os.getpid() and mark in environment_of(int(entry)) + b"\0":
                try:
                    text = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    state = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()[0]
                except OSError:
                    continue
                if state != "Z":
                    found[int(entry)] = text
        return found

    def story(self) -> str:
        """Return what helps to understand a failure: the end of the controllers' logs."""
        logs = sorted(self.root.glob("state/tmax/*/controller.log"))
        return "\n".join(f"--- {log}\n{log.read_text(errors='replace')[-3000:]}" for log in logs)

    # -- faults ------------------------------------------------------------------------------------

    def kill_controller(self) -> int:
        """Kill -9 the controller and wait until it is gone; return its pid."""
        pid = self.controller_pid()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{pid}").exists() or pid not in self.processes(), timeout_s=5)
        return pid

    def submit_and_kill(self, *args: str) -> int:
        """Submit a task and kill -9 the controller as the command returns; return the task's id.  A missing controller is started by it."""
        number = self.submit(*args)
        # The kernel says who listens within a millisecond; by `status` it would live on for a tenth of a second.
        with connect(locate("default", self.env)) as client:
            os.kill(client.controller_pid, signal.SIGKILL)
        return number

    # -- the end -----------------------------------------------------------------------------------

    def down(self) -> None:
        """Take every swarm of the box down."""
        for state in sorted((self.root / "state" / "tmax").glob("*")):
            self.tmax("down", "--now", "--swarm", state.name, ok=False)

    def close(self) -> list[str]:
        """Take everything down, remove the box, and return what was left over (nothing, if all is well)."""
        self.down()
        left: list[str] = []
        try:
            wait_until(lambda: not self.processes(), timeout_s=10)
        except AssertionError:
            left += [f"process {pid}: {text}" for pid, text in self.processes().items()]
            for pid in self.processes():
                os.kill(pid, signal.SIGKILL)
        left += [f"left in the runtime folder: {path}" for path in (self.root / "run").rglob("*") if not path.is_dir()]
        left = [f"{line}\n{self.story()}" if line.startswith("process") else line for line in left]
        shutil.rmtree(self.root, ignore_errors=True)
        return left
