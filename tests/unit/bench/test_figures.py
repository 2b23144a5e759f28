"""Figures: medians, ratios by round, what must hold, and how they are shown."""

from __future__ import annotations

import pytest

from tests.bench.figures import Figure, Must, Skipped, mad, shown, slope, spread, table


def figure(**changed: object) -> Figure:
    values: dict[str, object] = {
        "what": "no-op tasks",
        "unit": "tasks/s",
        "better": "higher",
        "samples": (100.0, 400.0, 300.0),
        "peer": "pool",
        "peer_samples": (50.0, 100.0, 100.0),
    }
    return Figure(**{**values, **changed})  # type: ignore[arg-type]


def test_ratios_are_taken_within_a_round() -> None:
    assert figure().ratios == (2.0, 4.0, 3.0)
    assert figure().ratio == 3.0
    assert figure(peer_samples=(50.0, 100.0)).ratios == (4.0,)  # medians: no rounds to pair
    assert figure(peer_samples=(0.0, 0.0, 0.0)).ratio is None
    assert figure(peer="", peer_samples=()).ratio is None


def test_the_best_sample_depends_on_the_direction() -> None:
    assert (figure().best, figure(better="lower").best, figure().median) == (400.0, 100.0, 300.0)


@pytest.mark.parametrize(
    "must, holds",
    [
        (None, None),
        (Must(comparison=">=", bound=3), True),
        (Must(comparison=">=", bound=3.1), False),
        (Must(comparison="<=", bound=3), True),
        (Must(comparison="<=", bound=299, of="value"), False),
        (Must(comparison=">=", bound=300, of="value"), True),
    ],
)
def test_what_must_hold(must: Must | None, holds: bool | None) -> None:
    assert figure(must=must).holds is holds


def test_a_ratio_that_must_hold_is_open_without_a_peer() -> None:
    assert figure(peer="", peer_samples=(), must=Must(comparison=">=", bound=1)).holds is None


def test_deviation_and_slope() -> None:
    assert mad([1.0, 2.0, 2.0, 2.0, 100.0]) == 0.0
    assert mad([1.0, 2.0, 4.0]) == 1.0
    assert slope([(0, 5.0), (10_000, 7.0), (20_000, 9.0)]) * 10_000 == pytest.approx(2.0)
    assert slope([(1, 5.0)]) == slope([(1, 5.0), (1, 6.0)]) == 0.0


@pytest.mark.parametrize(
    "value, unit, text",
    [
        (0.0000034, "s", "3.4 us"),
        (0.0123, "s", "12.3 ms"),
        (1.5, "s", "1.5 s"),
        (0.0, "s", "0 s"),
        (12345.6, "tasks/s", "12,346 tasks/s"),
        (512, "B", "512 B"),
        (-2048, "B", "-2.0 KiB"),
        (3 * 1024**3, "B", "3.00 GiB"),
        (7, "", "7"),
    ],
)
def test_values_with_units(value: float, unit: str, text: str) -> None:
    assert shown(value, unit) == text


def test_the_spread_is_shown_for_several_samples() -> None:
    assert spread((1.0,), "s") == "1 s"
    assert spread((3.0, 1.0, 2.0), "s") == "2 s (1 s to 3 s)"


def test_the_table_names_target_and_what_was_skipped() -> None:
    text = table("tasks", [figure(target="P1", must=Must(comparison=">=", bound=4)), Skipped(what="ray", reason="ray is not installed")])
    lines = text.splitlines()
    assert lines[0] == "### tasks"
    assert lines[4] == (
        "| no-op tasks | 300 tasks/s (100 tasks/s to 400 tasks/s) | 400 tasks/s "
        "| pool 100 tasks/s (50 tasks/s to 100 tasks/s) | 3.00x | P1: >= 4x | **no** |"
    )
    assert lines[-1] == "- skipped: ray: ray is not installed"
    assert all(line.count("|") == 8 for line in lines[2:5])
