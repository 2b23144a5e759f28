"""``down``: finish running tasks (``--now``: end them), end the workers, keep the queue.

Returns when the controller's process has ended: only then is its store closed and its lock free.
"""

from __future__ import annotations

import os
import select
from typing import Any

from tmax.cli import output
from tmax.cli.declaration import DRY_RUN, Option, Verb
from tmax.cli.reconnect import start_controller
from tmax.cli.request import ControllerEnded, request, request_stream
from tmax.errors import NoSwarm

_CLOSE_S = 30.0
"""Longest wait for the controller to close its store and to copy it."""


def down(common: output.Common, *, now: bool = False, dry_run: bool = False) -> int:
    """Take the swarm down and print how many tasks its queue keeps; a swarm that is down already is not an error.  Raises NoSwarm."""
    try:
        counts = _counts(common)
    except NoSwarm:
        if os.path.lexists(f"{common.layout.state}/down"):
            return _report_already_down(common)
        # The controller was killed: its workers still run, and only a controller can end them in order.
        start_controller(common.layout)
        counts = _counts(common)
    if dry_run:
        return _report_dry_run(common, counts, now=now)
    controller = _watch(counts["controller_pid"])
    queued = _stop(common, counts["queued"], now=now)
    if controller >= 0:
        select.select([controller], [], [], _CLOSE_S)
        os.close(controller)
    _report(common, queued)
    return 0


def _watch(pid: int) -> int:
    """Return a pidfd, readable when this process has ended; -1 when it has ended already."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return -1


def _stop(common: output.Common, queued: int, *, now: bool) -> int:
    """Request the shutdown and report its progress; return how many tasks the queue keeps."""
    try:
        for line in request_stream(common.layout, "down", now=now):
            if line.get("phase"):
                _report_progress(common, line, now=now)
            else:
                queued = int(line.get("queued", 0))
    except ControllerEnded:
        if not os.path.lexists(f"{common.layout.state}/down"):
            raise
    return queued


def _counts(common: output.Common) -> dict[str, Any]:
    snapshot = request(common.layout, "status")["snapshot"]
    tasks = snapshot["tasks"]
    return {
        "controller_pid": snapshot["controller_pid"],
        "workers": len(snapshot["workers"]),
        "running": tasks.get("running", 0) + tasks.get("sent", 0),
        "queued": tasks.get("ready", 0) + tasks.get("waiting", 0),
    }


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _report_already_down(common: output.Common) -> int:
    if common.json:
        output.write_json({"schema_version": output.SCHEMA_VERSION, "down": True, "was_running": False})
    elif not common.quiet:
        output.write(f"swarm {common.layout.swarm} is already down\n")
    return 0


def _report_dry_run(common: output.Common, counts: dict[str, Any], *, now: bool) -> int:
    if common.json:
        output.write_json(
            {"schema_version": output.SCHEMA_VERSION, "dry_run": True, **{key: counts[key] for key in ("workers", "running", "queued")}}
        )
    else:
        fate = "ended" if now else "finished"
        workers, running = _counted(counts["workers"], "worker"), _counted(counts["running"], "running task")
        output.write(f"would end {workers}; {running} would be {fate}, {_counted(counts['queued'], 'queued task')} kept\n")
    return 0


def _report_progress(common: output.Common, line: dict[str, Any], *, now: bool) -> None:
    if common.json or common.quiet:
        return
    running = line.get("running")
    if line["phase"] == "stopping" and running:
        how = "ending" if now else "waiting for"
        hint = "" if now else f" (tmax down{common.flag} --now ends {'it' if running == 1 else 'them'})"
        output.write_message(f"{how} {_counted(running, 'running task')}{hint}")
    elif line["phase"] != "stopping":
        output.write_message(str(line["phase"]))


def _report(common: output.Common, queued: int) -> None:
    if common.json:
        output.write_json({"schema_version": output.SCHEMA_VERSION, "down": True, "was_running": True, "queued": queued})
    elif not common.quiet:
        kept = (
            f"; {_counted(queued, 'task')} kept in the queue; tmax init{common.flag} resumes {'it' if queued == 1 else 'them'}"
            if queued
            else ""
        )
        output.write(f"swarm {common.layout.swarm} is down{kept}\n")


VERB = Verb(
    "down",
    down,
    options=(Option("now", "--now", help="End running tasks instead of waiting until they have finished."), DRY_RUN),
    help="""Take the swarm down and keep its queue.

    Running tasks are finished first; with --now they are ended.  The next tmax init resumes the queue.""",
    examples=(
        ("tmax down", "finish running tasks, keep the queue"),
        ("tmax down --now", "end running tasks"),
        ("tmax down --dry-run", "show how many workers and tasks it concerns"),
    ),
)
