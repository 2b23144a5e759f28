"""Programs end the same with tmax as with ``ProcessPoolExecutor``: ends, and the pool itself."""

from __future__ import annotations

import pytest

from tests.box import Box
from tests.fidelity import programs_ends, programs_pool
from tests.fidelity.checks import check_program, permanent_swarms
from tests.fidelity.table import Program

swarms = permanent_swarms

ROWS: list[Program] = [*programs_ends.PROGRAMS, *programs_pool.PROGRAMS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_program_ends_as_with_the_standard_pool(swarms: dict[str, Box], row: Program) -> None:
    check_program(swarms, row)
