"""A run as JSON, the history, and the generated part of a page."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.bench.catalog import BENCHES
from tests.bench.figures import Figure, Must, Skipped
from tests.bench.machine import BUSY_LIMIT, LOAD_LIMIT, machine_line, reasons_against_quiet
from tests.bench.report import figures_of, parse_history, replace_generated, row_from_data, row_to_data, run_to_data, same_machine
from tests.box import REPOSITORY

FIGURE = Figure(
    what="round trip",
    unit="s",
    samples=(1.0, 2.0),
    peer="Pipe",
    peer_samples=(2.0, 2.0),
    target="P6",
    must=Must(comparison="<=", bound=0.8),
)
SKIPPED = Skipped(what="round trip, beside ray", reason="ray is not installed")
MACHINE = {"cpu": "Xeon", "cores": 2, "memory_gib": 23, "kernel": "6.1", "python": "3.11.7", "tmux": "tmux 3.3a"}


def run(**head: Any) -> dict[str, Any]:
    return run_to_data(
        {"at": "2026-01-01T00:00:00+00:00", "commit": "abc", "machine": MACHINE, "quiet": True, **head}, {"link": [FIGURE, SKIPPED]}
    )


def test_rows_come_back_from_json() -> None:
    for row in (FIGURE, SKIPPED, Figure(what="a", unit="B", samples=(1.0,))):
        assert row_from_data(json.loads(json.dumps(row_to_data(row)))) == row


def test_a_row_holds_what_is_derived_for_other_readers() -> None:
    data = row_to_data(FIGURE)
    assert (data["best"], data["median"], data["ratio"], data["holds"]) == (1.0, 1.5, 0.75, True)
    assert row_to_data(SKIPPED) == {"what": "round trip, beside ray", "skipped": "ray is not installed"}


def test_figures_are_found_by_bench_name_and_peer() -> None:
    assert figures_of(run()) == {"link: round trip, beside Pipe": FIGURE}


def test_the_history_is_one_run_a_line() -> None:
    one, other = run(), run(commit="def")
    assert parse_history(f"{json.dumps(one)}\n\n{json.dumps(other)}\n") == [one, other]
    assert parse_history("") == []
    with pytest.raises(ValueError, match="line 2 of the history is no JSON"):
        parse_history(json.dumps(one) + '\n{"cut')
    with pytest.raises(ValueError, match="line 1 of the history has schema_version 99, not 1"):
        parse_history('{"schema_version": 99}')


def test_another_kernel_is_the_same_machine_and_another_cpu_is_not() -> None:
    assert same_machine(run(), run(machine={**MACHINE, "kernel": "6.2", "tmux": "tmux 3.5"}))
    assert not same_machine(run(), run(machine={**MACHINE, "cores": 4}))


def test_only_what_is_between_the_markers_is_replaced() -> None:
    page = "by hand\n<!-- measured -->\nold\n<!-- end of measured -->\nby hand, too\n"
    assert replace_generated(page, "new\n") == "by hand\n<!-- measured -->\n\nnew\n\n<!-- end of measured -->\nby hand, too\n"
    with pytest.raises(ValueError, match="lacks"):
        replace_generated("by hand", "new")


def test_the_page_has_the_markers_names_every_bench_and_defines_every_target() -> None:
    page = (REPOSITORY / "docs" / "benchmarks.md").read_text()
    replace_generated(page, "new")
    for name, (module, _) in BENCHES.items():
        assert f"| `{name}` |" in page
        code = (REPOSITORY / "tests" / "bench" / f"{module}.py").read_text()
        for number in range(1, 30):
            if f'"P{number}"' in code:
                assert f"| P{number} |" in page
    found = {path.stem for path in (REPOSITORY / "tests" / "bench").glob("bench_*.py")}
    assert found == {module for module, _ in BENCHES.values()}


def test_a_busy_machine_is_reported() -> None:
    assert reasons_against_quiet(2 * LOAD_LIMIT, 2, {"before the start": BUSY_LIMIT}) == []
    assert reasons_against_quiet(3.0, 2, {"before the start": 0.1, "after tasks": 0.5}) == [
        "load 3.00 on 2 cores before the start",
        "50 % of the cores busy after tasks",
    ]
    assert machine_line(MACHINE) == "Xeon, 2 cores, 23 GiB, Linux 6.1, Python 3.11.7, tmux 3.3a"
