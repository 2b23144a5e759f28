"""Every end of a task, as its future shows it."""

from __future__ import annotations

import pickle
import traceback
from concurrent.futures import BrokenExecutor, CancelledError
from pathlib import Path
from typing import Any

import pytest

from tmax.api.future import TaskFuture
from tmax.api.outcomes import ExitStatus, ResultResolver
from tmax.api.task_errors import ResultNotSendable, SwarmGone, TaskDead, TaskFailed, TaskInterrupted, TaskTimeout
from tmax.control.protocol import BulkEnd
from tmax.core.model import Crash
from tmax_pipes import blobs
from tmax_pipes.jobs import Blob
from tmax_pipes.messages import Failure, Report


class Nobody:
    def withdraw(self, futures: list[TaskFuture[Any]], /) -> None:
        raise AssertionError("nothing is to be cancelled here")


def future_of(end: BulkEnd, folder: Path, kind: str = "python") -> TaskFuture[Any]:
    future: TaskFuture[Any] = TaskFuture(Nobody(), kind)
    ResultResolver(str(folder), "/logs").settle(future, end)
    return future


def failed(failure: Failure, tmp_path: Path, state: str = "failed", **more: Any) -> BaseException:
    error = future_of(BulkEnd(id=7, state=state, failure=failure, worker="w2", **more), tmp_path).exception(timeout=0)  # type: ignore[arg-type]
    assert error is not None
    return error


class OnlyHere(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} {two}")


class Explodes:
    def __reduce__(self) -> Any:
        return int, ("not a number",)


def test_values_come_in_each_form(tmp_path: Path) -> None:
    assert future_of(BulkEnd(id=1, state="done", result=pickle.dumps({1: [2]}), form="pickle"), tmp_path).result(0) == {1: [2]}
    assert future_of(BulkEnd(id=1, state="done", result=b'{"seconds": 1.5}', form="json"), tmp_path).result(0) == {"seconds": 1.5}
    assert future_of(BulkEnd(id=1, state="done"), tmp_path).result(0) is None


def test_a_large_value_is_read_from_its_file_and_a_lost_file_is_named(tmp_path: Path) -> None:
    body = blobs.body_of(tmp_path, pickle.dumps("x" * 100_000))
    assert isinstance(body, Blob)
    end = BulkEnd(id=1, state="done", result=body, form="pickle")
    assert future_of(end, tmp_path).result(0) == "x" * 100_000
    (tmp_path / body.digest).unlink()
    with pytest.raises(ResultNotSendable, match=body.digest):
        future_of(end, tmp_path).result(0)


def test_a_value_that_explodes_on_arrival_fails_only_its_own_future(tmp_path: Path) -> None:
    error = future_of(BulkEnd(id=3, state="done", result=pickle.dumps(Explodes()), form="pickle"), tmp_path).exception(0)
    assert isinstance(error, ResultNotSendable)
    assert error.task == 3
    assert "ValueError" in error.message and isinstance(error.__cause__, ValueError)


def test_the_exception_that_was_raised_comes_back_with_the_remote_traceback(tmp_path: Path) -> None:
    failure = Failure(
        kind="exception", message="KeyError: 'x'", traceback="Traceback ... in work\nKeyError", error=pickle.dumps(KeyError("x"))
    )
    error = failed(failure, tmp_path)
    assert isinstance(error, KeyError) and error.args == ("x",)
    shown = "".join(traceback.format_exception(error))
    assert "in work" in shown and "RemoteTraceback" in shown


def test_an_exception_that_cannot_be_made_again_is_shown_as_text(tmp_path: Path) -> None:
    failure = Failure(kind="exception", message="OnlyHere: 1 2", traceback="Traceback: there", error=pickle.dumps(OnlyHere(1, 2)))
    error = failed(failure, tmp_path)
    assert isinstance(error, TaskFailed)
    assert "OnlyHere: 1 2" in str(error) and (error.task, error.kind, error.worker) == (7, "exception", "w2")
    assert "there" in str(error.__cause__)


