"""The plan of a load: profiles, what replaces their values, and the order of kinds."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmax.cli.verbs import bench_verb
from tmax.errors import UsageError
from tmax.loadgen.load_plan import KINDS, MAX_SUBMITTERS, PROFILES, kinds_in_order, load_plan


def test_the_verb_knows_the_profiles() -> None:
    assert tuple(PROFILES) == bench_verb.PROFILES
    assert all(set(plan.weights) == set(KINDS) for plan in PROFILES.values())


def test_given_values_replace_those_of_the_profile() -> None:
    plan = load_plan("heavy", duration_s=7.0, submitters=3, kinds=("command", "kernel"))
    assert (plan.profile, plan.duration_s, plan.submitters) == ("heavy", 7.0, 3)
    assert plan.weights == {"command": 1, "kernel": 1}
    assert load_plan("heavy") == PROFILES["heavy"]


@pytest.mark.parametrize(
    "values, message",
    [
        ({"profile": "huge"}, "unknown profile 'huge'"),
        ({"duration_s": 0.0}, "longer than 0 s"),
        ({"submitters": 0}, "at least 1"),
        ({"submitters": MAX_SUBMITTERS + 1}, f"at most {MAX_SUBMITTERS}"),
        ({"kinds": ("python", "sql")}, "unknown kind 'sql'"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_plan(**values)


@given(st.dictionaries(st.sampled_from(KINDS), st.integers(1, 9), min_size=1))
def test_each_kind_comes_as_often_as_its_weight_and_evenly(weights: dict[str, int]) -> None:
    total = sum(weights.values())
    order = list(itertools.islice(kinds_in_order(weights), 3 * total))
    assert order[:total] == order[total : 2 * total] == order[2 * total :]
    assert Counter(order[:total]) == weights
    for at in range(1, total + 1):  # never two tasks ahead of or behind its share
        counted = Counter(order[:at])
        assert all(abs(counted[kind] - at * weight / total) < 2 for kind, weight in weights.items())
