"""``down``: running tasks are finished (``--now``: ended), workers end, the queue stays.

Returns when the controller's process has ended: only then is its store closed and whole, and its lock free.
"""

from __future__ import annotations

import os
import select
from typing import Any

from tmax.cli import output
from tmax.cli.ask import Lost, ask, stream
from tmax.cli.reconnect import revive
from tmax.errors import NoSwarm

_CLOSE_S = 30.0
"""For the controller to close its store and make its copy of it."""


def down(common: output.Common, *, now: bool = False, dry_run: bool = False) -> int:
    """Take the swarm down and say how many tasks its queue keeps.  A swarm that is down already is no error."""
    try:
        counts = _counts(common)
    except NoSwarm:
        if os.path.lexists(f"{common.layout.state}/down"):
            return _already(common)
        # Its controller was killed: the workers live on, and only a controller ends them in order.
        revive(common)
        counts = _counts(common)
    if dry_run:
        return _dry(common, counts, now=now)
    controller = _watch(counts["controller_pid"])
    queued = _stop(common, counts["queued"], now=now)
    if controller >= 0:
        select.select([controller], [], [], _CLOSE_S)
        os.close(controller)
    _report(common, queued)
    return 0


def _watch(pid: int) -> int:
    """Return a descriptor that becomes readable when this process has ended; -1 when it has."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return -1


def _stop(common: output.Common, queued: int, *, now: bool) -> int:
    """Ask for the end and tell how it goes; return how many tasks are kept."""
    try:
        for line in stream(common.layout, "down", now=now):
            if line.get("phase"):
                _tell(common, line, now=now)
            else:
                queued = int(line.get("queued", 0))
    except Lost:
        if not os.path.lexists(f"{common.layout.state}/down"):
            raise
    return queued


def _counts(common: output.Common) -> dict[str, Any]:
    snapshot = ask(common.layout, "status")["snapshot"]
    tasks = snapshot["tasks"]
    return {
        "controller_pid": snapshot["controller_pid"],
        "pid": snapshot["controller_pid"],
        "workers": len(snapshot["workers"]),
        "running": tasks.get("running", 0) + tasks.get("sent", 0),
        "queued": tasks.get("ready", 0) + tasks.get("waiting", 0),
    }


def _tasks(count: int) -> str:
    return f"{count} task" if count == 1 else f"{count} tasks"


def _already(common: output.Common) -> int:
    if common.json:
        output.value({"schema_version": output.SCHEMA_VERSION, "down": True, "was_running": False})
    elif not common.quiet:
        output.out(f"swarm {common.layout.swarm} is down already\n")
    return 0


def _dry(common: output.Common, counts: dict[str, Any], *, now: bool) -> int:
    if common.json:
        output.value(
            {"schema_version": output.SCHEMA_VERSION, "dry_run": True, **{key: counts[key] for key in ("workers", "running", "queued")}}
        )
    else:
        fate = "ended" if now else "finished"
        output.out(
            f"would stop {counts['workers']} workers; {_tasks(counts['running'])} running would be {fate}, {_tasks(counts['queued'])} kept\n"
        )
    return 0


def _tell(common: output.Common, line: dict[str, Any], *, now: bool) -> None:
    if common.json or common.quiet:
        return
    running = line.get("running")
    if line["phase"] == "stopping" and running:
        how = "ending" if now else "finishing"
        hint = "" if now else f" (tmax down{common.flag} --now ends them)"
        output.warn(f"{how} {_tasks(running)} running{hint}")
    elif line["phase"] != "stopping":
        output.warn(str(line["phase"]))


def _report(common: output.Common, queued: int) -> None:
    if common.json:
        output.value({"schema_version": output.SCHEMA_VERSION, "down": True, "was_running": True, "queued": queued})
    elif not common.quiet:
        kept = (
            f"; {_tasks(queued)} kept in the queue, the next tmax init{common.flag} goes on with {'it' if queued == 1 else 'them'}"
            if queued
            else ""
        )
        output.out(f"swarm {common.layout.swarm} is down{kept}\n")
