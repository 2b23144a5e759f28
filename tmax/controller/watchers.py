"""Connections of the Python API: which tasks each of them watches, and which notices it receives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from tmax.control.protocol import BulkEnd, BulkEnded, BulkNotice
from tmax.control.server import ClientConnection
from tmax.controller.slices import Slicer, Steps
from tmax.core.model import Task

STEP_ENTRIES = 100
"""Entries that are removed in one step."""


def bulk_end(task: Task) -> BulkEnd:
    """Return how a task ended, for the Python API."""
    outcome = task.outcome
    state = cast("Any", task.state.value)
    if outcome is None:
        return BulkEnd(id=task.id, state=state, crashes=task.crashes, worker=task.ran_on)
    return BulkEnd(
        id=task.id,
        state=state,
        result=outcome.result,
        form=outcome.form,
        failure=outcome.failure,
        report=outcome.report,
        crashes=task.crashes,
        worker=task.ran_on,
    )


class Watchers:
    """Reports the ends of tasks to the connections that watch them."""

    def __init__(self, slicer: Slicer) -> None:
        self._slicer = slicer
        self._by_task: dict[int, set[ClientConnection]] = {}
        self._watching: set[ClientConnection] = set()
        self._notified_of_hold: set[ClientConnection] = set()

    def watch(self, client: ClientConnection, numbers: Iterable[int]) -> None:
        """Report the ends of these tasks to this connection."""
        self._watching.add(client)
        for number in numbers:
            self._by_task.setdefault(number, set()).add(client)

    def on_ended(self, tasks: Sequence[Task]) -> None:
        """Report tasks that ended and are committed: one message for each connection that watches some of them."""
        ends: dict[ClientConnection, list[BulkEnd]] = {}
        for task in tasks:
            clients = self._by_task.pop(task.id, None)
            if clients:
                end = bulk_end(task)
                for client in clients:
                    ends.setdefault(client, []).append(end)
        for client, its_ends in ends.items():
            client.send_bulk([BulkEnded(ends=tuple(its_ends))])

    def notify_of_hold(self, client: ClientConnection) -> None:
        """Notify a connection, once, that its accepted tasks wait because the queue is held."""
        if client not in self._notified_of_hold:
            self._notified_of_hold.add(client)
            client.send_bulk([BulkNotice("the queue is held, tasks wait until it is resumed: tmax resume")])

    def on_held(self) -> None:
        """Notify clients that submit from now on: the queue is held, perhaps again."""
        self._notified_of_hold.clear()

    def notify(self, text: str, numbers: Iterable[int]) -> None:
        """Send this line to the connections that watch these tasks."""
        for client in {client for number in numbers for client in self._by_task.get(number, ())}:
            client.send_bulk([BulkNotice(text)])

    def on_closed(self, client: ClientConnection) -> None:
        """Forget a connection that ended."""
        self._notified_of_hold.discard(client)
        if client in self._watching:
            self._watching.discard(client)
            self._slicer.run(self._unwatch(client), lambda _: None)

    def _unwatch(self, client: ClientConnection) -> Steps[None]:
        """Remove a connection from all tasks that it watched, which may be very many."""
        for index, number in enumerate(list(self._by_task)):
            clients = self._by_task.get(number)
            if clients is not None:
                clients.discard(client)
                if not clients:
                    del self._by_task[number]
            if index % STEP_ENTRIES == 0:
                yield None
