"""Engines with a zygote; each is ended, and proven clean, after its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.integration.zygote.zygote_rig import ZygoteRig, settings_for
from tmax.core.settings import Settings


@pytest.fixture
def make_rig(no_leaks: None) -> Iterator[Callable[..., ZygoteRig]]:
    made: list[ZygoteRig] = []

    def make(settings: Settings | None = None, env: dict[str, str] | None = None) -> ZygoteRig:
        made.append(ZygoteRig(settings or settings_for(), env))
        return made[-1].open()

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
def rig(make_rig: Callable[..., ZygoteRig]) -> ZygoteRig:
    """An open engine whose zygote imports nothing more than workers need."""
    return make_rig()
