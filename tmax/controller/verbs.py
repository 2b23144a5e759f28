"""The verbs of the control socket, as the controller answers them (``control/protocol.py`` has the table)."""

from __future__ import annotations

import base64
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tmax.control.protocol import BulkAccepted, BulkCancel, BulkRefused, BulkRequest, BulkSubmit, BulkWatch
from tmax.control.server import ClientConnection, Request
from tmax.controller import fields
from tmax.controller.intake import new_task, new_task_of_bulk
from tmax.controller.listing import Listing
from tmax.controller.selected import LOOKED_UP, Selected, wanted_ids
from tmax.controller.slices import Steps
from tmax.controller.views import explain, to_plain, whole_story
from tmax.controller.waiters import Waiter
from tmax.core import nesting, tables
from tmax.core.events import HoldSet, Submitted
from tmax.core.model import NewTask, Task
from tmax.core.snapshot import SCHEMA_VERSION
from tmax.errors import NoTerminals, NotFound, StorageFull, StoreError, TmaxError, UsageError
from tmax.storage.store_errors import full, removed
from tmax.version import __version__
from tmax_pipes.messages import Report

if TYPE_CHECKING:
    from tmax.controller.loop import Controller
    from tmax.storage.store import Reader


READY_S = 120.0
"""How long ``ready`` waits for the workers when it is not said."""