def test_refusals_and_missing_things_carry_their_hint(tmp_path: Path) -> None:
    error = failed(Failure(kind="refused", message="not square", hint="give n"), tmp_path)
    assert isinstance(error, TaskFailed) and "not square" in str(error) and "give n" in str(error)


def test_what_cannot_be_sent_says_so(tmp_path: Path) -> None:
    error = failed(Failure(kind="unpicklable", message="cannot pickle generator", traceback="Traceback: here"), tmp_path)
    assert isinstance(error, ResultNotSendable) and error.traceback == "Traceback: here"


def test_a_timeout_is_a_timeout_error(tmp_path: Path) -> None:
    error = failed(Failure(kind="timeout", message="took longer than 2 s"), tmp_path)
    assert isinstance(error, TaskTimeout) and isinstance(error, TimeoutError)
    assert (error.task, error.worker) == (7, "w2")


def test_a_dead_task_is_a_broken_executor_with_the_facts(tmp_path: Path) -> None:
    crashes = tuple(
        Crash(at=1.0, life=life, worker=f"w{life}", cause="killed by SIGKILL", signal=9, peak_rss_bytes=life * 1000) for life in (1, 2, 3)
    )
    error = future_of(BulkEnd(id=7, state="dead", crashes=crashes), tmp_path).exception(0)
    assert isinstance(error, TaskDead) and isinstance(error, BrokenExecutor)
    assert (error.task, error.signal, error.peak_rss_bytes, error.worker) == (7, 9, 3000, "w3")
    assert len(error.causes) == 3 and "3 times" in str(error)


def test_an_interrupted_task_is_another_one(tmp_path: Path) -> None:
    error = future_of(BulkEnd(id=7, state="interrupted", worker="w1"), tmp_path).exception(0)
    assert isinstance(error, TaskInterrupted) and error.signal is None and error.worker == "w1"


def test_a_cancelled_task_is_a_cancelled_future(tmp_path: Path) -> None:
    future = future_of(BulkEnd(id=7, state="cancelled", failure=Failure(kind="cancelled", message="x")), tmp_path)
    assert future.cancelled()
    with pytest.raises(CancelledError):
        future.result(0)


def test_a_forgotten_task_is_a_gone_swarm(tmp_path: Path) -> None:
    assert isinstance(future_of(BulkEnd(id=7, state="unknown"), tmp_path).exception(0), SwarmGone)


def test_a_program_gives_its_status_whatever_it_is(tmp_path: Path) -> None:
    fine = future_of(BulkEnd(id=7, state="done", report=Report(tail=b"hi\n", output_bytes=3, duration_s=0.5)), tmp_path, "shell").result(0)
    assert fine == ExitStatus(task=7, exit_code=0, output=b"hi\n", duration_s=0.5) and fine.ok and fine.returncode == 0
    three = Failure(kind="exit", message="exit status 3", exit_code=3)
    long = BulkEnd(id=8, state="failed", failure=three, report=Report(output_bytes=9000), worker="w1")
    status = future_of(long, tmp_path, "shell").result(0)
    assert (status.exit_code, status.ok, status.log, status.worker) == (3, False, "/logs/8.log", "w1")
    killed = BulkEnd(id=9, state="failed", failure=Failure(kind="signal", message="killed", signal=9))
    assert future_of(killed, tmp_path, "shell").result(0).returncode == -9


def test_a_program_that_is_missing_is_an_exception(tmp_path: Path) -> None:
    end = BulkEnd(id=7, state="failed", failure=Failure(kind="notfound", message="no such command: tru"))
    assert isinstance(future_of(end, tmp_path, "shell").exception(0), TaskFailed)


def test_a_future_ended_by_somebody_else_is_left_alone(tmp_path: Path) -> None:
    future: TaskFuture[Any] = TaskFuture(Nobody(), "python")
    future.cancelled_by_swarm()
    ResultResolver(str(tmp_path), "").settle(future, BulkEnd(id=1, state="done", result=pickle.dumps(1), form="pickle"))
    assert future.cancelled()
