"""How long until N more workers with torch are ready from a warm zygote, beside N panes that import it and N panes that sleep?"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.figures import Figure, Must, Row
from tests.bench.peers import missing, skipped
from tests.bench.rounds import Sizes, in_rounds, seconds_of
from tests.box import Box
from tests.wait import wait_until

TITLE = "ready workers"
SLEEP = "exec sleep 1000"


def init_s(workers: int, module: str) -> float:
    """Return the seconds of ``tmax init`` of so many workers without a pool."""
    box = Box({"TMAX_SWARM__PRELOAD": module, "TMAX_SWARM__START_TIMEOUT_S": "600"})
    try:
        return seconds_of(lambda: box.tmax("init", "-n", str(workers), timeout_s=600))
    finally:
        box.close()


def more_workers_s(workers: int, module: str) -> float:
    """Return the seconds that so many workers take beyond one, whose start includes that of controller and zygote."""
    return max(1e-3, init_s(workers + 1, module) - init_s(1, module))


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
        rows.append(skipped("more workers, torch ready", "torch"))
    few, many = sizes.size("few", 8, 1), sizes.size("many", 100, 2)
    taken = in_rounds(
        {"ours": lambda: more_workers_s(few, module), "import": lambda: panes_s(few, module), "sleep": lambda: panes_s(few, "")},
        min(3, sizes.rounds),
    )
    more = in_rounds({"ours": lambda: more_workers_s(many, module), "sleep": lambda: panes_s(many, "")}, min(3, sizes.rounds))
    at_few = Figure(
        what=f"{few} more workers, {module} ready",
        unit="s",
        samples=tuple(taken["ours"]),
        peer=f"{few} panes that import {module}",
        peer_samples=tuple(taken["import"]),
        target="P7",
        must=Must(comparison="<=", bound=1 / 70) if module == "torch" and few == 8 else None,
    )
    at_many = Figure(
        what=f"{many} more workers, {module} ready",
        unit="s",
        samples=tuple(more["ours"]),
        peer=f"{many} panes that sleep",
        peer_samples=tuple(more["sleep"]),
        target="P7",
        must=Must(comparison="<=", bound=4) if module == "torch" and many == 100 else None,
    )
    return [*rows, at_few, at_many]