class Verbs:
    """One method a verb, named after it."""

    def __init__(self, house: Controller) -> None:
        self._house = house
        self._selected = Selected(house)
        self._reading: dict[str, Callable[[Request], None]] = {
            "status": self._status,
            "workers": self._workers,
            "ps": self._ps,
            "wait": self._wait,
            "show": self._show,
            "logs": self._logs,
            "locate": self._locate,
            "select": lambda ask: self._in_slices(ask, self._selected.select(ask)),
        }
        self._doing: dict[str, Callable[[Request], None]] = {
            "hello": self._hello,
            "ready": self._ready,
            "submit": self._submit,
            "cancel": self._cancel,
            "watch": lambda ask: house.monitor.add(ask, always=bool(ask.fields.get("always"))),
            "own": self._own,
            "hold": lambda ask: self._hold(ask, held=True),
            "resume": lambda ask: self._hold(ask, held=False),
            "down": self._down,
            "announce": self._announce,
        }

    # -- the server's handler ----------------------------------------------------------------------

    def on_request(self, ask: Request) -> None:
        """Answer one JSON verb; a reading one only when everything decided is on disk."""
        reading = self._reading.get(ask.verb)
        doing = self._doing.get(ask.verb)
        if reading is not None:
            self._house.when_settled(lambda: self._guarded(reading, ask))
        elif doing is not None:
            self._guarded(doing, ask)
        else:
            ask.fail(
                UsageError(f"unknown verb {ask.verb!r}", hint="is the tmax command newer than the running controller? tmax down; tmax init")
            )

    @staticmethod
    def _guarded(call: Callable[[Request], None], ask: Request) -> None:
        try:
            call(ask)
        except TmaxError as error:
            ask.fail(error)

    def on_bulk(self, peer: ClientConnection, request: BulkRequest) -> None:
        """Take one bulk frame of the Python API."""
        if isinstance(request, BulkSubmit):
            self._bulk_submit(peer, request)
        elif isinstance(request, BulkWatch):
            self._house.when_settled(lambda: self._bulk_watch(peer, request.ids))
        else:
            self._bulk_cancel(request)

    def on_closed(self, peer: ClientConnection) -> None:
        """A connection ended."""
        self._house.clients.on_closed(peer)
        self._house.monitor.on_closed(peer)

    # -- swarm -------------------------------------------------------------------------------------

    def _hello(self, ask: Request) -> None:
        house = self._house
        state = house.scheduler.state
        ask.answer(
            swarm=house.layout.swarm,
            pid=os.getpid(),
            epoch=house.epoch,
            version=__version__,
            workers=state.roster.workers_wanted,
            ready=state.roster.ready_once,
            notice=house.painter.notice(),
            python=sys.executable,
            healed=house.healer.times,
            engine=house.settings.swarm.engine,
        )

    def _ready(self, ask: Request) -> None:
        timeout_s = fields.seconds(ask.fields.get("timeout_s"))
        self._house.clients.want_ready(ask, READY_S if timeout_s is None else timeout_s)

    def _status(self, ask: Request) -> None:
        snapshot = self._house.painter.paint()
        if ask.fields.get("text"):
            ask.answer(text=tables.status_text(snapshot, *self._look(ask)))
        else:
            ask.answer(snapshot=to_plain(snapshot))

    def _workers(self, ask: Request) -> None:
        workers = self._house.painter.workers()
        if ask.fields.get("text"):
            ask.answer(text=tables.workers_text(workers, time.time(), *self._look(ask)))
        else:
            ask.answer(schema_version=SCHEMA_VERSION, workers=to_plain(workers))

    @staticmethod
    def _look(ask: Request) -> tuple[int, bool]:
        width = ask.fields.get("width")
        return (width if isinstance(width, int) else 0), bool(ask.fields.get("color"))

    def _hold(self, ask: Request, *, held: bool) -> None:
        if held:
            self._house.clients.on_held()
        self._house.emit(HoldSet(held=held))
        ask.answer(held=held)

    def _own(self, ask: Request) -> None:
        self._house.clients.owners.add(ask.peer)
        ask.stream(owned=True)

    def _down(self, ask: Request) -> None:
        self._house.clients.want_down(ask)
        counts = self._house.scheduler.state.ledger.counts
        ask.stream(phase="stopping", running=counts["sent"] + counts["running"], queued=counts["ready"] + counts["waiting"])
        self._house.obstacles.tell_again()
        self._house.leave(now=bool(ask.fields.get("now")))
        self._house.obstacles.look()

    def _announce(self, ask: Request) -> None:
        life, place = ask.fields.get("life"), ask.fields.get("place")
        if not isinstance(life, int) or not 0 < life <= fields.MAX_NUMBER or not isinstance(place, str):
            raise UsageError("announce needs life and place")
        if not self._house.engine.announced(life, place, ask.peer.pid):
            ask.peer.close()  # by which the worker notices, makes other FIFOs and announces those

    # -- submitting and cancelling -----------------------------------------------------------------

    def _submit(self, ask: Request) -> None:
        described = ask.fields.get("tasks")
        if not isinstance(described, list) or not described:
            raise UsageError("submit needs a list of tasks")
        request_id = ask.fields.get("request_id") or ""
        if not isinstance(request_id, str) or len(request_id) > 200:
            raise UsageError("request_id must be text of at most 200 characters")
        defaults = self._house.settings.tasks
        tasks = [
            new_task(one, defaults, f"{request_id}:{place}" if request_id and place else request_id) for place, one in enumerate(described)
        ]
        self._check_open(tasks)
        self._take_in(tasks, lambda ids: ask.answer(ids=list(ids)), ask.fail)

    def _check_open(self, tasks: Sequence[NewTask]) -> None:
        """Raise TmaxError when these cannot be accepted now; going down, only what running tasks need to end is."""
        if self._house.store.removed:
            error = removed(self._house.layout)
            raise StoreError(f"{error.message}; nothing new is accepted", hint=error.hint)
        if self._house.store.full:
            error = full(self._house.layout)
            raise StorageFull(f"{error.message}; nothing new is accepted", hint=error.hint)
        state = self._house.scheduler.state
        if state.leaving is not None and not all(nesting.can_follow(state, task.job.parent) for task in tasks):
            raise TmaxError("the swarm is going down; nothing new is accepted", hint="tmax init, then submit again")

    def _take_in(self, tasks: Sequence[NewTask], accepted: Callable[[tuple[int, ...]], None], refused: Callable[[TmaxError], None]) -> None:
        """Have tasks accepted; those that may have been submitted before are looked up first."""
        named = [task.request_id for task in tasks if task.request_id]

        def go(known: dict[str, int]) -> None:
            try:
                self._check_open(tasks)  # once more: what submits them may have ended while they were looked up
            except TmaxError as error:
                refused(error)
                return
            token = self._house.clients.expect_accepted(accepted)
            self._house.emit(Submitted(token=token, tasks=tuple(tasks), known=known))

        if named:
            self._read(lambda reader: reader.requests(named), go, refused)
        else:
            go({})

    def _read(self, query: Callable[[Reader], Any], done: Callable[[Any], None], failed: Callable[[TmaxError], None]) -> None:
        """Run a query behind all commits, and go on with its answer on the loop's thread."""

        def finished(answer: Any) -> None:
            call = (lambda: failed(answer)) if isinstance(answer, StoreError) else (lambda: done(answer))
            self._house.reactor.call_soon(call)

        self._house.store.read(query, finished)

    def _cancel(self, ask: Request) -> None:
        ids = wanted_ids(ask)
        # Not given up when its asker goes away: what was asked is done to the last task.
        self._house.slicer.run(self._selected.cancel(ask, ids), ask.fail_if_open)

    # -- reading tasks -----------------------------------------------------------------------------

    def _ps(self, ask: Request) -> None:
        self._in_slices(ask, Listing(self._house, ask, self._look(ask)).steps())

    def _in_slices(self, ask: Request, steps: Steps[None]) -> None:
        self._house.slicer.run(steps, ask.fail_if_open, lambda: ask.peer.alive)

    def _wait(self, ask: Request) -> None:
        timeout_s = fields.seconds(ask.fields.get("timeout_s"))
        waiter = Waiter(self._house, ask, wanted_ids(ask), timeout_s, fail_fast=bool(ask.fields.get("fail_fast")))
        self._house.clients.wait(waiter)
        self._house.slicer.run(self._selected.wait(waiter), waiter.refuse, lambda: waiter.wanted)

    def _find(self, ask: Request, number: object, then: Callable[[Task], None]) -> None:
        """Go on with the task of this number, live or ended."""
        wanted = fields.task_number(number)
        live = self._house.scheduler.state.ledger.tasks.get(wanted)
        if live is not None:
            then(live)
            return

        def found(task: Task | None) -> None:
            if task is None:
                ask.fail(NotFound(f"no task {wanted}", hint=fields.TASKS_HINT))
            else:
                then(task)

        self._read(lambda reader: reader.task(wanted), found, ask.fail)

    def _show(self, ask: Request) -> None:
        state = self._house.scheduler.state
        blobs = self._house.layout.blobs
        self._find(ask, ask.fields.get("id"), lambda task: ask.answer(task=whole_story(task, explain(state, task)), blobs=blobs))

    def _logs(self, ask: Request) -> None:
        target = ask.fields.get("target")
        if isinstance(target, str) and not fields.is_number(target):
            self._worker_logs(ask, target)
            return
        self._find(ask, target, lambda task: self._task_logs(ask, task))

    def _task_logs(self, ask: Request, task: Task) -> None:
        path = f"{self._house.layout.logs}/{task.id}.log"
        report = task.outcome.report if task.outcome else Report()
        ask.answer(
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

    def _worker_logs(self, ask: Request, name: str) -> None:
        life = self._house.scheduler.state.roster.slots().get(name)
        if life is None:
            raise NotFound(f"no worker {name}", hint="tmax workers lists them")
        engine, task = self._house.engine, life.running or None
        file = engine.output_file(life.id)
        if engine.terminals is not None:
            engine.terminals.capture(life.id, lambda text: ask.answer(worker=name, text=text, task=task))
        elif file:
            ask.answer(worker=name, file=file, task=task)
        else:
            raise NoTerminals

    def _locate(self, ask: Request) -> None:
        target = ask.fields.get("target") or "dashboard"
        layout = self._house.layout
        terminals = self._house.engine.terminals
        if terminals is None:
            raise NoTerminals
        if target == "dashboard":
            ask.answer(session="tmax", pane="", worker="", task=None, tmux=layout.tmux)
            return
        roster = self._house.scheduler.state.roster
        name = str(target)
        if fields.is_number(name):
            task = self._house.scheduler.state.ledger.tasks.get(fields.task_number(name))
            if task is None or task.lease is None:
                why = "has ended, or there is none" if task is None else f"has not started ({explain(self._house.scheduler.state, task)})"
                raise NotFound(f"task {name} {why}: no worker to attach to", hint=f"tmax logs {name}")
            life = roster.lives.get(task.lease.life)
        else:
            life = next((life for life in roster.lives.values() if life.name == name), None)
        session, pane = terminals.session_of(life.id) if life else ("", "")
        if life is None or not session:
            raise NotFound(f"no worker {name}" if life is None else f"{name} has no session now", hint="tmax workers lists them")
        ask.answer(session=session, pane=pane, worker=life.name, task=life.running or None, tmux=layout.tmux)

    # -- bulk --------------------------------------------------------------------------------------

    def _bulk_submit(self, peer: ClientConnection, request: BulkSubmit) -> None:
        seqs = tuple(task.seq for task in request.tasks)

        def refused(error: TmaxError) -> None:
            peer.send_bulk([BulkRefused(seqs=seqs, code=error.code, message=error.message, hint=error.hint)])

        def accepted(ids: tuple[int, ...]) -> None:
            peer.send_bulk([BulkAccepted(pairs=tuple(zip(seqs, ids, strict=True)))])
            self._bulk_watch(peer, ids)
            self._house.clients.note_if_held(peer)

        try:
            tasks = [new_task_of_bulk(request.client, task, self._house.settings.tasks) for task in request.tasks]
            self._check_open(tasks)
        except TmaxError as error:
            refused(error)
            return
        if request.again:
            self._take_in(tasks, accepted, refused)
        else:
            token = self._house.clients.expect_accepted(accepted)
            self._house.emit(Submitted(token=token, tasks=tuple(tasks)))

    def _bulk_watch(self, peer: ClientConnection, ids: Sequence[int]) -> None:
        tasks = self._house.scheduler.state.ledger.tasks
        if len(ids) <= LOOKED_UP and all(number in tasks for number in ids):
            self._house.clients.watch(peer, ids)  # those just accepted: the way of every task
        else:
            self._house.slicer.run(self._selected.watch(peer, ids), lambda _: None, lambda: peer.alive)

    def _bulk_cancel(self, request: BulkCancel) -> None:
        self._house.slicer.run(self._selected.bulk_cancel(request.ids, begun=request.begun), lambda _: None)
