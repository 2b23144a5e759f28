"""The sample job's report: every figure is that of the records, and what went wrong is said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from examples import run_sample
from examples.report import KINDS, Record, Run, figures_of, kernel_rows, not_accepted, record_of, report, same, table
from examples.sample_job import KernelRun, kernel_check
from tmax.api.outcomes import ExitStatus
from tmax.controller.views import task_details
from tmax.core.model import Outcome, Task, TaskState
from tmax_pipes.jobs import KernelJob, ShellJob
from tmax_pipes.messages import Failure, Report

FIGURES = {
    "kernel": "matmul",
    "backend": "numpy",
    "device_name": "cpu",
    "shape": [[4, 4], [4, 4]],
    "median_s": 0.002,
    "gflops": 31.25,
    "checksum": 5.0,
}


def record(number: int, kind: str, worker: str, began: float, ended: float, cpu_s: float, **more: Any) -> Record:
    values = {"label": f"{kind} {number}", "state": "done", "duration_s": ended - began, **more}
    return Record(id=number, kind=kind, worker=worker, submitted_at=began, ended_at=ended, cpu_s=cpu_s, **values)


RECORDS = (
    record(1, "kernel", "w1", 100.0, 102.0, 3.0, device="cpu", figures=FIGURES),
    record(2, "kernel", "w2", 100.5, 104.0, 3.0, device="cpu", figures={**FIGURES, "median_s": 0.004, "gflops": 15.625}),
    record(3, "python", "w1", 104.0, 105.0, 1.5),
    record(4, "shell", "w3", 105.0, 105.5, 0.1),
    record(5, "shell", "w3", 105.0, 105.25, 0.1),
)
MATMUL = KernelRun(name="matmul", n=4, backend="numpy", repeat=1)
CHECKS: dict[str, Any] = {"kernel": [kernel_check(MATMUL, 5.0)], "python": {"tokens": 7}, "shell": {"files": 2, "digest": "ab"}}
PLAIN: dict[str, Any] = {
    "import_s": 0.5,
    "total_s": 8.0,
    "kinds": {kind: {"tasks": 1, "seconds": 2.0 + place, "check": CHECKS[kind]} for place, kind in enumerate(KINDS)},
}
RUN = Run(swarm="default", workers=("w1", "w2", "w3"), cores=2, python="3.12.1", records=RECORDS, checks=CHECKS, plain=PLAIN)


def test_figures_are_those_of_the_records() -> None:
    kernel = figures_of("kernel", RECORDS)
    assert (kernel.tasks, kernel.done, kernel.seconds, kernel.cpu_s) == (2, 2, 4.0, 6.0)
    assert kernel.per_second == 0.5
    assert kernel.cpu_share(cores=2) == 0.75
    assert dict(kernel.workers) == {"w1": 1, "w2": 1}
    assert kernel.devices == ("cpu",)


def test_no_tasks_are_zeros_and_no_division() -> None:
    empty = figures_of("kernel", ())
    assert (empty.tasks, empty.seconds, empty.per_second, empty.cpu_share(cores=4)) == (0, 0.0, 0.0, 0.0)


def test_the_report_says_it_all() -> None:
    assert RUN.ok
    assert report(RUN) == (
        "Sample job on swarm 'default': 3 workers, 2 cores, Python 3.12.1\n"
        "\n"
        "kind    tasks  failed  seconds  tasks/s  CPU of 2 cores  device  one process  same results\n"
        "kernel      2       0     4.00      0.5            75 %  cpu          2.00 s  yes (within 1e-09)\n"
        "python      1       0     1.00      1.0            75 %  -            3.00 s  yes\n"
        "shell       2       0     0.50      4.0            20 %  -            4.00 s  yes\n"
        "\n"
        "ran by  w1  w2  w3\n"
        "kernel   1   1   0\n"
        "python   1   0   0\n"
        "shell    0   0   2\n"
        "\n"
        "kernel  of         with   on   tasks  one run          rate\n"
        "matmul  4x4 @ 4x4  numpy  cpu      2   3.0 ms  23.4 GFLOP/s\n"
        "\n"
        "The swarm: 5.5 s for all three, one kind after the other.\n"
        "One process (examples/plain.py): 8.0 s, of which 0.5 s are imports.\n"
        "Checksums of matmul float64: equal; within 1e-09 is the same (sums in another order).\n"
    )


def test_a_failed_task_is_told_and_the_run_is_not_ok() -> None:
    bad = replace(RECORDS[3], state="failed", why="exited with 3")
    run = replace(RUN, records=(*RECORDS[:3], bad, RECORDS[4]), checks={key: CHECKS[key] for key in ("kernel", "python")})
    text = report(run)
    assert not run.ok
    assert "FAILED: task 4 (shell, shell 4): failed: exited with 3\n" in text
    row = next(line for line in text.splitlines() if line.startswith("shell"))
    assert row.split() == ["shell", "2", "1", "0.50", "2.0", "20", "%", "-", "4.00", "s", "-"]


def test_a_task_that_was_never_accepted_fails_the_run() -> None:
    run = replace(RUN, records=(*RECORDS, not_accepted("python", "cannot be pickled")))
    assert not run.ok
    assert "FAILED: task 0 (python, ): not accepted: cannot be pickled" in report(run)
    assert figures_of("python", run.records).seconds == 1.0


def test_a_different_result_is_told_and_the_run_is_not_ok() -> None:
    run = replace(RUN, checks={**CHECKS, "python": {"tokens": 8}})
    assert not run.ok
    assert "DIFFERENT: the results of kind python are not those of the plain process\n" in report(run)
    assert [line.split()[-1] for line in report(run).splitlines()[3:6]] == ["1e-09)", "NO", "yes"]


def test_without_the_plain_process_nothing_is_claimed() -> None:
    run = replace(RUN, plain=None)
    assert not run.ok
    assert "(examples/plain.py): failed, so there is nothing to compare with" in report(run)
    assert [line.split()[-2:] for line in report(run).splitlines()[3:6]] == [["-", "-"]] * 3


def test_many_failures_are_counted_not_listed() -> None:
    bad = tuple(record(number, "shell", "w1", 1.0, 2.0, 0.0, state="failed", why="no") for number in range(13))
    text = report(replace(RUN, records=bad, checks={}))
    assert text.count("FAILED: task") == 10
    assert "FAILED: 3 more" in text


def test_a_checksum_beyond_the_stated_difference_is_told_with_its_distance() -> None:
    """As on a device that draws numbers of its own: near enough to be plausible, and not the same."""
    run = replace(RUN, checks={**CHECKS, "kernel": [kernel_check(MATMUL, 5.001)]})
    assert not run.ok
    assert "Checksums of matmul float64: at most 2e-04 apart; within 1e-09 is the same" in report(run)
    assert "DIFFERENT: the results of kind kernel are not those of the plain process\n" in report(run)
    assert run.agrees("kernel") is False
    assert replace(RUN, checks={**CHECKS, "kernel": [kernel_check(MATMUL, 5.0 + 4e-9)]}).ok


def test_each_type_of_number_has_its_own_distance() -> None:
    for dtype, apart in (("float64", 1e-7), ("float32", 1e-4), ("float16", 1e-2)):
        run = replace(MATMUL, dtype=dtype)
        assert not same([kernel_check(run, 1.0)], [kernel_check(run, 1.0 + apart)])
        assert same([kernel_check(run, 1.0)], [kernel_check(run, 1.0 + apart / 1000)])
    assert not same([kernel_check(MATMUL, 1.0)], [kernel_check(replace(MATMUL, dtype="float32"), 1.0)])


def checked(checksum: float | None) -> dict[str, object]:
    return kernel_check(MATMUL, checksum)


@pytest.mark.parametrize(
    ("ours", "plain", "agree"),
    [
        (checked(1.0), checked(1.0 + 1e-12), True),
        (checked(1.0), checked(1.001), False),
        (checked(None), checked(None), False),
        (checked(float("nan")), checked(float("nan")), False),
        (checked(1.0), {"checksum": 1.0}, False),
        (7, 8, False),
        (1.0, 1.0 + 1e-12, False),
        ({"a": [1.0, 2]}, {"a": (1.0, 2)}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([1], [1, 1], False),
        ("x", "x", True),
        (1.0, None, False),
    ],
)
def test_same(ours: object, plain: object, agree: bool) -> None:
    assert same(ours, plain) is agree


def test_records_are_read_from_what_show_answers() -> None:
    """The answer is made by the controller's own code, so that a renamed field is noticed here."""
    job = KernelJob(name="matmul", params={"n": 4})
    task = Task(
        id=9,
        job=job,
        kind="kernel",
        submitted_at=50.0,
        state=TaskState.DONE,
        ended_at=53.0,
        ran_on="w2",
        outcome=Outcome(report=Report(started_at=51.0, duration_s=1.5, cpu_s=1.25, device="cpu"), result=b'{"checksum": 5.0}', form="json"),
    )
    assert record_of(task_details(task)) == Record(
        id=9,
        kind="kernel",
        label="matmul n=4",
        state="done",
        worker="w2",
        submitted_at=50.0,
        ended_at=53.0,
        duration_s=1.5,
        cpu_s=1.25,
        device="cpu",
        figures={"checksum": 5.0},
    )
    outcome = Outcome(failure=Failure(kind="exit", message="exited with 1", exit_code=1))
    failed = Task(id=10, job=ShellJob(argv=(b"false",)), kind="shell", submitted_at=50.0, state=TaskState.FAILED, outcome=outcome)
    told = record_of(task_details(failed))
    assert (told.state, told.why, told.cpu_s, told.figures) == ("failed", "exited with 1", 0.0, None)


def test_kernels_are_grouped_and_bandwidth_is_named_so() -> None:
    band = {"kernel": "reduce", "backend": "torch", "device_name": "cpu", "shape": [[9]], "median_s": 0.1, "gb_per_s": 12.0}
    rows = kernel_rows([*RECORDS, record(7, "kernel", "w1", 1.0, 2.0, 0.1, figures=band)])
    assert rows[1:] == [
        ["matmul", "4x4 @ 4x4", "numpy", "cpu", "2", "3.0 ms", "23.4 GFLOP/s"],
        ["reduce", "9", "torch", "cpu", "1", "100.0 ms", "12.0 GB/s"],
    ]
    assert kernel_rows(RECORDS[2:]) == []


def test_tables_line_up() -> None:
    assert table([["a", "n"], ["word", "7"], ["b", "100"]]) == "a       n\nword    7\nb     100"


def test_output_comes_from_the_record_or_from_the_log(tmp_path: Any) -> None:
    log = tmp_path / "1.log"
    log.write_bytes(b"long\r\n")
    assert run_sample.output_of(ExitStatus(task=1, exit_code=0, output=b"short\n")) == "short\n"
    assert run_sample.output_of(ExitStatus(task=1, exit_code=0, log=str(log))) == "long\r\n"
