"""CPython's own tests of process pools, with ``tmax.Executor`` in the place of ``ProcessPoolExecutor``.

Run by ``scripts/cpython_tests`` in an interpreter that has the package ``test``; prints one JSON object: what became of each test.

::

    test.test_concurrent_futures.*  the mixins, unchanged
      + TmaxMixin                   makes the pool
      - OTHER                       tests that ask for what tmax does otherwise: docs/differences.md has the id beside each
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import select
import sys
import unittest
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from pickle import UnpicklingError
from typing import Any

from test import support
from test.test_concurrent_futures import (  # type: ignore[import-not-found,unused-ignore]
    test_as_completed,
    test_deadlock,
    test_init,
    test_process_pool,
    test_shutdown,
    test_wait,
    util,
)

import tmax
from tmax.api.task_errors import ResultNotSendable

OTHER = {
    "Pool.test_killed_child": "D2: a killed worker does not break the pool; its task runs on another one",
    "Pool.test_ressources_gced_in_workers": "D12: a manager's objects need the authentication key of the program",
    "Pool.test_saturation": "D11: a semaphore of multiprocessing is for a process's own children",
    "Pool.test_idle_process_reuse_one": "D8: all workers start with the pool",
    "Pool.test_idle_process_reuse_multiple": "D8: all workers start with the pool",
    "Pool.test_max_tasks_per_child_defaults_to_spawn_context": "D8: there is no mp_context",
    "Pool.test_python_finalization_error": "D8: replaces a thread inside ProcessPoolExecutor",
    "Pool.test_traceback": "D7: the cause is tmax.api.task_errors.RemoteTraceback",
    "Shutdown.test_interpreter_shutdown": "D1: what a task prints goes to its log",
    "Shutdown.test_hang_gh83386": "D1: what a task prints goes to its log",
    "Shutdown.test_processes_terminate": "D11: a semaphore of multiprocessing is for a process's own children",
    "Shutdown.test_del_shutdown": "D8: looks at the inside of ProcessPoolExecutor",
    "Shutdown.test_shutdown_no_wait": "D8: looks at the inside of ProcessPoolExecutor",
    "Deadlock.test_gh105829_should_not_deadlock_if_wakeup_pipe_full": "D8: replaces a thread inside ProcessPoolExecutor",
    "Deadlock.test_shutdown_deadlock_pickle": "D8: looks at the inside of ProcessPoolExecutor",
}
"""Test by class and name: the documented difference that keeps it from applying."""


OTHER_ERRORS: dict[str, tuple[str, type[BaseException]]] = {
    "test_error_at_task_unpickle": ("D6", UnpicklingError),
    "test_exit_at_task_unpickle": ("D6", SystemExit),
    "test_error_during_result_pickle_on_worker": ("D5", ResultNotSendable),
    "test_exit_during_result_pickle_on_worker": ("D5", SystemExit),
    "test_error_during_result_unpickle_in_result_handler": ("D6", ResultNotSendable),
    "test_exit_during_result_unpickle_in_result_handler": ("D6", ResultNotSendable),
}
"""Tests whose future fails with another exception than there: the id of the difference, and the exception."""


class Process:
    """A worker's process, which is no child of the program."""

    def __init__(self, pid: int) -> None:
        self._fd = os.pidfd_open(pid)

    def join(self) -> None:
        """Wait until it has ended."""
        try:
            if not select.select([self._fd], [], [], 30)[0]:
                raise AssertionError("a worker outlives its pool")
        finally:
            os.close(self._fd)


class Pool(tmax.Executor):
    """What the tests read of the inside of a pool, where tmax has the same fact."""

    @property
    def _processes(self) -> dict[int, Process]:
        return {worker.pid: Process(worker.pid) for worker in self.workers() if worker.pid}

    @property
    def _max_workers(self) -> int:
        return len(self.workers())

    @property
    def _broken(self) -> bool:
        return self._context.broken is not None


class TmaxMixin(util.ExecutorMixin):  # type: ignore[misc,unused-ignore]
    """Makes a pool of tmax for each test."""

    executor_type = Pool
    worker_count = 3

    def get_context(self) -> Any:
        """Some tests hand it to the pool."""
        return multiprocessing.get_context("spawn")


