"""``init``: start a swarm, and report each phase with its duration.

controller replies? --yes--> wait until the workers are ready, report that it was running
      no --> check settings --> check tmux --> launch (one of several at once starts it) --> phases ... ready
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from tmax.cli import output
from tmax.cli.declaration import Option, Verb
from tmax.cli.request import request, request_stream
from tmax.cli.task_request import working_folder
from tmax.cli.verbs.attach import attach as attach_terminal
from tmax.core.option_values import one_of, whole
from tmax.core.settings import MAX_WORKERS, Settings
from tmax.errors import ConfigError, NoSwarm, TmaxError, UsageError, WorkerLost
from tmax.launch import down_mark, ensure_controller
from tmax.layout import private_folder

_WORKERS_READY = "workers ready"
"""The last phase that the controller reports; the others are parts of its own start."""
_TEMPORARY_PREFIX = "tmp-"
"""Names of temporary swarms, which end with the program that made them, begin so."""


class _Phases:
    """Reports each phase as it ends, and keeps all for ``--json``."""

    def __init__(self, common: output.Common) -> None:
        self._common = common
        self._start_s = self._last_s = time.monotonic()
        self.reported: list[dict[str, Any]] = []

    def done(self, name: str) -> None:
        """Report a phase of this command, timed since the one before."""
        now_s = time.monotonic()
        self._report(name, 1000 * (now_s - self._last_s))
        self._last_s = now_s

    def part(self, name: str, ms: float) -> None:
        """Report a part of the phase before, as the controller has timed it."""
        self._report(f"  {name}", ms)

    @property
    def total_ms(self) -> float:
        """Milliseconds since the command began."""
        return 1000 * (time.monotonic() - self._start_s)

    def _report(self, name: str, ms: float) -> None:
        self.reported.append({"phase": name.strip(), "ms": round(ms, 1)})
        if not self._common.json and not self._common.quiet:
            output.write(f"{name:<16}{ms:8.0f} ms\n")


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
    """Start the swarm if it does not run, and return when its workers are ready.

    Settings come from files, the environment and these flags.  Raises UsageError, ConfigError, TmuxError, WorkerLost, FolderError.
    """
    if common.layout.swarm.startswith(_TEMPORARY_PREFIX):
        raise UsageError(
            f"swarm name {common.layout.swarm!r} is reserved: names that begin with {_TEMPORARY_PREFIX!r} belong to temporary swarms, which end with their program",
            hint="choose another name",
        )
    phases = _Phases(common)
    started = not _is_running(common)
    if started:
        flags = {"swarm.workers": workers, "swarm.pool": pool, "swarm.preload": preload, "swarm.python": _interpreter(python)}
        flags["swarm.engine"] = engine
        started = _start(common, flags, phases)
    try:
        _wait_until_ready(common, phases, report=started)
    except WorkerLost:
        if started:
            _take_down(common)
        raise
    hello = request(common.layout, "hello")
    _report(common, hello, phases, started=started, wanted=workers, engine=engine)
    if attach:
        return attach_terminal(common, [])
    return 0


def _is_running(common: output.Common) -> bool:
    try:
        request(common.layout, "hello")
    except NoSwarm:
        return False
    return True


def _interpreter(python: str | None) -> str | None:
    """Return the interpreter's absolute path: the controller has another working directory.  Raises UsageError when there is none."""
    if python is None:
        return None
    found = shutil.which(os.path.expanduser(python))
    if found is None:
        raise UsageError(f"--python: no program {python!r} found", hint="give the path or the name of a Python interpreter")
    return found if os.path.isabs(found) else os.path.normpath(os.path.join(working_folder(), found))


def _start(common: output.Common, flags: Mapping[str, object], phases: _Phases) -> bool:
    """Check settings, and tmux where the engine needs it, then start the swarm; return False when another ``init`` has started it."""
    settings = _checked({**flags, "swarm.engine": _engine_of_live_workers(common) or flags["swarm.engine"]})
    private_folder(common.layout.state)
    phases.done("settings")
    from tmax.config import dump

    with tempfile.TemporaryDirectory(prefix=".init-", dir=common.layout.state) as folder:
        path = f"{folder}/settings.json"
        dump(settings, path)
        started = ensure_controller(common.layout, settings_path=path, forced=True)
    phases.done("controller")
    return started


def _engine_of_live_workers(common: output.Common) -> str | None:
    """Return the engine of workers that outlived their controller: only the same engine can adopt them.  None: there are none."""
    from tmax.config import read
    from tmax.engines.life_mark import mark_prefix
    from tmax.engines.process_table import scan

    if not os.path.exists(common.layout.settings) or os.path.lexists(down_mark(common.layout)):
        return None
    prefix = mark_prefix(common.layout)
    if not any(one.mark.startswith(prefix) for one in scan()):
        return None
    try:
        return read(common.layout.settings).swarm.engine
    except ConfigError:
        return None  # a file that cannot be read is written anew


