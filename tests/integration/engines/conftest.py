"""Rigs that are ended, and proven clean, after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.engine_rig import SETTINGS, Rig
from tmax.core.settings import Settings


@pytest.fixture
def make_rig(no_leaks: None) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(settings: Settings = SETTINGS, swarm: str = "rig") -> Rig:
        made.append(Rig(settings, swarm))
        return made[-1]

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    """An open engine with nothing in it."""
    return make_rig().open()