class PoolTest(TmaxMixin, test_process_pool.ProcessPoolExecutorTest, util.BaseTestCase):  # type: ignore[misc,unused-ignore]
    pass


class ShutdownTest(TmaxMixin, test_shutdown.ProcessPoolShutdownTest, util.BaseTestCase):  # type: ignore[misc,unused-ignore]
    pass


class WaitTest(TmaxMixin, test_wait.WaitTests, util.BaseTestCase):  # type: ignore[misc,unused-ignore]
    pass


class AsCompletedTest(TmaxMixin, test_as_completed.AsCompletedTests, util.BaseTestCase):  # type: ignore[misc,unused-ignore]
    pass


class DeadlockTest(TmaxMixin, test_deadlock.ExecutorDeadlockTest, util.BaseTestCase):  # type: ignore[misc,unused-ignore]
    def _check_crash(self, error: type[BaseException], func: Any, *args: Any, ignore_stderr: bool = False) -> None:
        ours = OTHER_ERRORS.get(self._testMethodName, ("", error))[1]
        super()._check_crash(ours, func, *args, ignore_stderr=ignore_stderr)


class InitTest(TmaxMixin, test_init.InitializerMixin, util.BaseTestCase):  # type: ignore[misc,unused-ignore]
    pass


class FailingInitTest(TmaxMixin, test_init.FailingInitializerMixin, util.BaseTestCase):  # type: ignore[misc,unused-ignore]
    @contextlib.contextmanager
    def _assert_logged(self, msg: str) -> Iterator[None]:
        yield  # the worker's error is the future's, not a line of the program's log


CASES = (PoolTest, ShutdownTest, WaitTest, AsCompletedTest, DeadlockTest, InitTest, FailingInitTest)


def in_a_program(*args: str, **env: str) -> tuple[int, bytes, bytes]:
    """Run a program of the tests with tmax's pool, in our environment (theirs would be an isolated one)."""
    changed = [arg.replace("from concurrent.futures import Pool", "from tmax import Executor as Pool") for arg in args]
    result: tuple[int, bytes, bytes] = _assert_python_ok(*changed, __isolated=False, **{**os.environ, **env})
    return result


_assert_python_ok = test_shutdown.assert_python_ok
test_shutdown.assert_python_ok = in_a_program
support.verbose = 0  # else it prints times to our standard output
# A broken pool of tmax is a BrokenExecutor (D2).
test_deadlock.BrokenProcessPool = BrokenExecutor
test_shutdown.futures.ProcessPoolExecutor = Pool


class Result(unittest.TestResult):
    """What became of each test, by its short name."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: dict[str, str] = {}

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.ends.setdefault(name_of(test), "passed")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self.ends[name_of(test)] = f"skipped: {reason}"

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self.ends[name_of(test)] = self.failures[-1][1]

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        self.ends[name_of(test)] = self.errors[-1][1]

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self.addError(test, err)


def name_of(test: unittest.TestCase) -> str:
    """``Pool.test_map``."""
    return f"{type(test).__name__.removesuffix('Test')}.{test.id().rpartition('.')[2]}"


def main(words: list[str]) -> int:
    """Run the tests named (none: all that apply; ``1/2``: every second one) and print what became of them."""
    result = Result()
    loader = unittest.TestLoader()
    tests = {name_of(test): test for test in (case(method) for case in CASES for method in loader.getTestCaseNames(case))}
    chosen = [name for name in tests if name not in OTHER]
    if words and "/" in words[0]:
        part, parts = map(int, words[0].split("/"))
        chosen = chosen[part - 1 :: parts]
    elif words:
        chosen = words
    for name in chosen:
        print(name, file=sys.stderr, flush=True)
        tests[name].run(result)
        if result.ends.get(name, "passed") != "passed":
            print(result.ends[name], file=sys.stderr, flush=True)
    print(json.dumps({"ends": result.ends, "other": {name: why for name, why in OTHER.items() if name in tests}}))
    return int(not result.wasSuccessful())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
