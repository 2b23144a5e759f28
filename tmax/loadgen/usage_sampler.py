"""Samples of the controller's and the workers' use of CPU and memory, taken by a thread while a load runs."""

from __future__ import annotations

import os
import threading
import time

from tmax.api.swarm import Swarm
from tmax.errors import TmaxError
from tmax.loadgen.load_report import UsageSamples
from tmax_pipes.proc_stat import stat_fields

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class UsageSampler:
    """Samples every ``interval_s`` until ``stop``; ``samples`` may be read after that."""

    def __init__(self, swarm: Swarm, interval_s: float = 1.0) -> None:
        self.samples = UsageSamples()
        self._swarm = swarm
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tmax-usage", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take a last sample and end the thread."""
        self._stopped.set()
        self._thread.join()
        self._sample()

    def _run(self) -> None:
        while True:
            self._sample()
            if self._stopped.wait(self._interval_s):
                return

    def _sample(self) -> None:
        try:
            snapshot = self._swarm.status()
            fields = stat_fields(snapshot.controller_pid)
        except (TmaxError, OSError):
            return  # the controller is being replaced; the load itself reports what that means for its tasks
        cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
        self.samples.controller_cpu_s.append((time.monotonic(), cpu_s))
        self.samples.controller_rss_bytes.append(int(fields[21]) * _PAGE_BYTES)
        self.samples.workers = len(snapshot.workers)
        known = [worker.cpu_percent for worker in snapshot.workers if worker.cpu_percent is not None]
        if known:
            self.samples.workers_cpu_percent.append(sum(known))
        self.samples.workers_rss_bytes.append(sum(worker.rss_bytes or 0 for worker in snapshot.workers))
