"""The table of what is put back: each row can be read, put back, and is in the default it names."""

from __future__ import annotations

import json
import subprocess
import sys

CODE = """
import asyncio, decimal, json, logging, multiprocessing.context, tempfile, urllib.request, warnings, _tracemalloc, sys
from tmax_workers.probes import FUNCTIONS, VALUES, Baseline
values, functions = Baseline(VALUES), Baseline(FUNCTIONS)
read = {row.module for row in values._rows} | {row.module for row in functions._rows}
told = {"differs": values.differs() or functions.differs(), "read": sorted(read)}
told["defaults"] = [
    f"{row.module}: {row.read}" for row, read in zip(values._rows, values._one_by_one)
    if row.default and eval(row.default, {"m": sys.modules[row.module]}) != read()
]
told["lost"] = values.put_back() + functions.put_back()
del json.dumps
sys.argv = 3
told["seen"] = [functions.differs(), values.differs()]
told["lost"] += values.put_back() + functions.put_back()
told["back"] = [functions.differs(), values.differs(), json.dumps([1]), type(sys.argv).__name__]
class Odd:
    def __eq__(self, other): raise SystemExit
sys.excepthook = Odd()
told["odd"] = [values.differs(), values.put_back(), values.differs()]
print(json.dumps(told))
"""


def test_every_row_can_be_read_and_put_back_and_names_its_true_default():
    told = json.loads(subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True, text=True).stdout)
    assert not told["differs"]
    modules = {"_socket", "asyncio.events", "builtins", "decimal", "gc", "logging", "multiprocessing.context", "os", "sys", "tempfile"}
    assert modules - {"_socket", "gc"} <= set(told["read"])
    assert told["defaults"] == []
    assert told["lost"] == []
    assert told["seen"] == [True, True]
    assert told["back"] == [False, False, "[1]", "list"]
    assert told["odd"] == [True, [], False]
