"""The page of differences and the tables name the same ones."""

from __future__ import annotations

import re
from pathlib import Path

from tests.fidelity import programs_code, programs_ends, programs_place, programs_pool
from tests.fidelity.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "differences.md").read_text()
PROGRAMS = [*programs_code.PROGRAMS, *programs_place.PROGRAMS, *programs_ends.PROGRAMS, *programs_pool.PROGRAMS]


def test_every_documented_difference_has_a_row_and_every_row_its_line() -> None:
    documented = set(re.findall(r"^\| ([CD]\d+) \|", PAGE, re.MULTILINE))
    shown = {row.differs for row in (*PROGRAMS, *COMMANDS) if row.differs}
    assert documented == shown


def test_the_differences_that_the_suite_of_cpython_names_are_documented() -> None:
    suite = (ROOT / "tests" / "fidelity" / "cpython_suite.py").read_text()
    assert set(re.findall(r'"(D\d+)\b', suite)) <= set(re.findall(r"^\| (D\d+) \|", PAGE, re.MULTILINE))


def test_a_difference_says_what_both_print() -> None:
    assert [row.name for row in PROGRAMS if bool(row.differs) != bool(row.standard or row.ours)] == []


def test_rows_have_names_of_their_own_and_there_are_many() -> None:
    for rows, least in ((PROGRAMS, 150), (COMMANDS, 60)):
        names = [row.name for row in rows]  # type: ignore[attr-defined]
        assert len(set(names)) == len(names) >= least
