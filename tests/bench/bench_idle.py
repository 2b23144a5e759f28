"""What does a swarm cost that does nothing: memory by process, and the controller's share of a core?"""

from __future__ import annotations

import importlib.util
import threading
from collections import defaultdict

from tests.bench.figures import Figure, cpu_s, pss_bytes
from tests.box import Box
from tests.wait import wait_until

TITLE = "idle swarm of 4"
IDLE_S = 20.0
MIB = 1024 * 1024


def part_of(command: str) -> str:
    """Return which part of a swarm a process is, by its command line."""
    for mark, part in (
        ("tmax.controller", "controller"),
        ("tmax_workers.zygote", "zygote"),
        ("stub.py", "pane stub"),
        ("tmax_workers", "worker"),
        ("tmax_dashboard", "dashboard"),
        ("tail -n", "log window"),
        ("tmux", "tmux"),
    ):
        if mark in command:
            return part
    return "other"


def run() -> list[Figure]:
    """Start 4 workers (torch where there is torch) with pool and dashboard, let it rest, and look."""
    preload = "numpy,torch" if importlib.util.find_spec("torch") else "numpy"
    box = Box({"TMAX_SWARM__PRELOAD": preload, "TMAX_SWARM__POOL": "1", "TMAX_DASHBOARD__ENABLED": "true"})
    try:
        box.init(4)
        wait_until(lambda: any("tmax_dashboard" in text for text in box.processes().values()), timeout_s=20)
        wait_until(lambda: sum(worker["state"] == "idle" for worker in box.status()["workers"]) == 5, timeout_s=60)
        threading.Event().wait(5.0)  # the dashboard's first picture, the pool's last import
        return [*memory(box, preload), *processor(box)]
    finally:
        box.close()


def memory(box: Box, preload: str) -> list[Figure]:
    """Return PSS by part, and in all."""
    parts: dict[str, list[int]] = defaultdict(list)
    for pid, command in box.processes().items():
        parts[part_of(command)].append(pss_bytes(pid))
    rows = [
        Figure(what=f"PSS: {part} ({len(sizes)} process{'es' if len(sizes) > 1 else ''})", ours=f"{sum(sizes) / MIB:.0f} MiB")
        for part, sizes in sorted(parts.items())
    ]
    total = sum(map(sum, parts.values()))
    return [
        *rows,
        Figure(what=f"PSS: all, {preload} preloaded", ours=f"{total / MIB:.0f} MiB", must="< 1 GB", holds=total < 1_000_000_000),
    ]


def processor(box: Box) -> list[Figure]:
    """Return the share of a core that each part used over a while of rest."""
    pids = box.processes()
    controller = next(pid for pid, text in pids.items() if "tmax.controller" in text)
    before = {pid: cpu_s(pid) for pid in pids}
    threading.Event().wait(IDLE_S)
    used = {pid: cpu_s(pid) - before[pid] for pid in pids}
    share = 100 * used[controller] / IDLE_S
    rest = 100 * sum(seconds for pid, seconds in used.items() if pid != controller) / IDLE_S
    return [
        Figure(what=f"controller, idle for {IDLE_S:.0f} s", ours=f"{share:.2f} % of a core", must="< 1 %", holds=share < 1),
        Figure(what="everything else, idle", ours=f"{rest:.2f} % of a core"),
    ]
