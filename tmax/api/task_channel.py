"""The client side of bulk frames: carries tasks out and their ends back, over as many connections as that takes.

::

    submit (any thread) --> unsent --flush--> out --> socket                 socket --> reader thread --> settle(future, end)
                    nothing under way: at once                               accepted: seq -> task id; flush what gathered
                    else: when 64 have gathered, or at the next answer       ended: the future gets its result

    end-of-file --> reach() again, with pauses --> what was not accepted is sent again (``again``), what was is watched

One lock guards all of it; sends never block, so it is never held for long.  Submits are gathered as in Nagle's algorithm: while the
controller commits the first, a second message would wait for that commit anyway, and one message of many costs
both sides far less.  A writer thread instead would add a change of threads to each lone submit.
"""

from __future__ import annotations

import itertools
import os
import secrets
import select
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from msgspec.structs import replace

from tmax.api import unobserved_failures
from tmax.api.cancellation import Cancellations
from tmax.api.future import TaskFuture
from tmax.api.task_errors import SwarmGone
from tmax.control.bulk import Frames, decode_reply, encode
from tmax.control.client import Client
from tmax.control.protocol import (
    BulkAccepted,
    BulkCancel,
    BulkEnd,
    BulkEnded,
    BulkNotice,
    BulkRefused,
    BulkReply,
    BulkSubmit,
    BulkTask,
    BulkWatch,
)
from tmax.errors import TmaxError, from_wire
from tmax.layout import submitting_task
from tmax_pipes.jobs import Job, PythonJob, ShellJob
from tmax_pipes.options_struct import GivenOptions

MAX_UNACCEPTED = 65536
MAX_UNACCEPTED_BYTES = 64 * 1024 * 1024
"""Above either, ``submit`` waits for the controller."""

GIVE_UP_S = 60.0
"""So long a lost swarm is tried to be reached before its futures are given up."""

_GATHER = 64
_FRAME_TASKS = 1024
_FRAME_BYTES = 1024 * 1024
_OUT_BYTES = 256 * 1024
"""So much is made ready for the socket at once; the rest can still be taken back without asking anybody."""

_WATCH_IDS = 100_000
_READ_BYTES = 256 * 1024
_PAUSES_S = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
NOTICE_S = 5.0
"""After so long a process that is kept from its end by tasks not yet accepted reports it."""


