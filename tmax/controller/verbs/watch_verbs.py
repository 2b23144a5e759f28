"""Waiting for the ends of tasks: the verb ``wait``, and the bulk watch of the Python API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from tmax.control.protocol import BulkEnd, BulkEnded, BulkWatch
from tmax.control.server import ClientConnection, Request
from tmax.controller import fields
from tmax.controller.chunked_reply import BEHIND_BYTES
from tmax.controller.listing import PAGE_ROWS
from tmax.controller.slices import Slicer, Steps
from tmax.controller.store_queries import StoreQueries
from tmax.controller.verbs.task_numbers import LOOKUP_BATCH, no_task, parts, wanted_ids
from tmax.controller.views import task_view
from tmax.controller.waiters import Waiter, Waiters
from tmax.controller.watchers import Watchers, bulk_end
from tmax.core.model import Task
from tmax.core.query import SwarmQuery
from tmax.storage.task_store import Reader


class Watching:
    """Looks up which of the named tasks have ended, and how; reports the ends of the others as they happen."""

    def __init__(
        self,
        query: SwarmQuery,
        waiters: Waiters,
        watchers: Watchers,
        queries: StoreQueries,
        slicer: Slicer,
        *,
        when_committed: Callable[[Callable[[], None]], None],
        clock: Callable[[], float],
    ) -> None:
        self._query = query
        self._waiters = waiters
        self._watchers = watchers
        self._queries = queries
        self._slicer = slicer
        self._when_committed = when_committed
        self._clock = clock

    def wait(self, request: Request) -> None:
        """Answer when tasks have ended."""
        timeout_s = fields.seconds(request.fields.get("timeout_s"))
        end_s = None if timeout_s is None else self._clock() + timeout_s
        waiter = Waiter(request, wanted_ids(request), end_s, fail_fast=bool(request.fields.get("fail_fast")))
        self._waiters.add(waiter)
        self._slicer.run(self._look_up(waiter), lambda error: self._waiters.refuse(waiter, error), lambda: waiter.wanted)

    def _look_up(self, waiter: Waiter) -> Steps[None]:
        waiters, tasks = self._waiters, self._query.tasks
        gone: list[int] = []
        unknown: list[int] = []
        for part in parts(waiter.ids, LOOKUP_BATCH):
            waiters.expect(waiter, [number for number in part if number in tasks])
            gone += [number for number in part if number not in tasks]
            yield None
        if gone:
            yield self._when_committed
        for part in parts(gone, PAGE_ROWS):
            found = yield from self._queries.steps(partial(_ended_views, part))
            unknown += [number for number in part if number not in found]
            for number, (succeeded, view) in found.items():
                waiters.note_end(waiter, number, view, succeeded=succeeded)
            yield None
        if unknown:
            raise no_task(unknown)
        waiters.complete(waiter)

    def watch(self, client: ClientConnection, ids: Sequence[int]) -> None:
        """Report the ends of these tasks to a connection of the Python API; of those that have ended, now."""
        tasks = self._query.tasks
        if len(ids) <= LOOKUP_BATCH and all(number in tasks for number in ids):
            self._watchers.watch(client, ids)  # the usual case: tasks that were just accepted
        else:
            self._slicer.run(self._watch_steps(client, ids), lambda _: None, lambda: client.alive)

    def _watch_steps(self, client: ClientConnection, ids: Sequence[int]) -> Steps[None]:
        tasks = self._query.tasks
        gone: list[int] = []
        for part in parts(ids, LOOKUP_BATCH):
            self._watchers.watch(client, [number for number in part if number in tasks])
            gone += [number for number in part if number not in tasks]
            yield None
        if gone:
            yield self._when_committed
        for part in parts(gone, PAGE_ROWS):
            ended = yield from self._queries.steps(partial(_tasks, part))
            ends = [bulk_end(ended[number]) if number in ended else BulkEnd(id=number, state="unknown") for number in part]
            client.send_bulk([BulkEnded(ends=tuple(ends))])
            if client.unsent_bytes > BEHIND_BYTES:
                yield client.when_sent


def bulk_watch(
    client: ClientConnection, message: BulkWatch, *, watching: Watching, when_committed: Callable[[Callable[[], None]], None]
) -> None:
    """Watch the tasks of one bulk frame."""
    when_committed(lambda: watching.watch(client, message.ids))


# The functions below run on the store's thread.


def _ended_views(ids: Sequence[int], reader: Reader) -> dict[int, tuple[bool, bytes]]:
    """Return for each task whether it succeeded, and its row; not its result, which may be large."""
    return {number: (task.state == "done", msgspec.json.encode(task_view(task))) for number, task in reader.tasks(ids).items()}


def _tasks(ids: Sequence[int], reader: Reader) -> dict[int, Task]:
    return reader.tasks(ids)
