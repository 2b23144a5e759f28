"""Cancelling in batches, each in a turn of its own: the verb ``cancel``, and its bulk form for the Python API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from tmax.control.protocol import BulkCancel
from tmax.control.server import ClientConnection, Request
from tmax.controller.chunked_reply import ChunkedReply
from tmax.controller.listing import PAGE_ROWS
from tmax.controller.pending_answers import PendingAnswers
from tmax.controller.slices import Slicer, Steps
from tmax.controller.store_queries import StoreQueries
from tmax.controller.verbs.task_numbers import no_task, parts, wanted_ids
from tmax.core.events import CancelRequested, Event
from tmax.core.query import SwarmQuery
from tmax.storage.task_store import Reader

CANCEL_BATCH = 250
"""Tasks that are cancelled in one turn."""


class Cancelling:
    """Cancellations of very many tasks, as steps."""

    def __init__(
        self,
        query: SwarmQuery,
        *,
        queries: StoreQueries,
        answers: PendingAnswers,
        emit: Callable[[Event], None],
        when_committed: Callable[[Callable[[], None]], None],
    ) -> None:
        self._query = query
        self._queries = queries
        self._answers = answers
        self._emit = emit
        self._when_committed = when_committed

    def steps(self, request: Request, ids: Sequence[int]) -> Steps[None]:
        """Cancel these tasks, or with ``dry_run`` report what would happen; cancel none when one of them does not exist.

        With ``begun`` false, tasks that have begun keep running.
        """
        begun = request.fields.get("begun") is not False
        tasks = self._query.tasks
        ended = yield from self._ended_states([number for number in ids if number not in tasks])
        reply = ChunkedReply(request, "results")
        for part in parts(ids, CANCEL_BATCH):
            before = {number: tasks[number].state.value for number in part if number in tasks}
            if request.fields.get("dry_run"):
                results = {number: f"would be cancelled ({state})" for number, state in before.items()}
            else:
                results = yield from self._cancelled(tuple(before), begun=begun)
            for number in part:
                was = before.get(number) or ended.get(number) or "live"
                now = results.get(number) or ended.get(number) or "ended meanwhile"
                reply.value(msgspec.json.encode({"id": number, "was": was, "now": now}))
            yield from reply.flow()
        reply.end()

    def bulk_steps(self, ids: Sequence[int], *, begun: bool) -> Steps[None]:
        """Cancel these tasks (``begun`` false: only those that have not begun).  No reply: their ends go to the clients that watch them."""
        for part in parts(ids, CANCEL_BATCH):
            yield from self._cancelled(tuple(part), begun=begun)

    def _ended_states(self, gone: Sequence[int]) -> Steps[dict[int, str]]:
        if gone:
            yield self._when_committed
        states: dict[int, str] = {}
        for part in parts(gone, PAGE_ROWS):
            states |= yield from self._queries.steps(partial(_states_of, part))
        unknown = [number for number in gone if number not in states]
        if unknown:
            raise no_task(unknown)
        return states

    def _cancelled(self, ids: tuple[int, ...], *, begun: bool) -> Steps[dict[int, str]]:
        if not ids:
            return {}
        results: dict[int, str] = {}

        def wait(resume: Callable[[], None]) -> None:
            def answered(answer: tuple[tuple[int, str], ...]) -> None:
                results.update(answer)
                resume()

            self._emit(CancelRequested(token=self._answers.expect_cancelled(answered), tasks=ids, begun=begun))

        yield wait
        return results


def cancel(request: Request, *, cancelling: Cancelling, slicer: Slicer) -> None:
    """Cancel tasks: all of them, also when the client disconnects meanwhile."""
    slicer.run(cancelling.steps(request, wanted_ids(request)), request.fail_if_open)


def bulk_cancel(_: ClientConnection, message: BulkCancel, *, cancelling: Cancelling, slicer: Slicer) -> None:
    """Cancel the tasks of one bulk frame."""
    slicer.run(cancelling.bulk_steps(message.ids, begun=message.begun), lambda _: None)


def _states_of(ids: Sequence[int], reader: Reader) -> dict[int, str]:
    """Runs on the store's thread."""
    return {number: task.state.value for number, task in reader.tasks(ids).items()}
