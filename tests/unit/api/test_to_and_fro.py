"""A program that changes its globals and goes back: each task has them as they were at its submit."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

CLIENT = """
import pickle, sys
from tmax.api.shared_bodies import SharedBodies
from tmax.api.calls import Functions
from tmax.api.searchpath import SearchPath

X, BIG = 0, "b" * 2000
class Holder:
    value = 0
def plain(): return X
def large(): return X, len(BIG)
def inner(): return X
def outer(function): return function()
def of_class(): return Holder.value
def words():
    import sys
    return sys.argv

folder = sys.argv[1]
functions = Functions(SharedBodies(folder), SearchPath())
jobs = []
for value in (1, 2, 1, 1, 2):
    X = Holder.value = value
    sys.argv = ["program", str(value)]
    for call in ((plain,), (large,), (outer, inner), (of_class,), (words,)):
        jobs.append(functions.call(call[0], call[1:], {}, context=b"", submitter_environment=b""))
with open(f"{folder}/jobs", "wb") as file:
    pickle.dump(jobs, file)
"""
WORKER = """
import pickle, sys
from tmax_workers.kinds import python
folder = sys.argv[1]
sys.argv = ["as the surroundings say"]
with open(f"{folder}/jobs", "rb") as file:
    jobs = pickle.load(file)
found = [pickle.loads(python.run(job, folder).result) for job in jobs]
with open(f"{folder}/found", "wb") as file:
    pickle.dump(found, file)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[list[object]]:
    """What the five functions gave, for each of the five rounds."""
    folder = tmp_path_factory.mktemp("to-and-fro")
    for name, text in (("client", CLIENT), ("worker", WORKER)):
        program = Path(folder, f"{name}.py")
        program.write_text(textwrap.dedent(text), encoding="utf-8")
        subprocess.run([sys.executable, str(program), str(folder)], check=True, timeout=60)
    values = pickle.loads(Path(folder, "found").read_bytes())
    return [values[at : at + 5] for at in range(0, 25, 5)]


@pytest.mark.parametrize("at", range(4), ids=["plain", "large", "an argument's", "a class's"])
def test_a_value_that_comes_back_is_heard(found: list[list[object]], at: int) -> None:
    values = [each[at] for each in found]
    assert [value[0] if isinstance(value, tuple) else value for value in values] == [1, 2, 1, 1, 2]


def test_a_function_brings_no_older_arguments_of_its_program(found: list[list[object]]) -> None:
    assert [each[4] for each in found] == [["as the surroundings say"]] * 5
