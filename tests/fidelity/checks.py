"""What the tests of the tables share: one permanent swarm for a module, and the comparison."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.box import Box
from tests.fidelity.running import outcomes
from tests.fidelity.table import Program


@pytest.fixture(scope="module")
def permanent_swarm() -> Iterator[Box]:
    """A swarm for the whole module; a pipeline needs a worker for each of its commands."""
    box = Box()
    try:
        box.init(3)
        yield box
    finally:
        left = box.close()
    assert not left, "left over:\n" + "\n".join(left)


def check_program(swarm: Box, row: Program) -> None:
    """Run a row with each pool and compare."""
    standard, ours, told = outcomes(row, swarm.env)
    assert standard.code == row.code, told
    for pool, outcome in ours.items():
        story = f"\nstandard: {standard}\n{pool}: {outcome}\n{told}\n{row.text}"
        if row.differs:
            assert standard.stdout.decode() == row.standard, story
            assert outcome.stdout.decode() == row.ours, story
            assert outcome.code == row.code, story
        else:
            assert (outcome.stdout, outcome.code, outcome.files) == (standard.stdout, standard.code, standard.files), story
    assert standard.stdout or row.files or standard.files, f"it shows nothing\n{told}"


def tmax_run() -> str:
    """The words before a command that run it by tmax."""
    return f"{sys.executable} -m tmax run --"
