"""Two runs beside each other, and a run against the history of its machine."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.compare import (
    HISTORY_LEAST,
    NOISE_LEAST,
    changes,
    changes_table,
    noise_of,
    regressions,
    selected,
    verdict_of,
)
from tests.bench.figures import Figure
from tests.bench.report import Run, run_to_data

MACHINE = {"cpu": "Xeon", "cores": 2, "memory_gib": 23, "python": "3.11.7"}
WHAT = "tasks: no-op tasks, beside pool"


def run(*ratios: float, better: Any = "higher", quiet: bool = True, cores: int = 2, peer: str = "pool") -> Run:
    samples = tuple(100.0 * ratio for ratio in ratios)
    figure = Figure(
        what="no-op tasks", unit="tasks/s", better=better, samples=samples, peer=peer, peer_samples=(100.0,) * len(samples) if peer else ()
    )
    return run_to_data({"machine": {**MACHINE, "cores": cores}, "quiet": quiet}, {"tasks": [figure]})


def test_a_change_within_the_noise_is_none() -> None:
    [change] = changes(run(1.0, 1.1, 0.9), run(1.2, 1.1, 1.15))
    assert (change.what, change.verdict) == (WHAT, "same")
    assert change.factor == pytest.approx(1.15)
    assert change.noise == pytest.approx(3 * 1.4826 * 0.1)


def test_a_change_beyond_the_noise_has_a_direction() -> None:
    steady, faster = run(1.0, 1.0, 1.0), run(1.2, 1.2, 1.2)
    assert [one.verdict for one in changes(steady, faster)] == ["better"]
    assert [one.verdict for one in changes(faster, steady)] == ["worse"]
    steady, slower = run(1.0, better="lower"), run(1.2, better="lower")
    assert [one.verdict for one in changes(steady, slower)] == ["worse"]


def test_noise_is_never_below_its_least_and_survives_zero() -> None:
    assert noise_of([2.0, 2.0, 2.0]) == NOISE_LEAST
    assert noise_of([0.0, 0.0]) == NOISE_LEAST
    assert verdict_of(0.0, 0.0, NOISE_LEAST, "lower") == "same"
    assert verdict_of(0.0, 1.0, NOISE_LEAST, "lower") == "worse"
    assert verdict_of(1.0, 1.0 + NOISE_LEAST / 2, NOISE_LEAST, "lower") == "same"


def test_figures_of_one_run_only_are_left_out_and_values_serve_without_a_peer() -> None:
    assert changes(run(1.0), run(1.0, peer="")) == []
    [change] = changes(run(1.0, peer=""), run(2.0, peer=""))
    assert (change.old, change.new) == (100.0, 200.0)


def test_a_regression_is_outside_of_what_the_history_had() -> None:
    history = [run(ratio) for ratio in (1.0, 1.02, 0.98, 1.01, 0.99)]
    [flagged] = regressions(history, run(0.8))
    assert (flagged.what, flagged.old, flagged.new, flagged.verdict) == (WHAT, 1.0, 0.8, "worse")
    assert regressions(history, run(0.97)) == []
    assert regressions(history, run(2.0)) == []  # better is no regression


def test_a_wide_history_forgives_more_than_a_narrow_one() -> None:
    assert regressions([run(ratio) for ratio in (1.0, 1.3, 0.7, 1.2, 0.8)], run(0.7)) == []


def test_only_quiet_runs_of_the_same_machine_count_and_few_are_too_few() -> None:
    few = [run(1.0)] * (HISTORY_LEAST - 1)
    assert regressions(few, run(0.1)) == []
    assert regressions([*few, run(1.0, quiet=False), run(1.0, cores=4)], run(0.1)) == []
    assert len(regressions([*few, run(1.0)], run(0.1))) == 1


def test_only_the_last_runs_count() -> None:
    history = [run(10.0)] * 20 + [run(1.0)] * 5
    assert regressions(history, run(1.0), last=5) == []
    assert len(regressions(history, run(1.0), last=25)) == 1


def test_runs_are_named_by_file_or_index() -> None:
    first, second = run(1.0), run(2.0)
    assert selected("a.json", [first], {"a.json": second}) is second
    assert selected("-1", [first, second], {}) is second
    assert selected("0", [first, second], {}) is first
    with pytest.raises(LookupError, match="neither a file nor an index"):
        selected("b.json", [first], {})
    with pytest.raises(LookupError, match="the history has 1 runs, and none at -2"):
        selected("-2", [first], {})


def test_the_table_marks_what_changed() -> None:
    lines = changes_table([*changes(run(1.0), run(0.5)), *changes(run(1.0), run(1.0))]).splitlines()
    assert lines[2] == f"| {WHAT} | 1 | 0.5 | 0.50x | +-5 % | **worse** |"
    assert lines[3].endswith("| |") or lines[3].endswith("|  |")