class TaskChannel(Cancellations):
    """Owns the connection and the reader thread.

    ``reach`` returns a new connected socket, starting the controller when need be; SwarmGone from it is final, TmaxError and OSError
    are tried again.  ``settle`` gives a future what became of its task; it runs on the reader thread and does not raise.
    ``open_client`` returns a client for JSON requests.  ``swarm``: its name, for messages; ``temporary``: its tasks end with it.

    Python raises KeyboardInterrupt between any two steps of the main thread: at each of them what is not accepted is in
    ``_unaccepted``, and what was taken out of ``_unsent`` is in ``_out``; a task that is sent twice is one task.
    """

    def __init__(
        self,
        reach: Callable[[], socket.socket],
        settle: Callable[[TaskFuture[Any], BulkEnd], None],
        open_client: Callable[[], Client],
        *,
        swarm: str = "",
        temporary: bool = False,
    ) -> None:
        super().__init__()
        self._swarm = swarm
        self._temporary = temporary
        self._in_a_worker = "TMAX_LIFE" in os.environ
        self.client = f"{os.getpid()}-{secrets.token_hex(8)}"
        self._reach = reach
        self._settle = settle
        self._open_client = open_client
        self._seqs = itertools.count(1)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._unsent: dict[int, BulkTask] = {}
        self._unaccepted: dict[int, TaskFuture[Any]] = {}
        self._unaccepted_bytes = 0
        self._accepted: dict[int, TaskFuture[Any]] = {}
        self._settling = 0
        """Ends that have come in and whose futures do not know yet; only the reader thread counts here."""
        self._out = bytearray()
        self._gone: SwarmGone | None = None
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._sock: socket.socket | None = None
        try:
            sock = reach()
        except BaseException:
            os.close(self._wake_fd)
            raise
        self._begin_connection(sock)
        _CHANNELS.add(self)
        self._reader = threading.Thread(target=self._run, name="tmax-reader", daemon=True)
        self._reader.start()

    # -- out ---------------------------------------------------------------------------------------

    def submit(self, job: Job, options: GivenOptions, kind: str, into: list[TaskFuture[Any]] | None = None) -> TaskFuture[Any]:
        """Submit a task and return its future; waits only while MAX_UNACCEPTED are unaccepted.

        ``into``: takes the future before anything is sent, so that an interrupted
        caller knows of it.  Raises SwarmGone when the swarm cannot be reached any more.
        """
        if self._in_a_worker and (parent := submitting_task(self._swarm)):
            job = replace(job, parent=parent)
        future: TaskFuture[Any] = TaskFuture(self, kind)
        seq = next(self._seqs)
        task = future.bulk_task = BulkTask(seq=seq, job=job, options=options)
        if into is not None:
            into.append(future)
        with self._lock:
            self._wait_for_capacity()
            under_way = len(self._unaccepted) > len(self._unsent)
            self._unaccepted[seq] = future
            self._unsent[seq] = task
            self._unaccepted_bytes += _size_of(job)
            if not under_way or len(self._unsent) >= _GATHER:
                self._flush()
        return future

    def failed(self, error: BaseException, kind: str, into: list[TaskFuture[Any]] | None = None) -> TaskFuture[Any]:
        """Return a future that has failed already: a call that could not be pickled.  ``into``: as ``submit`` has it."""
        future: TaskFuture[Any] = TaskFuture(self, kind)
        if into is not None:
            into.append(future)
        unobserved_failures.count(future, self._swarm, unobserved_failures.NOT_ACCEPTED, error)
        future.set_exception(error)
        return future

    def _wait_for_capacity(self) -> None:
        while self._gone is None and (len(self._unaccepted) >= MAX_UNACCEPTED or self._unaccepted_bytes >= MAX_UNACCEPTED_BYTES):
            if threading.current_thread() is self._reader:
                break  # a callback that submits: waiting here would be waiting for ourselves
            self._flush()
            self._changed.wait()
        if self._gone is not None:
            raise SwarmGone(*self._gone.args)

    def _flush(self) -> None:
        """Write what has gathered, as far as there is room (lock held).  Without a connection it waits; the next one begins with all of it."""
        while self._unsent and self._sock is not None and len(self._out) < _OUT_BYTES:
            tasks = next(_batches(self._unsent.values()))
            self._out += encode(BulkSubmit(self.client, tasks))
            if len(tasks) == len(self._unsent):
                self._unsent.clear()
            else:
                for task in tasks:
                    del self._unsent[task.seq]
            self._write()

    def _write(self) -> None:
        if self._sock is None or not self._out:
            return
        try:
            with memoryview(self._out) as view:
                sent = self._sock.send(view)
            del self._out[:sent]
        except BlockingIOError:
            pass  # the reader thread waits for room
        except OSError:
            self._out.clear()  # the reader thread sees the end-of-file; the next connection begins with what was not accepted
        if self._out and threading.current_thread() is not self._reader:
            self._wake()

    def _wake(self) -> None:
        if self._wake_fd >= 0:
            os.eventfd_write(self._wake_fd, 1)

    # -- the reader thread -------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._sock is not None:
                self._serve_connection(self._sock)
                self._close_connection()
                self._connect_again()
        except SwarmGone as error:
            self._give_up(error)
        except TmaxError as error:
            cause = f"client and controller do not understand each other: {error.message}"
            self._give_up(SwarmGone(f"{cause}; after an update of tmax: tmax down, then tmax init"))
        except BaseException as error:
            # Whatever it is: without this thread no future would ever end, so each ends with the reason now.
            self._give_up(SwarmGone(f"the swarm's client failed: {type(error).__name__}: {error}"))
            raise
        finally:
            self._close_connection()
            with self._lock:
                os.close(self._wake_fd)
                self._wake_fd = -1

    def _serve_connection(self, sock: socket.socket) -> None:
        """Send and receive on one connection until it ends."""
        frames = Frames()
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        while self._gone is None:
            poll.register(sock, select.POLLIN | (select.POLLOUT if self._out else 0))
            ready = dict(poll.poll())
            if self._wake_fd in ready:
                os.eventfd_read(self._wake_fd)
            if ready.get(sock.fileno(), 0) & select.POLLOUT:
                with self._lock:
                    self._write()
                    self._flush()
                    if not self._out:
                        self._changed.notify_all()
            self._take_back_abandoned()
            if ready.get(sock.fileno(), 0) & ~select.POLLOUT:
                data = _received(sock)
                if not data:
                    return
                self._take_replies([decode_reply(body) for body in frames.feed(data)])

    def _take_replies(self, replies: Sequence[BulkReply]) -> None:
        ended: list[tuple[TaskFuture[Any], BulkEnd]] = []
        refused: list[tuple[TaskFuture[Any], TmaxError]] = []
        notices: list[str] = []
        with self._lock:
            for reply in replies:
                if isinstance(reply, BulkNotice):
                    notices.append(reply.text)
                elif isinstance(reply, BulkAccepted):
                    self._take_accepted(reply)
                elif isinstance(reply, BulkEnded):
                    ended += [(future, end) for end in reply.ends if (future := self._accepted.pop(end.id, None)) is not None]
                else:
                    refused += self._take_refused(reply)
            self._settling += len(ended) + len(refused)
            self._flush()
            self._write()
            self._changed.notify_all()
        for text in notices:
            _write_stderr(f"note: swarm {self._swarm!r}: {text}\n")
        for future, end in ended:
            self._settle(future, end)
        for future, error in refused:
            self._lose(future, unobserved_failures.NOT_ACCEPTED, error)
        with self._lock:
            self._settling -= len(ended) + len(refused)
            self._changed.notify_all()

    def _lose(self, future: TaskFuture[Any], what: str, error: BaseException) -> None:
        """Fail a future; a failure that the program never looks at is reported when this process ends."""
        if not future.done():
            unobserved_failures.count(future, self._swarm, what, error)
            future.fail(error)

    def _pop_unaccepted(self, seq: int) -> TaskFuture[Any] | None:
        future = self._unaccepted.pop(seq, None)
        if future is not None and future.bulk_task is not None:
            self._unaccepted_bytes -= _size_of(future.bulk_task.job)
        return future

    def _take_accepted(self, reply: BulkAccepted) -> None:
        taken_back: list[int] = []
        for seq, number in reply.pairs:
            future = self._pop_unaccepted(seq)
            if future is not None:
                future.task_id = number
                future.bulk_task = None
                self._accepted[number] = future
                if future.taken_back:
                    taken_back.append(number)
        if taken_back:
            self._out += encode(BulkCancel(tuple(taken_back), begun=False))

    def _take_refused(self, reply: BulkRefused) -> list[tuple[TaskFuture[Any], TmaxError]]:
        if not reply.seqs:
            raise from_wire({"code": reply.code, "message": reply.message, "hint": reply.hint})
        refused: list[tuple[TaskFuture[Any], TmaxError]] = []
        for seq in reply.seqs:
            future = self._pop_unaccepted(seq)
            if future is not None:
                # One error for each future: raised, it collects its own traceback.
                refused.append((future, from_wire({"code": reply.code, "message": reply.message, "hint": reply.hint})))
        return refused

    # -- another connection ------------------------------------------------------------------------

    def _begin_connection(self, sock: socket.socket) -> None:
        """Take a fresh connection, and begin with everything the other end may not know."""
        sock.setblocking(False)
        with self._lock:
            self._sock = sock
            self._out.clear()
            self._unsent.clear()
            for tasks in _batches(future.bulk_task for future in self._unaccepted.values() if future.bulk_task is not None):
                self._out += encode(BulkSubmit(self.client, tasks, again=True))
            ids = list(self._accepted)
            for start in range(0, len(ids), _WATCH_IDS):
                self._out += encode(BulkWatch(tuple(ids[start : start + _WATCH_IDS])))
            self._write()

    def _close_connection(self) -> None:
        with self._lock:
            sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def _connect_again(self) -> None:
        """Reach the swarm anew, or raise SwarmGone; nothing to do once closed."""
        end_s = time.monotonic() + GIVE_UP_S
        for pause_s in itertools.chain(_PAUSES_S, itertools.repeat(2.0)):
            if select.select([self._wake_fd], [], [], pause_s)[0]:
                os.eventfd_read(self._wake_fd)
            if self._gone is not None:
                return
            try:
                self._begin_connection(self._reach())
            except SwarmGone:
                raise  # it is final; the other errors may pass
            except (TmaxError, OSError) as error:
                if time.monotonic() > end_s:
                    raise SwarmGone(f"the swarm cannot be reached: {error}") from error
            else:
                return

    # -- the end -----------------------------------------------------------------------------------

    @property
    def gone(self) -> SwarmGone | None:
        """Why nothing can be submitted any more; None while all is well."""
        return self._gone

    def pending(self) -> list[TaskFuture[Any]]:
        """Return the futures that have not ended."""
        with self._lock:
            return [*self._accepted.values(), *self._unaccepted.values()]

    def wait_idle(self, timeout_s: float | None = None) -> bool:
        """Wait until every future has ended; return whether that is so."""
        with self._lock:
            self._flush()
            self._write()
            return self._changed.wait_for(lambda: not (self._accepted or self._unaccepted or self._settling), timeout_s)

    def wait_accepted(self) -> None:
        """Wait until the swarm has accepted or refused everything, or is given up; after NOTICE_S report it on stderr.

        There is no limit but that of a swarm that cannot be reached (GIVE_UP_S).
        """
        with self._lock:
            self._flush()
            self._write()
            if not self._changed.wait_for(self._all_reported, NOTICE_S):
                _write_stderr(f"note: waiting until {len(self._unaccepted)} tasks are accepted by swarm {self._swarm!r}; Ctrl-C leaves\n")
                self._changed.wait_for(self._all_reported)

    def _all_reported(self) -> bool:
        """Whether nothing is owed to us, and nothing by us."""
        return self._gone is not None or (not (self._unaccepted or self._settling or self._out) and self._abandoned.empty())

    def close(self, reason: SwarmGone, *, cancel: bool = False) -> None:
        """Let go of the swarm; what is still open is cancelled (``cancel``) or fails with ``reason``.  Twice is harmless."""
        self._give_up(reason, cancel=cancel)
        if threading.current_thread() is not self._reader:
            self._reader.join(5.0)

    def _give_up(self, reason: SwarmGone, *, cancel: bool = False) -> None:
        with self._lock:
            if self._gone is None:
                self._gone = reason
                self._wake()
            accepted, unaccepted = list(self._accepted.values()), list(self._unaccepted.values())
            self._accepted.clear()
            self._unaccepted.clear()
            self._unsent.clear()
            self._changed.notify_all()
        for future in (*accepted, *unaccepted) if cancel else ():
            future.cancelled_by_swarm()
        # One error for each: raised, it collects its own traceback.
        for future in unaccepted:
            self._lose(future, unobserved_failures.NOT_ACCEPTED, SwarmGone(*reason.args))
        for future in accepted:
            if self._temporary:
                self._lose(future, unobserved_failures.LOST, SwarmGone(*reason.args))
            else:
                future.fail(SwarmGone(*reason.args))  # its task goes on

    def abandon(self, reason: SwarmGone) -> None:
        """In a forked child: let go without a word to the swarm, which is the parent's.  No lock of the parent's is trusted."""
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._gone = reason
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        if self._wake_fd >= 0:
            os.close(self._wake_fd)
            self._wake_fd = -1
        for future in [*self._accepted.values(), *self._unaccepted.values()]:
            future.orphaned(reason)
        self._accepted.clear()
        self._unaccepted.clear()
        self._settling = 0


