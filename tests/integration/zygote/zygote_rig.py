"""A local engine whose workers are forked from a zygote; what a test wants to know of both, asked of the kernel."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.engine_rig import Rig, python_run
from tmax.core.settings import Settings, SwarmSettings, WorkerSettings
from tmax.engines.factory import spawner_for
from tmax.engines.fifo_engine import FifoEngine
from tmax.engines.process_table import open_pidfd
from tmax.engines.zygote.zygote_spawner import ZygoteSpawner
from tmax_pipes.messages import Done
from tmax_pipes.proc_stat import start_ticks


def settings_for(spawner: str = "zygote", preload: Iterable[str] = (), **worker: Any) -> Settings:
    """Settings of a small swarm."""
    return Settings(
        swarm=SwarmSettings(spawner=spawner, preload=tuple(preload)),  # type: ignore[arg-type]  # one of three words
        worker=WorkerSettings(**{"threads": 1, "beat_s": 0.2, **worker}),
    )


class ZygoteRig(Rig):
    """``settings.swarm.spawner`` says which spawner."""

    def __init__(self, settings: Settings, extra_env: dict[str, str] | None = None) -> None:
        self._extra_env = extra_env or {}
        self._zygotes: list[int] = []
        self._task = 1000
        super().__init__(settings, "zyg")

    def env(self) -> dict[str, str]:
        env = super().env()
        path = os.pathsep.join(filter(None, (self._extra_env.get("PYTHONPATH"), env["PYTHONPATH"])))
        return {**env, **self._extra_env, "PYTHONPATH": path}

    def new_engine(self, spawner: Any = None) -> FifoEngine:
        return super().new_engine(spawner or ZygoteRig._spawner)

    def _spawner(self) -> Any:
        return spawner_for(
            self.layout,
            self.settings,
            self.reactor,
            threads=self.settings.worker.threads,
            env=self.env(),
            host_end_of=self.host.end_of,
        )

    @property
    def spawner(self) -> ZygoteSpawner:
        made = self.engine._spawner
        assert isinstance(made, ZygoteSpawner)
        return made

    def zygote(self, other_than: int = 0) -> int:
        """Return the pid of the zygote that forks now, once it is ready."""

        def ready() -> int:
            link = self.spawner._link
            return link.pid if link is not None and link.ready is not None and link.pid != other_than else 0

        pid = int(self.until(ready))
        self._zygotes.append(pid)
        return pid

    def value(self, life: int, code: str, timeout_s: float = 15.0) -> Any:
        """Return the value of an expression, computed as a task in this worker.  It must be one that JSON knows."""
        self._task += 1
        task = self._task
        self.engine.send(life, [python_run(task, function="builtins:eval", args=[code])])
        done = self.until(lambda: [one for one in self.said(life, Done) if one.task == task], timeout_s)[0]
        return json.loads(done.result)

    def pane(self, what: str, target: str) -> str:
        """Return a tmux format of one pane."""
        return self.tmux("display-message", "-p", "-t", f"={target}:", what)

    def screen(self, target: str) -> str:
        return self.tmux("capture-pane", "-p", "-S", "-200", "-t", f"={target}:")

    def close(self) -> None:
        super().close()
        for pid in self._zygotes:
            try:
                os.waitpid(pid, os.WNOHANG)  # an earlier engine of this very process was its parent
            except ChildProcessError:
                pass
        assert [pid for pid in self._zygotes if alive(pid)] == []


def alive(pid: int) -> bool:
    """Whether a process runs; one that is only waited for does not."""
    return state_of(pid) not in ("", "Z", "X")


def state_of(pid: int) -> str:
    """Return the letter of a process's state; empty when there is no process."""
    try:
        return stat_fields(pid)[0]
    except OSError:
        return ""


def stat_fields(pid: int) -> list[str]:
    """Return /proc/PID/stat from the state on: state, parent, group, session, terminal, foreground group..."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def files_of(pid: int) -> set[str]:
    """Return what the descriptors of a process point to."""
    found = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            pass  # closed while we looked
    return found


def cpu_ticks(pid: int) -> int:
    """Return the processor time a process has used, in clock ticks."""
    fields = stat_fields(pid)
    return int(fields[11]) + int(fields[12])


def uss_bytes(pid: int) -> int:
    """Return the memory that only this process has."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:")))


def is_same(pid: int, ticks: int) -> bool:
    """Whether exactly this process is still there."""
    fd = open_pidfd(pid, ticks)
    if fd >= 0:
        os.close(fd)
    return fd >= 0 and start_ticks(pid) == ticks and alive(pid)
