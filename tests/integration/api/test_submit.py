"""Handing work to a swarm from Python, and what comes back: real workers."""

from __future__ import annotations

import asyncio
import operator
import os
import signal
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, as_completed
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.api import work
from tests.wait import wait_until
from tmax import Swarm
from tmax.api.future import TaskFuture
from tmax.api.task_errors import ResultNotSendable, TaskDead, TaskFailed, TaskInterrupted, TaskTimeout
from tmax.errors import UsageError
from tmax_pipes.options_struct import GivenOptions


class Blockers:
    """Tasks that hold every worker until the gate opens."""

    def __init__(self, swarm: Swarm, folder: Path, count: int) -> None:
        self.mark, self.gate = folder / "mark", folder / "gate"
        self.futures = [swarm.submit(work.leave_mark_and_wait, str(self.mark), str(self.gate)) for _ in range(count)]
        wait_until(lambda: self.mark.exists() and len(self.mark.read_text().splitlines()) == count)

    def open(self) -> None:
        self.gate.touch()
        assert [future.result(20) for future in self.futures] == ["went on"] * len(self.futures)


def test_values_come_back(swarm: Swarm) -> None:
    future = swarm.submit(work.double, 21)
    assert future.result(20) == 42
    assert future.task_id and future.task_id > 0
    assert swarm.submit(pow, 2, exp=5).result(20) == 32


def test_lambdas_and_closures_travel(swarm: Swarm) -> None:
    factor = 3
    assert swarm.submit(lambda x: x * factor, 5).result(20) == 15


def test_the_exception_raised_there_is_raised_here_with_its_traceback(swarm: Swarm) -> None:
    with pytest.raises(KeyError) as caught:
        swarm.submit(work.fail, "what").result(20)
    assert caught.value.args == ("what",)
    assert "in fail" in str(caught.value.__cause__) and "work.py" in str(caught.value.__cause__)


def test_exceptions_that_cannot_travel_are_told_as_text_and_hurt_nothing(swarm: Swarm) -> None:
    for function, name in ((work.fail_unmakable, "OnlyHere"), (work.fail_unsendable, "Unsendable")):
        error = swarm.submit(function).exception(20)
        assert isinstance(error, TaskFailed | ResultNotSendable)
        assert name in str(error)
        assert "in fail_" in str(error.__cause__)
    assert swarm.submit(work.double, 1).result(20) == 2


def test_a_result_that_cannot_be_pickled_says_so(swarm: Swarm) -> None:
    with pytest.raises(ResultNotSendable, match="generator") as caught:
        swarm.submit(work.generator).result(20)
    assert caught.value.task > 0


def test_an_argument_that_cannot_be_pickled_fails_its_future(swarm: Swarm) -> None:
    future = swarm.submit(repr, (x for x in [1]))
    with pytest.raises(TypeError, match="pickle"):
        future.result(0)


def test_large_bodies_go_both_ways(swarm: Swarm) -> None:
    data = os.urandom(3_000_000)
    assert swarm.submit(operator.concat, data, b"!").result(30) == data + b"!"