_CHANNELS: weakref.WeakSet[TaskChannel] = weakref.WeakSet()


def _forked() -> None:
    unobserved_failures.forget()
    for channel in list(_CHANNELS):
        channel.abandon(SwarmGone("this process was forked from the one that has the swarm; open it again with Swarm.connect()"))


os.register_at_fork(after_in_child=_forked)


def _size_of(job: Job) -> int:
    if isinstance(job, PythonJob):
        return len(job.call) if isinstance(job.call, bytes) else 128
    if isinstance(job, ShellJob):
        return sum(map(len, job.argv)) + sum(len(key) + len(value) for key, value in job.env.items())
    return 256


def _batches(tasks: Iterable[BulkTask]) -> Iterator[tuple[BulkTask, ...]]:
    """Cut into messages that fit a frame with room to spare."""
    batch: list[BulkTask] = []
    size = 0
    for task in tasks:
        batch.append(task)
        size += _size_of(task.job)
        if size >= _FRAME_BYTES or len(batch) >= _FRAME_TASKS:
            yield tuple(batch)
            batch, size = [], 0
    if batch:
        yield tuple(batch)


def _received(sock: socket.socket) -> bytes | None:
    try:
        return sock.recv(_READ_BYTES)
    except OSError:
        return None  # reset: the controller ended with something of ours unread


def _write_stderr(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):
        pass  # closed, or never there: no one can read it
