"""Commands come out the same under ``tmax run`` as when they are run directly."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.box import Box
from tests.fidelity.checks import permanent_swarms, tmax_run
from tests.fidelity.commands import COMMANDS
from tests.fidelity.running import run_line
from tests.fidelity.table import Command

swarms = permanent_swarms


@pytest.mark.parametrize("row", COMMANDS, ids=lambda row: row.name)
def test_a_command_comes_out_as_when_it_is_run_directly(swarms: dict[str, Box], row: Command) -> None:
    envs = [{**box.env, "TERM": "dumb"} for box in swarms.values()]
    with ThreadPoolExecutor(len(envs)) as threads:
        by_engine = [threads.submit(run_line, row, tmax_run(), env) for env in envs]
        direct, made = run_line(row, "", envs[0])
        outcomes = dict(zip(swarms, [run.result() for run in by_engine], strict=True))
    for engine, (ours, made_by_us) in outcomes.items():
        printed = re.sub(rb"^hint: .*\n|^task \d+\n", b"", re.sub(rb"task \d+ failed:", b"task N failed:", ours[1]), flags=re.MULTILINE)
        numbered = (ours[0], printed, ours[2])
        if row.differs:
            assert direct == row.direct
            assert numbered == row.ours, engine
        else:
            assert (numbered, made_by_us) == (direct, made), engine
