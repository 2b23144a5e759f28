"""Verbs about one worker: ``announce locate``, and the ``logs`` of a worker's pane."""

from __future__ import annotations

from tmax.control.server import Request
from tmax.controller import fields
from tmax.core.query import SwarmQuery, WorkerFacts
from tmax.engines.engine import Engine
from tmax.errors import NoTerminals, NotFound, UsageError
from tmax.layout import Layout

WORKERS_HINT = "tmax workers lists them"


def announce(request: Request, *, engine: Engine) -> None:
    """Pass on where a worker has its FIFOs.  No reply; the connection is closed when the process is not a worker of this swarm."""
    life, place = request.fields.get("life"), request.fields.get("place")
    if not isinstance(life, int) or not 0 < life <= fields.MAX_NUMBER or not isinstance(place, str):
        raise UsageError("announce needs life and place")
    if not engine.announced(life, place, request.client.pid):
        request.client.close()  # the worker then makes other FIFOs and announces those


def worker_logs(request: Request, name: str, *, query: SwarmQuery, engine: Engine) -> None:
    """Answer with the text of a worker's pane, or with the path of the file that its process prints to."""
    worker = query.worker_named(name)
    if worker is None:
        raise NotFound(f"no worker {name}", hint=WORKERS_HINT)
    task, file = worker.running or None, engine.output_file(worker.id)
    if engine.terminals is not None:
        engine.terminals.capture(worker.id, lambda text: request.answer(worker=name, text=text, task=task))
    elif file:
        request.answer(worker=name, file=file, task=task)
    else:
        raise NoTerminals


def locate(request: Request, *, query: SwarmQuery, engine: Engine, layout: Layout) -> None:
    """Answer with the tmux session and pane of the dashboard, of a worker, or of the worker that has a task."""
    terminals = engine.terminals
    if terminals is None:
        raise NoTerminals
    target = request.fields.get("target") or "dashboard"
    if target == "dashboard":
        request.answer(session="tmax", pane="", worker="", task=None, tmux=layout.tmux)
        return
    name = str(target)
    worker = _worker_of(name, query) if fields.is_number(name) else query.worker_named(name)
    session, pane = terminals.session_of(worker.id) if worker else ("", "")
    if worker is None or not session:
        raise NotFound(f"no worker {name}" if worker is None else f"{worker.name} has no session now", hint=WORKERS_HINT)
    request.answer(session=session, pane=pane, worker=worker.name, task=worker.running or None, tmux=layout.tmux)


def _worker_of(number: str, query: SwarmQuery) -> WorkerFacts | None:
    """Return the worker that has this task.  Raises NotFound with the reason when none has."""
    task = query.tasks.get(fields.task_number(number))
    if task is None or task.lease is None:
        why = "has ended, or there is none" if task is None else f"has not started ({query.why_waiting(task)})"
        raise NotFound(f"task {number} {why}: no worker to attach to", hint=f"tmax logs {number}")
    return query.worker(task.lease.life)
