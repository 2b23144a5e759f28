"""Fixtures of all tests: a box for a swarm, and the proof that nothing is left over."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.box import Box
from tmax.api import unobserved_failures

# How long an example takes says how busy the machine is.
settings.register_profile("tmax", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tmax")


def open_files() -> dict[str, str]:
    """Return this process's descriptors that can leak between tests: what they point to, by number."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue  # the descriptor of this very listing
        if not target.startswith(("/dev/", "/proc/")) and "pytest" not in target:
            found[number] = target
    return found


@pytest.fixture(autouse=True)
def nothing_to_say() -> Iterator[None]:
    """What a test has made fail on purpose is not said when the tests end."""
    yield
    unobserved_failures.forget()


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fail the test that leaves descriptors open."""
    gc.collect()
    before = open_files()
    yield
    gc.collect()
    left = {number: target for number, target in open_files().items() if before.get(number) != target}
    assert not left, f"descriptors left open: {left}"


@pytest.fixture(scope="module")
def module_box() -> Iterator[Box]:
    """A box with a swarm of one worker for all the tests of a module, which need nothing special of it."""
    made = Box()
    made.init(1)
    yield made
    left = made.close()
    assert not left, "left over:\n" + "\n".join(left)


@pytest.fixture
def box(no_leaks: None) -> Iterator[Box]:
    """A box whose swarm is taken down after the test; what is left over then fails the test."""
    made = Box()
    yield made
    left = made.close()
    assert not left, "left over:\n" + "\n".join(left)
