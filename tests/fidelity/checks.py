"""What the tests of the tables share: a permanent swarm of each engine for a module, and the comparison."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.box import Box
from tests.fidelity.running import outcomes
from tests.fidelity.table import Program

ENGINES = ("tmux", "process")


@pytest.fixture(scope="module")
def permanent_swarms() -> Iterator[dict[str, Box]]:
    """A swarm of each engine for the whole module; a pipeline needs a worker for each of its commands."""
    boxes = {engine: Box({"TMAX_SWARM__ENGINE": engine}) for engine in ENGINES}
    boxes["process"].env["HOME"] = boxes["tmux"].env["HOME"]  # a row prints it
    try:
        for box in boxes.values():
            box.init(3)
        yield boxes
    finally:
        left = [line for box in boxes.values() for line in box.close()]
    assert not left, "left over:\n" + "\n".join(left)


def check_program(swarms: dict[str, Box], row: Program) -> None:
    """Run a row with each pool on each engine and compare."""
    standard, ours, told = outcomes(row, {engine: box.env for engine, box in swarms.items()})
    assert standard.code == row.code, told
    for name, outcome in ours.items():
        story = f"\nstandard: {standard}\n{name}: {outcome}\n{told}\n{row.text}"
        if row.differs and name.split()[0] in row.differs_on:
            assert standard.stdout.decode() == row.standard, story
            assert outcome.stdout.decode() == row.ours, story
            assert outcome.code == row.code, story
        else:
            assert (outcome.stdout, outcome.code, outcome.files) == (standard.stdout, standard.code, standard.files), story
    assert standard.stdout or row.files or standard.files, f"it shows nothing\n{told}"


def tmax_run() -> str:
    """The words before a command that run it by tmax."""
    return f"{sys.executable} -m tmax run --"
