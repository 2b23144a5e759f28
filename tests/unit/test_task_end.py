"""Every end, at every interface: one table."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from msgspec import to_builtins

from tmax.api.future import TaskFuture
from tmax.api.outcomes import ExitStatus, ResultResolver
from tmax.api.task_errors import ResultNotSendable, TaskDead, TaskFailed, TaskInterrupted, TaskTimeout, initializer_failed
from tmax.cli import outcome, output
from tmax.cli.verbs import ps, run
from tmax.controller.views import task_details, task_view
from tmax.controller.watchers import bulk_end
from tmax.core.model import Outcome, Task, TaskState
from tmax.core.snapshot import Latency, Snapshot
from tmax.core.tables import ps_text
from tmax.task_end import ENDS, end_in_words, end_of
from tmax_dashboard.rows import task_rows
from tmax_pipes.jobs import KernelJob, PythonJob, ShellJob
from tmax_pipes.messages import Failure

JOBS = {"shell": ShellJob(argv=(b"true",)), "python": PythonJob(call=b"", label="f"), "kernel": KernelJob(name="matmul")}

# state, kind of the failure, its exit code, its signal -> what a shell sees, the program's own end, its status, its signal
TABLE: list[tuple[str, str, int | None, int | None, int, bool, int | None, int | None]] = [
    ("done", "", None, None, 0, True, 0, None),
    ("failed", "exit", 3, None, 3, True, 3, None),
    ("failed", "exit", 255, None, 255, True, 255, None),
    ("failed", "signal", None, 15, 143, True, None, 15),
    ("failed", "signal", None, 9, 137, True, None, 9),
    ("failed", "notfound", 127, None, 127, False, 127, None),
    ("failed", "notfound", 126, None, 126, False, 126, None),
    ("failed", "notfound", None, None, 127, False, None, None),
    ("failed", "timeout", None, 15, 124, False, None, None),
    ("failed", "timeout", 1, None, 124, False, None, None),
    *[("failed", kind, None, None, 1, False, None, None) for kind in ("exception", "refused", "unpicklable", "initializer", "")],
    ("interrupted", "signal", None, 9, 137, False, None, None),
    ("interrupted", "signal", None, 15, 143, False, None, None),
    ("interrupted", "signal", None, None, 1, False, None, None),
    ("interrupted", "cancelled", 0, None, 1, False, None, None),
    ("interrupted", "", None, None, 1, False, None, None),
    ("dead", "signal", None, 11, 139, False, None, None),
    ("dead", "", None, None, 1, False, None, None),
    ("cancelled", "cancelled", 0, None, 130, False, None, None),
    ("cancelled", "cancelled", None, 15, 130, False, None, None),
    ("cancelled", "", None, None, 130, False, None, None),
]


@pytest.mark.parametrize(("state", "kind", "exit_code", "signal", "code", "own", "status", "by"), TABLE)
def test_the_table(
    state: str, kind: str, exit_code: int | None, signal: int | None, code: int, own: bool, status: int | None, by: int | None
) -> None:
    end = end_of(state, kind, exit_code, signal)
    assert (end.exit_code, end.is_own, end.status, end.signal, end.ok) == (code, own, status, by, state == "done")


def test_no_combination_of_anything_gives_a_success_a_status_or_a_signal_that_is_not_the_programs() -> None:
    kinds = ("", "exception", "exit", "signal", "notfound", "refused", "unpicklable", "initializer", "timeout", "cancelled")
    for state, kind, exit_code, signal in itertools.product(ENDS, kinds, (None, 0, 1, 130, 255), (None, 0, 9, 15, 64)):
        end = end_of(state, kind, exit_code, signal)
        assert (end.exit_code == 0) == (state == "done"), (state, kind, exit_code, signal)
        assert 0 <= end.exit_code <= 255 and end.words
        if state in {"dead", "interrupted", "cancelled"}:
            assert (end.is_own, end.status, end.signal) == (False, None, None)
        assert end.is_explained or state in {"failed", "dead", "interrupted"}


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize(("state", "kind", "exit_code", "signal", "code", "own", "status", "by"), TABLE)
def test_five_interfaces_say_the_same(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    job: str,
    state: str,
    kind: str,
    exit_code: int | None,
    signal: int | None,
    code: int,
    own: bool,
    status: int | None,
    by: int | None,
) -> None:
    failure = Failure(kind=kind, message="the message", exit_code=exit_code, signal=signal) if kind else None  # type: ignore[arg-type]
    task = Task(
        id=7,
        job=JOBS[job],
        kind=job,
        submitted_at=1.0,
        ended_at=2.0,
        state=TaskState(state),
        outcome=Outcome(failure=failure),
    )
    # JSON
    view, story = task_view(task), task_details(task)
    assert (view.signal, story["exit_code"]) == (by, view.exit_code)
    assert view.exit_code == (status if job == "shell" or state != "done" else None)
    assert state == "done" or view.why
    # run, wait, result
    common = output.Common(swarm="default")
    assert run.finish(common, to_builtins(story), "") == code
    err = capfd.readouterr().err
    assert bool(err) == (state != "done" and not end_of(state, kind, exit_code, signal).is_explained)
    assert outcome.show(common, story, "") == (0 if state == "done" else 1)
    assert state == "done" or end_in_words(state, view.why) in capfd.readouterr().err
    # ps, dashboard
    assert state in ps_text([view], 3.0) and view.why in ps_text([view], 3.0)
    (row,) = task_rows(snapshot(view), 5)
    assert [row.cells[1].text, view.why in row.cells[2].text] == [state, True]
    # futures
    future: TaskFuture[Any] = TaskFuture(None, job)  # type: ignore[arg-type]
    ResultResolver(str(tmp_path), "").settle(future, bulk_end(task))
    check_future(future, job, state, kind, own=own, status=status, by=by)


def check_future(future: TaskFuture[Any], job: str, state: str, kind: str, *, own: bool, status: int | None, by: int | None) -> None:
    if state == "cancelled":
        with pytest.raises(CancelledError):
            future.result(0)
    elif state in {"dead", "interrupted"}:
        assert type(future.exception(0)) is (TaskDead if state == "dead" else TaskInterrupted)
    elif job == "shell" and own:
        found = future.result(0)
        assert isinstance(found, ExitStatus)
        assert (found.exit_code, found.signal, found.ok) == (status, by, state == "done")
        assert found.returncode == (status if status is not None else -(by or 0))
    elif state == "done":
        assert future.result(0) is None
    else:
        classes = {"timeout": TaskTimeout, "unpicklable": ResultNotSendable, "initializer": type(initializer_failed(""))}
        assert type(future.exception(0)) is classes.get(kind, TaskFailed)


def snapshot(view: Any) -> Snapshot:
    return Snapshot(
        swarm="s",
        controller_pid=1,
        epoch=1,
        version="",
        at=3.0,
        uptime_s=1.0,
        ready=True,
        held=False,
        workers_wanted=1,
        workers=(),
        tasks={},
        tasks_per_min=0.0,
        latency=Latency(),
        recent=(view,),
    )


def test_it_costs_the_command_line_nothing() -> None:
    code = "import sys; before = set(sys.modules); import tmax.task_end; print(sorted(set(sys.modules) - before))"
    said = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True).stdout
    assert said == "['__future__', 'tmax', 'tmax.task_end', 'tmax.version']\n"


def test_the_lists_belong_together() -> None:
    assert sorted(ps.STATES[4:]) == sorted(ENDS)
    assert {state for state, *_ in TABLE} == set(ENDS)