def test_a_missing_module_is_named(swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vanishing.py").write_text("def f(): return 'there'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import vanishing  # type: ignore[import-not-found]

    swarm.submit(abs, 1).result(20)  # with its first task a module is looked for: this one is found
    (tmp_path / "vanishing.py").unlink()
    error = swarm.submit(vanishing.f).exception(20)
    assert isinstance(error, TaskFailed | ModuleNotFoundError)
    assert "vanishing" in str(error)


def test_modules_of_the_submitters_path_are_found(swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nearby.py").write_text("def f(): return 'found'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import nearby  # type: ignore[import-not-found]

    assert swarm.submit(nearby.f).result(20) == "found"


def test_map_keeps_the_order_and_ends_with_the_shortest(swarm: Swarm) -> None:
    assert list(swarm.map(operator.add, range(50), range(100, 140))) == [100 + 2 * x for x in range(40)]
    assert list(swarm.map(operator.neg, range(100), chunksize=7)) == [-x for x in range(100)]
    assert list(swarm.map(lambda x: x + 1, range(20), chunksize=6)) == list(range(1, 21))
    assert list(swarm.map(work.double, [])) == []
    with pytest.raises(ValueError, match="chunksize"):
        swarm.map(work.double, [1], chunksize=0)


def test_map_raises_in_place(swarm: Swarm) -> None:
    results = swarm.map(operator.truediv, [1, 1, 1], [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(ZeroDivisionError):
        list(swarm.map(operator.truediv, [1, 1, 1], [1, 0, 1], chunksize=2))


def test_a_map_that_is_not_in_time_cancels_what_has_not_begun(swarm: Swarm, tmp_path: Path) -> None:
    blockers = Blockers(swarm, tmp_path, 2)
    before = swarm.status().tasks["cancelled"]
    with pytest.raises(FutureTimeout):
        list(swarm.map(work.double, range(40), timeout=0.1))
    wait_until(lambda: swarm.status().tasks["cancelled"] - before >= 30, story=lambda: str(swarm.status().tasks))
    blockers.open()


def test_as_completed_and_asyncio_work(swarm: Swarm) -> None:
    futures = [swarm.submit(work.double, x) for x in range(20)]
    assert sorted(future.result() for future in as_completed(futures, 20)) == list(range(0, 40, 2))

    async def ask() -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(swarm, work.double, x) for x in range(5)))

    assert asyncio.run(ask()) == [0, 2, 4, 6, 8]


def test_cancel_takes_back_what_waits_and_leaves_what_runs(swarm: Swarm, tmp_path: Path) -> None:
    blockers = Blockers(swarm, tmp_path, 2)
    waiting = [swarm.options(priority="low").submit(work.double, x) for x in range(300)]
    wait_until(lambda: waiting[-1].task_id)
    assert waiting[-1].cancel()
    assert waiting[-1].cancelled()
    assert not blockers.futures[0].cancel()
    blockers.open()
    assert [future.result(20) for future in waiting[:-1]] == [2 * x for x in range(299)]
    with pytest.raises(CancelledError):
        waiting[-1].result(0)
    assert not waiting[0].cancel()


def test_cancel_never_ends_what_has_begun(swarm: Swarm, tmp_path: Path) -> None:
    """Short tasks are sent ahead, and each begins at a moment that nobody here knows."""
    list(swarm.map(work.double, range(200)))
    ended = []
    for turn in range(20):
        futures = [swarm.submit(work.begin_and_end, str(tmp_path / f"{turn}-{x}")) for x in range(12)]
        wait_until(lambda futures=futures: all(future.task_id for future in futures))
        TaskFuture.withdraw_all(futures)
        for future in futures:
            assert future.cancelled() or future.result(20) == "ended"
        ended.append(sum(not future.cancelled() for future in futures))
    assert all(ended), "what an idle worker was given has begun"
    assert sum(ended) == len(list(tmp_path.glob("*.begun"))) == len(list(tmp_path.glob("*.ended")))


def test_a_timeout_is_a_timeout_error_and_the_worker_goes_on(swarm: Swarm, tmp_path: Path) -> None:
    slow = swarm.options(timeout=0.2, grace=0.5).submit(work.leave_mark_and_wait, str(tmp_path / "m"), str(tmp_path / "never"))
    with pytest.raises(TaskTimeout) as caught:
        slow.result(20)
    assert caught.value.task == slow.task_id
    assert swarm.submit(work.double, 1).result(20) == 2


def test_a_task_whose_workers_die_is_a_broken_executor_and_nothing_else_breaks(swarm: Swarm) -> None:
    dead = swarm.options(deliveries=2, name="murderer").submit(work.die)
    others = [swarm.submit(work.double, x) for x in range(50)]
    with pytest.raises(TaskDead) as caught:
        dead.result(30)
    error = caught.value
    assert isinstance(error, BrokenExecutor)
    assert (error.task, error.signal, len(error.causes)) == (dead.task_id, signal.SIGKILL, 2)
    assert error.worker.startswith("w")
    assert [future.result(30) for future in others] == [2 * x for x in range(50)]


def test_what_must_not_run_twice_is_interrupted(swarm: Swarm, tmp_path: Path) -> None:
    once = swarm.options(idempotent=False).submit(work.leave_mark_and_wait, str(tmp_path / "mark"), str(tmp_path / "gate"))
    wait_until(lambda: (tmp_path / "mark").exists() and (tmp_path / "mark").read_text().endswith("\n"))
    os.kill(int((tmp_path / "mark").read_text()), signal.SIGKILL)
    with pytest.raises(TaskInterrupted):
        once.result(30)
    assert len((tmp_path / "mark").read_text().splitlines()) == 1


def test_a_command_has_this_programs_umask_and_limits(swarm: Swarm) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = os.umask(0o031)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 3, hard))
    try:
        first = swarm.shell(["sh", "-c", "umask; ulimit -S -n"])
    finally:
        os.umask(before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert first.result(20).output.split() == [b"0031", b"%d" % (soft - 3)]


def test_what_a_command_leaves_running_ends_or_is_kept(swarm: Swarm) -> None:
    leave = ["sh", "-c", "sleep 300 & echo $!"]
    ended = int(swarm.shell(leave).result(20).output)
    kept = int(swarm.options(keep_background=True).options(name="x").shell(leave).result(20).output)
    assert not os.path.exists(f"/proc/{ended}")
    os.kill(kept, 9)


def test_programs_give_their_status(swarm: Swarm, tmp_path: Path) -> None:
    done = swarm.shell(["sh", "-c", "pwd; echo $A; exit 3"], cwd=tmp_path, env={"A": "b c", "PATH": os.environ["PATH"]}).result(20)
    assert (done.exit_code, done.ok) == (3, False)
    assert done.output.replace(b"\r", b"") == f"{tmp_path}\nb c\n".encode()
    assert swarm.shell(["sh", "-c", "kill -9 $$"]).result(20).returncode == -9
    assert swarm.shell([b"true"]).result(20).ok
    long = swarm.shell(["seq", "5000"]).result(20)
    assert long.output == b"" and Path(long.log).read_text().split()[-1] == "5000"
    with pytest.raises(TaskFailed, match="no-such-command"):
        swarm.shell(["no-such-command-here"]).result(20)
    with pytest.raises(TypeError):
        swarm.shell("true")


def test_kernels_give_their_figures_and_refusals(swarm: Swarm) -> None:
    told = swarm.kernel("matmul", n=64, backend="numpy", dtype="float32").result(60)
    assert told["device"] == "cpu" and told["dtype"] == "float32"
    with pytest.raises(TaskFailed, match="matmulx"):
        swarm.kernel("matmulx", n=3).result(20)


def test_kernels_are_checked_before_they_are_sent(swarm: Swarm) -> None:
    for wrong in ({"device": "gpu"}, {"backend": "jax"}, {"repeat": 0}, {"seed": "x"}, {"n": None}, {"n": np.int64(8)}, {"dtype": 8}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            swarm.kernel("matmul", **wrong)
    assert swarm.submit(work.double, 2).result(20) == 4


def test_options_are_checked_where_they_are_said_and_views_stack(swarm: Swarm) -> None:
    for wrong in (
        {"priority": "urgent"},
        {"timeout": -1},
        {"retries": -1},
        {"deliveries": 0},
        {"grace": float("nan")},
        {"name": "x" * 201},
        {"priority": ["high"]},
        {"retries": 1.5},
        {"timeout": True},
        {"fresh": "no"},
        {"idempotent": 0},
    ):
        with pytest.raises(UsageError):
            swarm.options(**wrong)
    with pytest.raises(TypeError, match="no option 'bogus'; options: name, priority, timeout, grace, "):
        swarm.options(bogus=1)  # type: ignore[arg-type]
    view = swarm.options(name="one", retries=2).options(priority="high")
    assert view._options == GivenOptions(name="one", retries=2, priority="high")
    assert view.submit(work.double, 2).result(20) == 4
    assert list(view.map(work.double, [1, 2])) == [2, 4]


def test_a_failed_task_is_retried_as_often_as_asked(swarm: Swarm, tmp_path: Path) -> None:
    def third_time(path: str) -> int:
        with Path(path).open("a+", encoding="utf-8") as file:
            file.write("x")
            file.seek(0)
            if len(file.read()) < 3:
                raise OSError("not yet")
        return 3

    assert swarm.options(retries=2).submit(third_time, str(tmp_path / "tries")).result(30) == 3


def test_the_picture_shows_the_workers(swarm: Swarm) -> None:
    status = swarm.status()
    assert status.swarm == swarm.name
    assert swarm.name.startswith("tmp-")
    wait_until(lambda: [worker.name for worker in swarm.workers() if worker.state in {"idle", "busy"}] == ["w1", "w2"])


def test_a_future_of_many_callbacks(swarm: Swarm) -> None:
    seen: list[int] = []
    call: Callable[[Any], None] = lambda future: seen.append(future.result())  # noqa: E731 - used many times
    for x in range(30):
        swarm.submit(work.double, x).add_done_callback(call)
    wait_until(lambda: len(seen) == 30)
    assert sorted(seen) == list(range(0, 60, 2))
