"""Runs one task on the main thread: measured, captured, cancellable, and always ending in Done or Failed.

::

    capture.begin -> environment.enter -> gate.open -> registry.call -> gate.close -> environment, isolation.leave -> capture.end
                                                |  raises anything --> Failure
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import _exit, getpid
from time import monotonic, process_time, time
from typing import Any

from tmax_pipes.jobs import PythonJob, ShellJob
from tmax_pipes.messages import Done, Failed, Failure, Report, Run
from tmax_workers.cancel import InterruptGate
from tmax_workers.capture import Capture, Printed
from tmax_workers.failure_report import end_child, failure_of_job
from tmax_workers.isolation import Isolation
from tmax_workers.kinds import registry
from tmax_workers.kinds.python import Output
from tmax_workers.memory import Usage, ended_children_cpu_s, own_usage
from tmax_workers.process_context import NeedsBareProcess, ProcessContext
from tmax_workers.stale import SourceFiles
from tmax_workers.task_environment import TaskEnvironment
from tmax_workers.worker_errors import Refused

_TOO_SHORT_S = 0.0001
"""A shorter task has neither filled a megabyte nor waited for a child, so the figures of the task before it hold."""


class MainJobs:
    """Runs Python callables and kernels, one at a time, on the thread that made it."""

    def __init__(
        self,
        blob_folder: str,
        capture: Capture,
        gate: InterruptGate,
        environment: TaskEnvironment,
        context: ProcessContext,
        sources: SourceFiles,
        isolation: Isolation,
        start_bare: Callable[[NeedsBareProcess], None] = lambda _needs: None,
    ) -> None:
        """``start_bare``: replaces this process by one without preloaded modules; returns only when that cannot help."""
        self._blobs = blob_folder
        self._capture = capture
        self._gate = gate
        self._environment = environment
        self._context = context
        self._sources = sources
        self._isolation = isolation
        self._start_bare = start_bare
        self._pid = getpid()
        self._children_cpu_s = 0.0
        self._peak_rss_bytes = 0

    def run(self, run: Run, *, follows: bool = False) -> tuple[Done | Failed, Printed]:
        """Run a task and return its outcome and its output.  Raises nothing, whatever the task does.

        ``follows``: nothing has run in this worker since the last call, so no other child has ended.
        """
        self._capture.begin(run.task, run.attempt)
        if not follows:
            self._children_cpu_s = ended_children_cpu_s()
        cpu_s, started_at, began = process_time() + self._children_cpu_s, time(), monotonic()
        output, failure = self._guarded(run)
        duration_s = monotonic() - began
        self._isolation.disarm()
        self._environment.leave()
        self._isolation.leave(keep_background=run.job.keep_background)
        used = self._usage_after(duration_s)
        printed = self._capture.end()
        if printed.blocked:
            self._isolation.use_up("its standard streams were replaced by one whose flush does not return")
        if self._context.is_spent:
            self._isolation.use_up("its context allows no more tasks here")
        self._sources.note()
        report = Report(
            started_at=started_at,
            duration_s=duration_s,
            cpu_s=max(0.0, used.cpu_s - cpu_s),
            peak_rss_bytes=used.peak_rss_bytes,
            output_bytes=printed.size_bytes,
            tail=printed.tail,
            device=output.device,
            strategy=output.strategy,
        )
        if failure is not None:
            return Failed(run.task, run.attempt, report, failure), printed
        return Done(run.task, run.attempt, report, output.result, output.form), printed

    def _usage_after(self, duration_s: float) -> Usage:
        if duration_s < _TOO_SHORT_S and self._peak_rss_bytes:
            return Usage(process_time() + self._children_cpu_s, self._peak_rss_bytes, self._children_cpu_s)
        usage = own_usage()
        self._children_cpu_s, self._peak_rss_bytes = usage.children_cpu_s, usage.peak_rss_bytes
        return usage

    def _guarded(self, run: Run) -> tuple[Output, Failure | None]:
        try:
            try:
                output = self._call(run)
            finally:
                self._gate.close()  # a TaskCancelled just before this has closed the gate already
        except BaseException as error:  # a task's SystemExit or KeyboardInterrupt is its failure and does not end the worker
            self._end_forked_child(error)
            failure = failure_of_job(run.job, error, self._blobs)
            if failure is None and self._gate.reached:
                failure = Failure("cancelled", "cancelled")
            # The frames hold the task's arguments, which would otherwise live until the next failure.
            error.__traceback__ = None
            return Output(), failure
        self._end_forked_child(None)
        if self._gate.reached:
            return Output(), Failure("cancelled", "cancelled")
        return output, None

    def _call(self, run: Run) -> Output:
        job = run.job
        assert not isinstance(job, ShellJob), "shell jobs run in a child"
        marks = {b"TMAX_TASK_ID": b"%d" % run.task, b"TMAX_ATTEMPT": b"%d" % run.attempt}
        changed = True
        try:
            changed = self._environment.enter(job, marks)
        finally:
            if changed:
                self._isolation.rebase()
        self._gate.open((run.task, run.attempt))
        if isinstance(job, PythonJob) and self._enter_context(job):
            self._gate.suspended(self._isolation.rebase)
        return registry.call(job, self._blobs, self._call_function)

    def _call_function(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        value = self._isolation.call(function, args, kwargs)
        self._environment.lift_file_limit()
        return value

    def _enter_context(self, job: PythonJob) -> bool:
        try:
            return self._context.enter(job)
        except NeedsBareProcess as needs:
            self._start_bare(needs)
            raise Refused(
                f"the program has its own {needs}, and a worker cannot unload the one that it has imported",
                "start the swarm with the program's Python: tmax init --python",
            ) from None

    def _end_forked_child(self, error: BaseException | None) -> None:
        """Exit in a child that a task forked and that returned here: it must not continue as a second worker."""
        if getpid() != self._pid:
            _exit(end_child(error))
