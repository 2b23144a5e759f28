"""Commands come out the same under ``tmax run`` as when they are run directly."""

from __future__ import annotations

import re

import pytest

from tests.box import Box
from tests.fidelity.checks import permanent_swarm, tmax_run
from tests.fidelity.commands import COMMANDS
from tests.fidelity.running import run_line
from tests.fidelity.table import Command

swarm = permanent_swarm


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row.name)
def test_a_command_comes_out_as_when_it_is_run_directly(swarm: Box, row: Command) -> None:
    env = {key: value for key, value in swarm.env.items() if key != "TERM"} | {"TERM": "dumb"}
    direct, made = run_line(row, "", env)
    ours, made_by_us = run_line(row, tmax_run(), env)
    told = re.sub(rb"^hint: .*\n|^task \d+\n", b"", re.sub(rb"task \d+ failed:", b"task N failed:", ours[1]), flags=re.MULTILINE)
    numbered = (ours[0], told, ours[2])
    if row.differs:
        assert direct == row.direct
        assert numbered == row.ours
    else:
        assert (numbered, made_by_us) == (direct, made)
