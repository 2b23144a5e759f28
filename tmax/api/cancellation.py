"""Cancelling tasks from the client side of bulk frames.

::

    not sent yet         dropped here; the swarm never receives it
    on its way           waited for, or marked to be taken back as soon as it is accepted
    accepted             one request for many: cancel those that have not begun
"""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import wait
from queue import Empty, SimpleQueue
from typing import Any

from tmax.api.future import TaskFuture
from tmax.control.bulk import encode
from tmax.control.client import Client
from tmax.control.protocol import BulkCancel, BulkTask
from tmax.errors import TmaxError

WITHDRAW_S = 30.0
"""So long a cancel of tasks waits for a controller that does not answer."""

_SETTLE_S = 2.0
"""So long ``cancel`` waits for a worker's report about a task that was sent ahead."""

_IDS_AT_ONCE = 100_000


class Cancellations:
    """The half of a TaskChannel that cancels tasks; ``task_channel.py`` describes the fields."""

    _lock: threading.Lock
    _changed: threading.Condition
    _open_client: Callable[[], Client]
    _reader: threading.Thread
    _unsent: dict[int, BulkTask]
    _unaccepted: dict[int, TaskFuture[Any]]
    _accepted: dict[int, TaskFuture[Any]]
    _out: bytearray

    def __init__(self) -> None:
        self._abandoned: SimpleQueue[list[TaskFuture[Any]]] = SimpleQueue()

    @abstractmethod
    def _pop_unaccepted(self, seq: int) -> TaskFuture[Any] | None: ...

    @abstractmethod
    def _write(self) -> None: ...

    @abstractmethod
    def _wake(self) -> None: ...

    def withdraw(self, futures: list[TaskFuture[Any]]) -> int:
        """Cancel those of these futures whose tasks have not begun; the others stay as they are.

        Waits for what is on its way and for the controller's answer, WITHDRAW_S at most.  Returns for how many of the tasks the swarm
        did not answer in that time.
        """
        here = threading.current_thread() is self._reader
        end_s = time.monotonic() + WITHDRAW_S
        with self._lock:
            unsent = self._drop_unsent(futures)
            if not here:
                on_their_way = {future.bulk_task.seq for future in futures if future.bulk_task is not None}
                self._changed.wait_for(lambda: on_their_way.isdisjoint(self._unaccepted), WITHDRAW_S)
        for future in unsent:
            future.cancelled_by_swarm()
        by_id = {future.task_id: future for future in futures if future.task_id is not None and not future.done()}
        unknown = sum(future.bulk_task is not None and not future.done() for future in futures)
        try:
            ending = self._cancel_waiting(by_id, max(1.0, end_s - time.monotonic()))
        except (TmaxError, OSError):
            return unknown + sum(not future.done() for future in by_id.values())
        if not here:
            wait(ending, _SETTLE_S)
        return unknown

    def _drop_unsent(self, futures: Iterable[TaskFuture[Any]]) -> list[TaskFuture[Any]]:
        """Take out what was not sent (lock held); return it, to be cancelled without the lock."""
        dropped: list[TaskFuture[Any]] = []
        for future in futures:
            task = future.bulk_task
            if task is not None and self._unsent.pop(task.seq, None) is not None:
                self._pop_unaccepted(task.seq)
                future.bulk_task = None
                dropped.append(future)
        if dropped:
            self._changed.notify_all()
        return dropped

    def _cancel_waiting(self, by_id: Mapping[int, TaskFuture[Any]], limit_s: float) -> list[TaskFuture[Any]]:
        """Have the swarm cancel what has not begun; return those whose ends are still to be reported."""
        if not by_id:
            return []
        answers: list[tuple[int, str]] = []
        ids = list(by_id)
        with self._open_client() as client:
            client.answer_s = limit_s
            for start in range(0, len(ids), _IDS_AT_ONCE):
                answer: Any = client.request("cancel", ids=ids[start : start + _IDS_AT_ONCE], begun=False)
                answers += [(row["id"], row["now"]) for row in answer["results"]]
        gone = [by_id[number] for number, now in answers if now == "cancelled"]
        with self._lock:
            ours = [future for future in gone if self._accepted.pop(future.task_id or 0, None) is not None]
            self._changed.notify_all()
        for future in ours:
            future.cancelled_by_swarm()
        return [by_id[number] for number, now in answers if now == "ending" and not by_id[number].done()]

    def abandon_results(self, futures: list[TaskFuture[Any]]) -> None:
        """Cancel what has not begun without waiting for it.

        Takes no lock: a generator that is destroyed calls this, at any point of any thread, also of one that holds our lock.
        """
        self._abandoned.put(futures)
        self._wake()

    def _take_back_abandoned(self) -> None:
        """Cancel what was abandoned (reader thread): what is not accepted yet follows when it is."""
        futures: list[TaskFuture[Any]] = []
        try:
            while True:
                futures += self._abandoned.get_nowait()
        except Empty:
            pass  # that was all of it
        if not futures:
            return
        with self._lock:
            unsent = self._drop_unsent(futures)
            for future in futures:
                future.taken_back = True
            ids = [future.task_id for future in futures if future.task_id is not None and not future.done()]
            for start in range(0, len(ids), _IDS_AT_ONCE):
                self._out += encode(BulkCancel(tuple(ids[start : start + _IDS_AT_ONCE]), begun=False))
            self._write()
            self._changed.notify_all()
        for future in unsent:
            future.cancelled_by_swarm()
