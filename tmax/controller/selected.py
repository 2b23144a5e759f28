"""Verbs about the tasks that somebody names, one or a hundred thousand: ``wait``, ``cancel``, ``select``, and their bulk sisters.

All of them go through the numbers in slices, read what has ended page by page, and cancel part by part, each part a turn of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from tmax.control.protocol import BulkEnd, BulkEnded
from tmax.control.server import ClientConnection, Request
from tmax.controller.chunked_reply import BEHIND_BYTES, ChunkedReply
from tmax.controller.fields import TASKS_HINT
from tmax.controller.listing import PAGE
from tmax.controller.selectors import select
from tmax.controller.slices import Steps
from tmax.controller.views import task_view
from tmax.controller.waiters import NAMED, Waiter, bulk_end
from tmax.core.events import CancelRequested
from tmax.errors import NotFound, TmaxError, UsageError

if TYPE_CHECKING:
    from tmax.controller.loop import Controller
    from tmax.core.model import Task
    from tmax.storage.task_store import Reader

LOOKED_UP = 1000
"""Numbers that are looked up in one step."""
CANCELLED = 250
"""Tasks that are cancelled in one turn."""


def wanted_ids(ask: Request) -> list[int]:
    """Return the field ``ids``, each number once, or raise UsageError."""
    ids = ask.fields.get("ids")
    # In C, as there may be very many; a bool is not an int here.
    if not isinstance(ids, list) or not set(map(type, ids)) <= {int}:
        raise UsageError("ids must be a list of task numbers")
    if ids and min(ids) <= 0:
        raise UsageError(f"{min(ids)} is not the number of a task: they begin at 1", hint=TASKS_HINT)
    return list(dict.fromkeys(ids))


def no_task(unknown: Sequence[int]) -> NotFound:
    """Return the error for numbers that no task has."""
    named = ", ".join(map(str, unknown[:NAMED]))
    more = f" and {len(unknown) - NAMED} more" if len(unknown) > NAMED else ""
    return NotFound(f"no task {named}{more}", hint=TASKS_HINT)


def _parts(ids: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    return (ids[at : at + size] for at in range(0, len(ids), size))


class Selected:
    """The verbs, as steps."""

    def __init__(self, house: Controller) -> None:
        self._house = house

    # -- wait --------------------------------------------------------------------------------------

    def wait(self, waiter: Waiter) -> Steps[None]:
        """Find out which of its tasks are still under way and how the others have ended; from then on it answers by itself."""
        clients, tasks = self._house.clients, self._house.scheduler.state.ledger.tasks
        gone: list[int] = []
        unknown: list[int] = []
        for part in _parts(waiter.ids, LOOKED_UP):
            clients.expect(waiter, [number for number in part if number in tasks])
            gone += [number for number in part if number not in tasks]
            yield None
        if gone:
            yield self._house.when_settled
        for part in _parts(gone, PAGE):
            found = yield from self._house.reading(partial(_ended_views, part))
            unknown += [number for number in part if number not in found]
            for number, (succeeded, view) in found.items():
                waiter.take(number, view, succeeded=succeeded)
            yield None
        if unknown:
            raise no_task(unknown)
        waiter.complete()

    # -- cancel ------------------------------------------------------------------------------------

    def cancel(self, ask: Request, ids: Sequence[int]) -> Steps[None]:
        """Cancel these tasks, or with ``dry_run`` say what would be; nothing when one of them does not exist.

        With ``begun`` false those that have begun go on.
        """
        begun = ask.fields.get("begun") is not False
        tasks = self._house.scheduler.state.ledger.tasks
        ended = yield from self._ended_states([number for number in ids if number not in tasks])
        pieces = ChunkedReply(ask, "results")
        for part in _parts(ids, CANCELLED):
            before = {number: tasks[number].state.value for number in part if number in tasks}
            if ask.fields.get("dry_run"):
                results = {number: f"would be cancelled ({state})" for number, state in before.items()}
            else:
                results = yield from self._cancelled(tuple(before), begun=begun)
            for number in part:
                was = before.get(number) or ended.get(number) or "live"
                now = results.get(number) or ended.get(number) or "ended meanwhile"
                pieces.value(msgspec.json.encode({"id": number, "was": was, "now": now}))
            yield from pieces.flow()
        pieces.end()

    def _ended_states(self, gone: Sequence[int]) -> Steps[dict[int, str]]:
        if gone:
            yield self._house.when_settled
        states: dict[int, str] = {}
        for part in _parts(gone, PAGE):
            states |= yield from self._house.reading(partial(_states_of, part))
        unknown = [number for number in gone if number not in states]
        if unknown:
            raise no_task(unknown)
        return states

    def _cancelled(self, ids: tuple[int, ...], *, begun: bool) -> Steps[dict[int, str]]:
        if not ids:
            return {}
        results: dict[int, str] = {}

        def wait(go_on: Any) -> None:
            def answered(told: tuple[tuple[int, str], ...]) -> None:
                results.update(told)
                go_on()

            self._house.emit(CancelRequested(token=self._house.clients.expect_cancelled(answered), tasks=ids, begun=begun))

        yield wait
        return results

    def bulk_cancel(self, ids: Sequence[int], *, begun: bool) -> Steps[None]:
        """Cancel these tasks (``begun`` false: only those that have not begun) and tell nobody: their ends are told to who watches them."""
        for part in _parts(ids, CANCELLED):
            yield from self._cancelled(tuple(part), begun=begun)

    # -- watch and select --------------------------------------------------------------------------

    def watch(self, peer: ClientConnection, ids: Sequence[int]) -> Steps[None]:
        """Tell this bulk connection when these tasks end; those that have ended, now."""
        tasks = self._house.scheduler.state.ledger.tasks
        gone: list[int] = []
        for part in _parts(ids, LOOKED_UP):
            self._house.clients.watch(peer, [number for number in part if number in tasks])
            gone += [number for number in part if number not in tasks]
            yield None
        if gone:
            yield self._house.when_settled
        for part in _parts(gone, PAGE):
            ended = yield from self._house.reading(partial(_tasks, part))
            ends = [bulk_end(ended[number]) if number in ended else BulkEnd(id=number, state="unknown") for number in part]
            peer.send_bulk([BulkEnded(ends=tuple(ends))])
            if peer.unsent_bytes > BEHIND_BYTES:
                yield peer.when_sent

    def select(self, ask: Request) -> Steps[None]:
        """Answer with the numbers that the words mean."""
        words = ask.fields.get("selectors")
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise UsageError("selectors must be a list of words")
        last = self._house.scheduler.state.ledger.next_task - 1
        found = yield from self._house.reading(partial(_selected, words, last))
        if isinstance(found, TmaxError):
            raise found
        ask.answer_line(found)


# What follows runs on the store's thread.


def _ended_views(ids: Sequence[int], reader: Reader) -> dict[int, tuple[bool, bytes]]:
    """Return of each task whether it succeeded, and its line; not its result, which may be large."""
    return {number: (task.state == "done", msgspec.json.encode(task_view(task))) for number, task in reader.tasks(ids).items()}


def _states_of(ids: Sequence[int], reader: Reader) -> dict[int, str]:
    return {number: task.state.value for number, task in reader.tasks(ids).items()}


def _tasks(ids: Sequence[int], reader: Reader) -> dict[int, Task]:
    return reader.tasks(ids)


def _selected(words: Sequence[str], last: int, reader: Reader) -> bytes | TmaxError:
    ids = select(words, last, reader)
    return ids if isinstance(ids, TmaxError) else msgspec.json.encode({"ok": True, "ids": ids})
