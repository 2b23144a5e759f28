"""Verbs that read tasks: ``ps show logs select``."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from tmax.control.server import Request
from tmax.controller import fields
from tmax.controller.listing import Listing
from tmax.controller.selectors import select as select_ids
from tmax.controller.slices import Slicer, Steps
from tmax.controller.store_queries import StoreQueries
from tmax.controller.verbs.worker_verbs import worker_logs
from tmax.controller.views import task_details
from tmax.core.model import Task
from tmax.core.query import SwarmQuery
from tmax.engines.engine import Engine
from tmax.errors import NotFound, TmaxError, UsageError
from tmax.layout import Layout
from tmax.storage.task_store import Reader
from tmax_pipes.messages import Report


def ps(request: Request, *, query: SwarmQuery, queries: StoreQueries, slicer: Slicer, wall_clock: Callable[[], float]) -> None:
    """List tasks."""
    listing = Listing(request, query, queries, now=wall_clock())
    slicer.run(listing.steps(), request.fail_if_open, lambda: request.client.alive)


def show(request: Request, *, query: SwarmQuery, queries: StoreQueries, layout: Layout) -> None:
    """Answer with everything about one task."""

    def answer(task: Task) -> None:
        request.answer(task=task_details(task, query.why_waiting(task)), blobs=layout.blobs)

    _find(request, request.fields.get("id"), answer, query=query, queries=queries)


def logs(request: Request, *, query: SwarmQuery, queries: StoreQueries, engine: Engine, layout: Layout) -> None:
    """Answer with the output files of a task, or with the text of a worker's pane."""
    target = request.fields.get("target")
    if isinstance(target, str) and not fields.is_number(target):
        worker_logs(request, target, query=query, engine=engine)
    else:
        _find(request, target, lambda task: _task_logs(request, task, layout), query=query, queries=queries)


def select(request: Request, *, query: SwarmQuery, queries: StoreQueries, slicer: Slicer) -> None:
    """Answer with the task numbers that selectors name."""
    slicer.run(_select_steps(request, query, queries), request.fail_if_open, lambda: request.client.alive)


def _select_steps(request: Request, query: SwarmQuery, queries: StoreQueries) -> Steps[None]:
    words = request.fields.get("selectors")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UsageError("selectors must be a list of words")
    found = yield from queries.steps(partial(_selected, words, query.last_task))
    if isinstance(found, TmaxError):
        raise found
    request.answer_line(found)


def _selected(words: Sequence[str], last: int, reader: Reader) -> bytes | TmaxError:
    """Runs on the store's thread."""
    ids = select_ids(words, last, reader)
    return ids if isinstance(ids, TmaxError) else msgspec.json.encode({"ok": True, "ids": ids})


def _find(request: Request, number: object, then: Callable[[Task], None], *, query: SwarmQuery, queries: StoreQueries) -> None:
    """Call ``then`` with the task of this number, ended or not; fail the request when there is none."""
    wanted = fields.task_number(number)
    live = query.tasks.get(wanted)
    if live is not None:
        then(live)
        return

    def found(task: Task | None) -> None:
        if task is None:
            request.fail(NotFound(f"no task {wanted}", hint=fields.TASKS_HINT))
        else:
            then(task)

    queries.read(lambda reader: reader.task(wanted), found, request.fail)


def _task_logs(request: Request, task: Task, layout: Layout) -> None:
    path = f"{layout.logs}/{task.id}.log"
    report = task.outcome.report if task.outcome else Report()
    request.answer(
        task=task.id,
        state=task.state.value,
        worker=task.lease.worker if task.lease else task.ran_on,
        file=path if os.path.exists(path) else None,
        wanted_file=path,
        tail=base64.b64encode(report.tail).decode(),
        stderr=report.stderr,
        lost_bytes=report.lost_bytes,
        live=not task.ended,
    )
