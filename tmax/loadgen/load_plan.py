"""What a load consists of: profiles, and the order of the kinds of tasks.  Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tmax.errors import UsageError

KINDS = ("python", "command", "kernel")
MAX_SUBMITTERS = 200
"""Each is a thread with two descriptors of its own; a process may usually open 1,024."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """One load.

    ``weights``: of so many tasks, how many are of each kind.  ``in_flight``: tasks of each submitter that have not ended.
    ``pause_s``: between two submits of one submitter.  ``python_items``: numbers that a Python task adds up.  ``kernel_n``: rows and
    columns of the matrices that a kernel task multiplies.
    """

    profile: str
    duration_s: float
    submitters: int
    in_flight: int
    pause_s: float
    weights: Mapping[str, int]
    python_items: int
    kernel_n: int

    def described(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return {name: dict(self.weights) if name == "weights" else getattr(self, name) for name in self.__slots__}


_MIX = {"python": 8, "command": 1, "kernel": 1}

PROFILES = {
    plan.profile: plan
    for plan in (
        LoadPlan(profile="light", duration_s=60.0, submitters=2, in_flight=1, pause_s=0.1, weights=_MIX, python_items=1_000, kernel_n=64),
        LoadPlan(
            profile="medium", duration_s=60.0, submitters=8, in_flight=8, pause_s=0.0, weights=_MIX, python_items=10_000, kernel_n=128
        ),
        LoadPlan(
            profile="heavy", duration_s=300.0, submitters=20, in_flight=32, pause_s=0.0, weights=_MIX, python_items=100_000, kernel_n=256
        ),
        LoadPlan(
            profile="stress", duration_s=300.0, submitters=40, in_flight=256, pause_s=0.0, weights=_MIX, python_items=100, kernel_n=64
        ),
    )
}
"""By name: ``light`` leaves workers idle, ``medium`` keeps them busy, ``heavy`` queues long tasks, ``stress`` queues many tiny ones."""


def load_plan(
    profile: str = "medium", *, duration_s: float | None = None, submitters: int | None = None, kinds: tuple[str, ...] = ()
) -> LoadPlan:
    """Return a profile with its duration and submitters replaced where given, restricted to ``kinds`` (none: all).  Raises UsageError."""
    if profile not in PROFILES:
        raise UsageError(f"unknown profile {profile!r}", hint=f"profiles: {', '.join(PROFILES)}")
    plan = PROFILES[profile]
    if duration_s is not None:
        if duration_s <= 0:
            raise UsageError("the duration must be longer than 0 s")
        plan = replace(plan, duration_s=duration_s)
    if submitters is not None:
        if not 1 <= submitters <= MAX_SUBMITTERS:
            raise UsageError(f"submitters must be at least 1 and at most {MAX_SUBMITTERS}, not {submitters}")
        plan = replace(plan, submitters=submitters)
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise UsageError(f"unknown kind {unknown[0]!r}", hint=f"kinds: {', '.join(KINDS)}")
    if kinds:
        plan = replace(plan, weights={kind: weight for kind, weight in plan.weights.items() if kind in kinds})
    return plan


def kinds_in_order(weights: Mapping[str, int]) -> Iterator[str]:
    """Yield kinds without end, each as often as its weight, spread evenly (smooth weighted round robin)."""
    total = sum(weights.values())
    credit = dict.fromkeys(weights, 0)
    for _ in itertools.count():
        for kind, weight in weights.items():
            credit[kind] += weight
        chosen = max(credit, key=credit.__getitem__)
        credit[chosen] -= total
        yield chosen
