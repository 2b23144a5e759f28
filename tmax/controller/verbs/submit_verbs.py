"""Submitting: the verb ``submit``, and its bulk form for the Python API."""

from __future__ import annotations

from tmax.control.protocol import BulkAccepted, BulkRefused, BulkSubmit
from tmax.control.server import ClientConnection, Request
from tmax.controller.admission import Admission
from tmax.controller.intake import new_task, new_task_of_bulk
from tmax.controller.verbs.watch_verbs import Watching
from tmax.controller.watchers import Watchers
from tmax.core.query import SwarmQuery
from tmax.core.settings import TaskSettings
from tmax.errors import TmaxError, UsageError

MAX_REQUEST_ID = 200
"""Characters of a request id."""


def submit(request: Request, *, admission: Admission, defaults: TaskSettings) -> None:
    """Accept a list of tasks; answer with their numbers after the commit."""
    described = request.fields.get("tasks")
    if not isinstance(described, list) or not described:
        raise UsageError("submit needs a list of tasks")
    request_id = request.fields.get("request_id") or ""
    if not isinstance(request_id, str) or len(request_id) > MAX_REQUEST_ID:
        raise UsageError(f"request_id must be text of at most {MAX_REQUEST_ID} characters")
    tasks = [
        new_task(one, defaults, f"{request_id}:{index}" if request_id and index else request_id) for index, one in enumerate(described)
    ]
    admission.check_open(tasks)
    admission.accept_once(tasks, lambda ids: request.answer(ids=list(ids)), request.fail)


def bulk_submit(
    client: ClientConnection,
    message: BulkSubmit,
    *,
    admission: Admission,
    query: SwarmQuery,
    watchers: Watchers,
    watching: Watching,
    defaults: TaskSettings,
) -> None:
    """Accept the tasks of one bulk frame, and watch them."""
    seqs = tuple(task.seq for task in message.tasks)

    def refused(error: TmaxError) -> None:
        client.send_bulk([BulkRefused(seqs=seqs, code=error.code, message=error.message, hint=error.hint)])

    def accepted(ids: tuple[int, ...]) -> None:
        client.send_bulk([BulkAccepted(pairs=tuple(zip(seqs, ids, strict=True)))])
        watching.watch(client, ids)
        if query.is_held:
            watchers.notify_of_hold(client)

    try:
        tasks = [new_task_of_bulk(message.client, task, defaults) for task in message.tasks]
        admission.check_open(tasks)
    except TmaxError as error:
        refused(error)
        return
    if message.again:
        admission.accept_once(tasks, accepted, refused)
    else:
        admission.accept(tasks, accepted)
