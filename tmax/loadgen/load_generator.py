"""Runs a load: submitters in threads, each with a connection of its own, until the time is over or a stop is requested.

::

    submitter 1 --+                                 +--> counts (one lock)
    submitter 2 --+--> swarm --> futures' callbacks +
    ...                                             when it ends: what waits is withdrawn, what runs is waited for, then cancelled
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from typing import Any

from tmax.api.future import TaskFuture
from tmax.api.outcomes import ExitStatus
from tmax.api.swarm import Swarm
from tmax.control.client import connect
from tmax.layout import locate
from tmax.loadgen.load_plan import LoadPlan, kinds_in_order
from tmax.loadgen.load_report import TaskCounts, load_report
from tmax.loadgen.usage_sampler import UsageSampler

_CANCEL_S = 30.0
"""So long the ends of cancelled tasks are waited for."""

Progress = Callable[[float, int, int], object]
"""Called with the seconds so far, and the numbers of tasks done and failed."""


class _Load:
    """Counts shared by the submitters."""

    def __init__(self, plan: LoadPlan, stop: threading.Event) -> None:
        self.plan = plan
        self.stop = stop
        self.counts = TaskCounts()
        self.lock = threading.Lock()
        self.errors: list[Exception] = []


class _Submitter:
    """One thread with one connection.  ``pending``: the futures that have not ended."""

    def __init__(self, load: _Load, swarm: Swarm) -> None:
        self._load = load
        self._swarm = swarm
        self._slots = threading.Semaphore(load.plan.in_flight)
        self.pending: set[TaskFuture[Any]] = set()
        self.thread = threading.Thread(target=self._run, name="tmax-submitter", daemon=True)
        self.thread.start()

    def wake(self) -> None:
        """Make the thread look at ``stop`` also when all its slots are taken."""
        self._slots.release()

    def _run(self) -> None:
        load = self._load
        try:
            for kind in kinds_in_order(load.plan.weights):
                self._slots.acquire()
                if load.stop.is_set():
                    return
                self._submit(kind)
                if load.plan.pause_s:
                    load.stop.wait(load.plan.pause_s)
        except Exception as error:  # ``run_load`` raises it; a thread that only ended would look like a slow swarm
            load.errors.append(error)
            load.stop.set()

    def _submit(self, kind: str) -> None:
        begun_s = time.monotonic()
        future = submit_task(self._swarm, kind, self._load.plan)
        with self._load.lock:
            self._load.counts.submitted += 1
            self.pending.add(future)
        future.add_done_callback(functools.partial(self._count, kind, begun_s))

    def _count(self, kind: str, begun_s: float, future: Future[Any]) -> None:
        latency_s = time.monotonic() - begun_s
        reason = "" if future.cancelled() else _failure_of(future)
        with self._load.lock:
            self.pending.discard(future)
            if future.cancelled():
                self._load.counts.cancelled += 1
            elif reason:
                self._load.counts.add_failure(kind, reason)
            else:
                self._load.counts.add_done(kind, latency_s)
        self._slots.release()


def submit_task(swarm: Swarm, kind: str, plan: LoadPlan) -> TaskFuture[Any]:
    """Submit one task of a kind.  A Python task calls a builtin, so that workers import nothing for it."""
    if kind == "python":
        return swarm.submit(sum, range(plan.python_items))
    if kind == "command":
        return swarm.shell(["true"])
    return swarm.kernel("matmul", n=plan.kernel_n, device="cpu", backend="numpy")


def _failure_of(future: Future[Any]) -> str:
    """Return the code of what went wrong; empty for success."""
    error = future.exception()
    if error is None:
        status = future.result()
        return "" if not isinstance(status, ExitStatus) or status.ok else f"exit {status.returncode}"
    return getattr(error, "code", None) or type(error).__name__


def run_load(
    plan: LoadPlan, swarm: Swarm, stop: threading.Event, progress: Progress, *, progress_s: float = 1.0, finish_s: float = 5.0
) -> dict[str, Any]:
    """Run a load on a swarm and return its report (``load_report``).  Ends early when ``stop`` is set.

    ``progress_s``: seconds between two calls of ``progress``.  ``finish_s``: so long the tasks that run at the end may finish before
    they are cancelled.

    No task that it submitted is queued or runs when it returns.  Raises the error of a submitter that lost the swarm.
    """
    load = _Load(plan, stop)
    clients: list[Swarm] = []
    submitters: list[_Submitter] = []
    sampler = UsageSampler(swarm)
    begun_s = time.monotonic()
    try:
        for _ in range(plan.submitters):
            clients.append(Swarm.connect(swarm.name))
            submitters.append(_Submitter(load, clients[-1]))
        while not stop.wait(min(progress_s, max(0.0, begun_s + plan.duration_s - time.monotonic()))):
            if time.monotonic() - begun_s >= plan.duration_s:
                break
            with load.lock:
                done, failed = load.counts.done, load.counts.failed
            progress(time.monotonic() - begun_s, done, failed)
    finally:
        stop.set()
        sampler.stop()
        _finish(swarm, submitters, load, finish_s)
        seconds = time.monotonic() - begun_s  # to the last end, as those tasks count, too
        for client in clients:
            client.shutdown()
    if load.errors:
        raise load.errors[0]
    return load_report(plan.described(), swarm.name, seconds, load.counts, sampler.samples)


def _finish(swarm: Swarm, submitters: Iterable[_Submitter], load: _Load, finish_s: float) -> None:
    """Withdraw what waits, let what runs finish, cancel what is left."""
    for submitter in submitters:
        submitter.wake()
        submitter.thread.join()
    for submitter in submitters:
        TaskFuture.withdraw_all(_pending(submitter, load))
    left = [future for submitter in submitters for future in _pending(submitter, load)]
    left = list(wait(left, finish_s).not_done)  # type: ignore[arg-type]  # as above
    ids = [future.task_id for future in left if future.task_id is not None]
    if ids:
        with connect(locate(swarm.name)) as client:
            client.request("cancel", ids=ids, dry_run=False)
        wait(left, _CANCEL_S)


def _pending(submitter: _Submitter, load: _Load) -> list[TaskFuture[Any]]:
    with load.lock:
        return list(submitter.pending)