def _checked(flags: Mapping[str, object]) -> Settings:
    from tmax.config import load

    settings = load(flags).settings
    if settings.swarm.engine == "tmux":
        from tmax.engines.tmux.libtmux_adapter import check

        check()
    return settings


def _wait_until_ready(common: output.Common, phases: _Phases, *, report: bool) -> None:
    """Return when all workers are ready, reporting the controller's phases meanwhile.  Raises WorkerLost."""
    last_ms = 0.0
    for line in request_stream(common.layout, "ready"):
        if not report or "phase" not in line:
            continue
        if line["phase"] == _WORKERS_READY:
            phases.done(_WORKERS_READY)
        else:
            phases.part(line["phase"], float(line["ms"]) - last_ms)
            last_ms = float(line["ms"])


def _take_down(common: output.Common) -> None:
    """Take down the swarm just started when it has no worker and no task: the next ``init`` would keep its settings."""
    try:
        snapshot = request(common.layout, "status")["snapshot"]
        if not any(snapshot["tasks"].get(state) for state in ("sent", "running")) and not any(
            worker["pid"] for worker in snapshot["workers"]
        ):
            for _ in request_stream(common.layout, "down", now=True):
                pass
    except TmaxError:
        pass  # it has ended, or hangs: the error that made the start fail is the one to report


def _report(
    common: output.Common, hello: dict[str, Any], phases: _Phases, *, started: bool, wanted: int | None, engine: str | None
) -> None:
    running, pid = hello["workers"], hello["pid"]
    if common.json:
        facts = {"swarm": hello["swarm"], "started": started, "controller_pid": pid, "workers": running}
        output.write_json({"schema_version": output.SCHEMA_VERSION, **facts, "phases": phases.reported, "ms": round(phases.total_ms, 1)})
        return
    if common.quiet:
        return
    if hello.get("notice"):
        output.write_message(f"note: {hello['notice']}")
    plural = "" if running == 1 else "s"
    if started:
        output.write(f"ready: {running} worker{plural} in {phases.total_ms:.0f} ms (swarm {hello['swarm']}, controller pid {pid})\n")
    else:
        output.write(f"already running: {running} worker{plural} (swarm {hello['swarm']}, controller pid {pid})\n")
        if wanted and wanted != running:
            output.write_message(
                f"hint: it keeps {running} worker{plural}; for {wanted}: tmax down{common.flag}, then tmax init{common.flag} -n {wanted}"
            )
    if engine and engine != hello.get("engine", engine):  # it was running, or its workers were
        output.write_message(
            f"hint: it keeps its engine {hello['engine']}; for {engine}: tmax down{common.flag}, then tmax init{common.flag} --engine {engine}"
        )
    if hello.get("engine") == "process":
        output.write(f"watch it: tmax status{common.flag}; tmax logs{common.flag} -f TASK follows a task\n")
        return
    output.write(f"watch it: tmax attach{common.flag} (dashboard) or tmax attach{common.flag} w1; C-b d detaches\n")


VERB = Verb(
    "init",
    init,
    options=(
        Option(
            "workers",
            "-n",
            "--workers",
            read=whole(0, MAX_WORKERS),
            metavar="N",
            help=f"Number of workers, 0 to {MAX_WORKERS}; 0: one for each core.",
            default="setting swarm.workers (0)",
        ),
        Option(
            "pool",
            "--pool",
            read=whole(0, MAX_WORKERS),
            metavar="K",
            help=f"Number of warm spare workers, 0 to {MAX_WORKERS}, that replace workers which end.",
            default="setting swarm.pool (1)",
        ),
        Option(
            "engine",
            "--engine",
            read=one_of("tmux", "process"),
            metavar="E",
            help="What the workers run in: tmux sessions (tmux), or plain processes without tmux (process).",
            default="setting swarm.engine (tmux)",
        ),
        Option(
            "preload",
            "--preload",
            read=str,
            metavar="M[,M]",
            help="Modules that workers import before their first task, for example numpy,torch.",
            default="setting swarm.preload (auto)",
        ),
        Option(
            "python", "--python", read=str, metavar="P", help="Python interpreter of the workers: a path or a name.", default="this one"
        ),
        Option("attach", "--attach", help="Attach to the dashboard when the workers are ready."),
    ),
    help="""Start a swarm and return when its workers are ready.

    A swarm that runs already keeps running with its settings.""",
    examples=(
        ("tmax init", "one worker for each core"),
        ("tmax init -n 8 --preload numpy,torch", "8 workers that import torch before their first task"),
        ("tmax init --swarm night -n 2", "a second swarm beside the first"),
    ),
)
