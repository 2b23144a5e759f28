"""How long until N workers with torch are ready from a warm zygote, beside N panes that import it and N panes that sleep?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench.figures import Figure, Must, Row
from tests.bench.peers import missing, skipped
from tests.bench.rounds import Sizes, in_rounds, seconds_of
from tests.box import Box
from tests.wait import wait_until
from tmax.control.client import connect
from tmax.layout import locate

TITLE = "ready workers"
SLEEP = "exec sleep 1000"


@contextmanager
def warm_swarm(workers: int, module: str) -> Iterator[Box]:
    """A swarm whose zygote has imported the module, without a pool and without a pause before a dead worker is replaced."""
    settings = {"TMAX_SWARM__PRELOAD": module, "TMAX_SWARM__START_TIMEOUT_S": "600", "TMAX_WORKER__RESTART_DELAY_S": "0.001"}
    box = Box(settings)
    try:
        box.tmax("init", "-n", str(workers), timeout_s=600)
        yield box
    finally:
        box.close()


def replaced_s(box: Box) -> float:
    """Return the seconds from the kill of all workers until as many new ones are ready; taking the dead ones down is part of it."""
    with connect(locate("default", box.env)) as client:

        def workers() -> dict[int, str]:
            listed: Any = client.request("workers")["workers"]
            return {worker["pid"]: worker["state"] for worker in listed}

        dead = wait_until(lambda: found if set((found := workers()).values()) == {"idle"} else None)

        def is_replaced() -> bool:
            found = workers()
            return len(found) == len(dead) and not found.keys() & dead.keys() and set(found.values()) == {"idle"}

        begun = time.perf_counter()
        for pid in dead:
            os.kill(pid, signal.SIGKILL)
        wait_until(is_replaced, timeout_s=300, step_s=0.005)
        return time.perf_counter() - begun


def panes_s(panes: int, module: str) -> float:
    """Return the seconds until so many new tmux sessions have imported the module (empty: have been made)."""
    with tempfile.TemporaryDirectory(prefix="tmb-", dir="/tmp") as folder:
        tmux = ["tmux", "-S", f"{folder}/tmux.sock", "-f", "/dev/null"]
        sessions: list[str] = []
        for number in range(panes):
            ready = f"{sys.executable} -c 'import {module}, pathlib; pathlib.Path(\"{folder}/{number}.ready\").touch()'; {SLEEP}"
            sessions += [";"] * bool(sessions) + ["new-session", "-d", "-s", f"s{number}", ready if module else SLEEP]

        def made() -> None:
            subprocess.run([*tmux, *sessions], check=True)
            if module:
                wait_until(lambda: len(list(Path(folder).glob("*.ready"))) == panes, timeout_s=900)

        try:
            return seconds_of(made)
        finally:
            subprocess.run([*tmux, "kill-server"], check=False, stderr=subprocess.DEVNULL)


def run(sizes: Sizes) -> list[Row]:
    """Take the three in rounds, few where there are many panes: each imports for itself."""
    rows: list[Row] = []
    module = "numpy" if sizes.small or missing("torch") else "torch"
    if missing("torch"):
        rows.append(skipped("killed workers replaced, torch ready", "torch"))
    few, many = sizes.size("few", 8, 1), sizes.size("many", 100, 2)
    rounds = min(3, sizes.rounds)
    with warm_swarm(few, module) as box:
        cases = {"ours": lambda: replaced_s(box), "import": lambda: panes_s(few, module)}
        at_few = in_rounds(cases, rounds)
    with warm_swarm(many, module) as box:
        at_many = in_rounds({"ours": lambda: replaced_s(box), "sleep": lambda: panes_s(many, "")}, rounds)
    rows.append(
        Figure(
            what=f"{few} killed workers replaced, {module} ready, zygote warm",
            unit="s",
            samples=tuple(at_few["ours"]),
            peer=f"{few} panes that import {module}",
            peer_samples=tuple(at_few["import"]),
            target="P7",
            must=Must(comparison="<=", bound=round(1 / 70, 4)) if module == "torch" and few == 8 else None,
        )
    )
    rows.append(
        Figure(
            what=f"{many} killed workers replaced, {module} ready, zygote warm",
            unit="s",
            samples=tuple(at_many["ours"]),
            peer=f"{many} panes that sleep",
            peer_samples=tuple(at_many["sleep"]),
            target="P7",
            must=Must(comparison="<=", bound=4) if module == "torch" and many == 100 else None,
        )
    )
    return rows
