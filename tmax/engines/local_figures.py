"""What worker processes of this machine use of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tmax.engines.engine import WorkerFigures

if TYPE_CHECKING:
    import psutil


class LocalFigures:
    """Keeps one psutil object for each process: making it costs more than reading it."""

    def __init__(self) -> None:
        self._processes: dict[int, psutil.Process] = {}

    def of(self, pids: Mapping[int, int]) -> dict[int, WorkerFigures]:
        """Return the figures by life; ``pids``: life -> pid."""
        import psutil  # 40 ms: only a swarm that is looked at pays

        for gone in self._processes.keys() - pids.keys():
            del self._processes[gone]
        found = {}
        for life, pid in pids.items():
            if not pid:
                continue
            try:
                process = self._processes.get(life)
                if process is None:
                    process = self._processes[life] = psutil.Process(pid)
                with process.oneshot():
                    times = process.cpu_times()
                    used_s = times.user + times.system + times.children_user + times.children_system
                    found[life] = WorkerFigures(cpu_s=used_s, rss_bytes=process.memory_info().rss)
            except psutil.Error:
                continue  # it ended
        return found
