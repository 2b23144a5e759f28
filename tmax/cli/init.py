"""``init``: settings, tmux where it is needed, controller, workers ready; each phase with its milliseconds.

answers already? --yes--> wait until it is ready, say so
      no --> settings checked --> tmux checked (engine tmux) --> launch (one of several at once starts it) --> phases ... ready
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from tmax.cli import output
from tmax.cli.ask import ask, stream
from tmax.core.settings import Settings
from tmax.errors import NoSwarm, TmaxError, UsageError, WorkerLost
from tmax.launch import ensure_controller
from tmax.layout import private_folder

READY = "workers ready"
"""The one phase the controller reports that is not a part of its own start."""


TEMPORARY = "tmp-"


class _Phases:
    """Tells each phase as it ends, and keeps them for JSON."""

    def __init__(self, common: output.Common) -> None:
        self._common = common
        self._from_s = self._last_s = time.monotonic()
        self.list: list[dict[str, Any]] = []

    def done(self, name: str) -> None:
        """A phase of ours is over."""
        now_s = time.monotonic()
        self._tell(name, 1000 * (now_s - self._last_s))
        self._last_s = now_s

    def inside(self, name: str, ms: float) -> None:
        """A part of the phase before, by the controller's clock."""
        self._tell(f"  {name}", ms)

    @property
    def total_ms(self) -> float:
        """Since the command began."""
        return 1000 * (time.monotonic() - self._from_s)

    def _tell(self, name: str, ms: float) -> None:
        self.list.append({"phase": name.strip(), "ms": round(ms, 1)})
        if not self._common.json and not self._common.quiet:
            output.out(f"{name:<16}{ms:8.0f} ms\n")


def init(
    common: output.Common,
    *,
    workers: int | None = None,
    pool: int | None = None,
    preload: str | None = None,
    python: str | None = None,
    engine: str | None = None,
    attach: bool = False,
) -> int:
    """Start the swarm if it does not run, and return when it is ready.  Settings come from files, environment and these flags."""
    if common.layout.swarm.startswith(TEMPORARY):
        raise UsageError(
            f"swarm name {common.layout.swarm!r} is not allowed here: names with {TEMPORARY!r} are of temporary swarms, which end with their program",
            hint="choose another name",
        )
    phases = _Phases(common)
    started = not _answers(common)
    if started:
        flags = {"swarm.workers": workers, "swarm.pool": pool, "swarm.preload": preload, "swarm.python": _interpreter(python)}
        flags["swarm.engine"] = engine
        started = _start(common, flags, phases)
    try:
        _wait_ready(common, phases, tell=started)
    except WorkerLost:
        if started:
            _take_down(common)
        raise
    hello = ask(common.layout, "hello")
    _report(common, hello, phases, started=started, asked=workers, engine=engine)
    if attach:
        from tmax.cli.reach import attach as look

        return look(common, [])
    return 0


def _answers(common: output.Common) -> bool:
    try:
        ask(common.layout, "hello")
    except NoSwarm:
        return False
    return True


def _interpreter(python: str | None) -> str | None:
    """Return the interpreter's full path, for a controller that works elsewhere.  Raises UsageError when there is none."""
    if python is None:
        return None
    found = shutil.which(os.path.expanduser(python))
    if found is None:
        raise UsageError(f"there is no program {python!r}", hint="--python takes the path or the name of a Python interpreter")
    from tmax.cli.submit import working_folder

    return found if os.path.isabs(found) else os.path.normpath(os.path.join(working_folder(), found))


def _start(common: output.Common, flags: Mapping[str, object], phases: _Phases) -> bool:
    """Check everything that can be checked before anything is started; then start.  False: another ``init`` was quicker."""
    settings = _checked(flags)
    private_folder(common.layout.state)
    phases.done("settings")
    from tmax.config import dump

    with tempfile.TemporaryDirectory(prefix=".init-", dir=common.layout.state) as folder:
        path = f"{folder}/settings.json"
        dump(settings, path)
        started = ensure_controller(common.layout, settings_path=path, forced=True)
    phases.done("controller")
    return started


def _checked(flags: Mapping[str, object]) -> Settings:
    from tmax.config import load

    settings = load(flags).settings
    if settings.swarm.engine == "tmux":
        from tmax.engines.tmux.libtmux_adapter import check

        check()
    return settings


def _wait_ready(common: output.Common, phases: _Phases, *, tell: bool) -> None:
    """Return when all workers are ready, telling what the controller reports meanwhile."""
    last_ms = 0.0
    for line in stream(common.layout, "ready"):
        if not tell or "phase" not in line:
            continue
        if line["phase"] == READY:
            phases.done(READY)
        else:
            phases.inside(line["phase"], float(line["ms"]) - last_ms)
            last_ms = float(line["ms"])


def _take_down(common: output.Common) -> None:
    """Leave nothing of a swarm that we have just started and that has no worker: the next ``init`` would meet its settings."""
    try:
        snapshot = ask(common.layout, "status")["snapshot"]
        if not any(snapshot["tasks"].get(state) for state in ("sent", "running")) and not any(
            worker["pid"] for worker in snapshot["workers"]
        ):
            for _ in stream(common.layout, "down", now=True):
                pass
    except TmaxError:
        pass  # it has ended by itself, or hangs: what made the start fail is the thing to tell


def _report(common: output.Common, hello: dict[str, Any], phases: _Phases, *, started: bool, asked: int | None, engine: str | None) -> None:
    count, pid = hello["workers"], hello["pid"]
    if common.json:
        told = {"swarm": hello["swarm"], "started": started, "controller_pid": pid, "workers": count}
        output.value({"schema_version": output.SCHEMA_VERSION, **told, "phases": phases.list, "ms": round(phases.total_ms, 1)})
        return
    if common.quiet:
        return
    if hello.get("notice"):
        output.warn(f"note: {hello['notice']}")
    plural = "" if count == 1 else "s"
    if started:
        output.out(f"ready: {count} worker{plural} in {phases.total_ms:.0f} ms (swarm {hello['swarm']}, controller pid {pid})\n")
    else:
        output.out(f"already running: {count} worker{plural} (swarm {hello['swarm']}, controller pid {pid})\n")
        if asked and asked != count:
            output.warn(
                f"hint: it keeps its {count} worker{plural}; for {asked}: tmax down{common.flag}, then tmax init{common.flag} -n {asked}"
            )
        if engine and engine != hello.get("engine", engine):
            output.warn(
                f"hint: it keeps its engine {hello['engine']}; tmax down{common.flag}, then tmax init{common.flag} --engine {engine}"
            )
    if hello.get("engine") == "process":
        output.out(f"look at it with: tmax status{common.flag}; tmax logs{common.flag} TASK -f follows a task\n")
        return
    output.out(f"look at it with: tmax attach{common.flag} (dashboard), or tmax attach{common.flag} w1; tmux keys: C-b d leaves\n")
