"""Sizes of a run, and cases measured in rounds (A B C, A B C, ...), so that a machine that drifts drifts for all of them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.box import REPOSITORY, Box

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """``rounds``: how often each case is measured.  ``small``: the least that proves that a bench works.  ``given``: sizes by name."""

    rounds: int = 5
    small: bool = False
    given: Mapping[str, int] = field(default_factory=dict)

    def size(self, name: str, usual: int, small: int) -> int:
        """Return a size: the given one, else the small or the usual one."""
        return self.given.get(name, small if self.small else usual)


def in_rounds(cases: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Return what each case returned in each round."""
    taken: dict[str, list[T]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            taken[name].append(case())
    return taken


def seconds_of(call: Callable[[], object]) -> float:
    """Return how long a call took."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def in_child(box: Box, module: str, *arguments: object, timeout_s: float = 900.0) -> Any:
    """Run ``python -m tests.bench.MODULE ARGUMENTS`` in the environment of a box and return the JSON that it printed last."""
    env = {**box.env, "PYTHONPATH": f"{REPOSITORY}:{box.env['PYTHONPATH']}"}
    command = [sys.executable, "-m", f"tests.bench.{module}", *map(str, arguments)]
    done = subprocess.run(command, env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} -> {done.returncode}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])
