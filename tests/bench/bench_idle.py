"""What does a swarm cost that does nothing: memory by process, and the CPU of controller and workers?"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import defaultdict

from tests.bench.figures import Figure, Must, Row
from tests.bench.machine import cpu_s, pss_bytes, uss_bytes
from tests.bench.peers import missing, skipped
from tests.bench.rounds import Sizes
from tests.box import Box
from tests.wait import wait_until

TITLE = "idle swarm"


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


def run(sizes: Sizes) -> list[Row]:
    """Measure memory on 8 workers, CPU on 32."""
    preload = "numpy" if missing("torch") or sizes.small else "numpy,torch"
    rows: list[Row] = [skipped("memory, torch preloaded", "torch")] if missing("torch") else []
    return [*rows, *memory(sizes.size("workers", 8, 1), preload), *processor(sizes)]


def started(workers: int, preload: str) -> Box:
    """Return a box with an idle swarm, pool and dashboard."""
    box = Box({"TMAX_SWARM__PRELOAD": preload, "TMAX_SWARM__POOL": "1", "TMAX_DASHBOARD__ENABLED": "true"})
    box.init(workers)
    wait_until(lambda: any("tmax_dashboard" in text for text in box.processes().values()), timeout_s=20)
    wait_until(lambda: sum(worker["state"] == "idle" for worker in box.status()["workers"]) == workers + 1, timeout_s=120)
    threading.Event().wait(5.0)  # the dashboard's first picture, the pool's last import
    return box


def memory(workers: int, preload: str) -> list[Row]:
    """Return PSS by part and in all, and the private memory of a worker beside a process that imports for itself."""
    box = started(workers, preload)
    try:
        parts: dict[str, list[int]] = defaultdict(list)
        private: dict[str, list[int]] = defaultdict(list)
        for pid, command in box.processes().items():
            parts[part_of(command)].append(pss_bytes(pid))
            private[part_of(command)].append(uss_bytes(pid))
        plain = plain_worker_bytes(preload)
    finally:
        box.close()
    what = f"idle swarm of {workers}"
    rows: list[Row] = [
        Figure(what=f"PSS of {part}, {len(found)} processes, {what}", unit="B", samples=(sum(found),))
        for part, found in sorted(parts.items())
    ]
    total = Figure(
        what=f"PSS of all, {preload} preloaded, {what}",
        unit="B",
        samples=(sum(map(sum, parts.values())),),
        target="P8",
        must=Must(comparison="<=", bound=400e6, of="value") if workers == 8 else None,
    )
    each = (sum(private["worker"]) + sum(private["pane stub"])) / max(1, len(private["worker"]))
    worker = Figure(
        what=f"private memory of an idle worker with its pane, {preload} preloaded",
        unit="B",
        samples=(each,),
        peer=f"python that has imported {preload}",
        peer_samples=(plain,),
        target="P8",
        must=Must(comparison="<=", bound=0.1) if "torch" in preload else None,
    )
    return [*rows, total, worker]


def plain_worker_bytes(preload: str) -> int:
    """Return the private memory of a bare interpreter that has imported the modules."""
    code = f"import sys, {preload}; print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return uss_bytes(process.pid)


def processor(sizes: Sizes) -> list[Row]:
    """Return the share of a core that controller, workers and all else use over a while of rest."""
    workers, rest_s = sizes.size("idle-workers", 32, 2), sizes.size("rest-seconds", 20, 1)
    box = started(workers, "numpy")
    try:
        pids = box.processes()
        before = {pid: cpu_s(pid) for pid in pids}
        threading.Event().wait(rest_s)
        percent: dict[str, list[float]] = defaultdict(list)
        for pid, command in pids.items():
            percent[part_of(command)].append(100 * max(0.0, cpu_s(pid) - before[pid]) / rest_s)
    finally:
        box.close()
    each_worker = sum(percent["worker"]) / max(1, len(percent["worker"]))
    others = sum(sum(found) for part, found in percent.items() if part not in {"controller", "worker"})
    what = f"{workers} idle workers, {rest_s} s"
    unit = "% of a core"
    return [
        Figure(
            what=f"CPU of the controller, {what}",
            unit=unit,
            samples=(sum(percent["controller"]),),
            target="P17",
            must=Must(comparison="<=", bound=1, of="value"),
        ),
        Figure(
            what=f"CPU of each worker, {what}",
            unit=unit,
            samples=(each_worker,),
            target="P17",
            must=Must(comparison="<=", bound=0.2, of="value"),
        ),
        Figure(what=f"CPU of all other processes, {what}", unit=unit, samples=(others,)),
    ]
