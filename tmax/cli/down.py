"""``down``: running tasks are finished (``--now``: ended), workers end, the queue stays."""

from __future__ import annotations

import os
from typing import Any

from tmax.cli import say
from tmax.cli.ask import Lost, ask, stream
from tmax.cli.submit import revive
from tmax.errors import NoSwarm


def down(common: say.Common, *, now: bool, dry_run: bool) -> int:
    """Take the swarm down and say how many tasks its queue keeps.  A swarm that is down already is no error."""
    layout = common.layout
    mark = f"{layout.state}/down"
    try:
        counts = _counts(common)
    except NoSwarm:
        if os.path.lexists(mark):
            return _already(common)
        # Its controller was killed: the workers live on, and only a controller ends them in order.
        revive(common)
        counts = _counts(common)
    if dry_run:
        return _dry(common, counts, now=now)
    answer: dict[str, Any] = {"queued": counts["queued"], "running": 0}
    try:
        for line in stream(layout, "down", now=now):
            if line.get("phase"):
                _tell(common, line, now=now)
            else:
                answer = line
    except Lost:
        if not os.path.lexists(mark):
            raise
    _report(common, answer)
    return 0


def _counts(common: say.Common) -> dict[str, Any]:
    snapshot = ask(common.layout, "status")["snapshot"]
    tasks = snapshot["tasks"]
    return {
        "workers": len(snapshot["workers"]),
        "running": tasks.get("running", 0) + tasks.get("sent", 0),
        "queued": tasks.get("ready", 0) + tasks.get("waiting", 0),
    }


def _tasks(count: int) -> str:
    return f"{count} task" if count == 1 else f"{count} tasks"


def _already(common: say.Common) -> int:
    if common.json:
        say.value({"schema_version": say.SCHEMA_VERSION, "down": True, "was_running": False})
    elif not common.quiet:
        say.out(f"swarm {common.layout.swarm} is down already\n")
    return 0


def _dry(common: say.Common, counts: dict[str, Any], *, now: bool) -> int:
    if common.json:
        say.value({"schema_version": say.SCHEMA_VERSION, "dry_run": True, **counts})
    else:
        fate = "ended" if now else "finished"
        say.out(
            f"would stop {counts['workers']} workers; {_tasks(counts['running'])} running would be {fate}, {_tasks(counts['queued'])} kept\n"
        )
    return 0


def _tell(common: say.Common, line: dict[str, Any], *, now: bool) -> None:
    if common.json or common.quiet:
        return
    running = line.get("running")
    if line["phase"] == "stopping" and running:
        how = "ending" if now else "finishing"
        hint = "" if now else f" (tmax down{common.flag} --now ends them)"
        say.warn(f"{how} {_tasks(running)} running{hint}")
    elif line["phase"] != "stopping":
        say.warn(str(line["phase"]))


def _report(common: say.Common, answer: dict[str, Any]) -> None:
    queued = answer.get("queued", 0)
    if common.json:
        say.value({"schema_version": say.SCHEMA_VERSION, "down": True, "was_running": True, "queued": queued})
    elif not common.quiet:
        kept = (
            f"; {_tasks(queued)} kept in the queue, the next tmax init{common.flag} goes on with {'it' if queued == 1 else 'them'}"
            if queued
            else ""
        )
        say.out(f"swarm {common.layout.swarm} is down{kept}\n")
