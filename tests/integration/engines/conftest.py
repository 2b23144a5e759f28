"""Rigs that are ended, and proven clean, after each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.engine_rig import SETTINGS, Rig, settings_of
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
def rig(make_rig: Callable[..., Rig], request: pytest.FixtureRequest) -> Rig:
    """An open engine with nothing in it; a parameter names another one than tmux (``engine`` or ``engine-spawner``)."""
    engine, _, spawner = getattr(request, "param", "tmux").partition("-")
    return make_rig(settings_of(engine, spawner or "exec")).open()
