"""The table of what is put back: each row can be read, put back, and is in the default it names."""

from __future__ import annotations

import json
import subprocess
import sys

CODE = """
import asyncio, csv, decimal, gc, json, logging, multiprocessing.context, tempfile, urllib.request, warnings, _tracemalloc, sys
from tmax_workers.probes import FUNCTIONS, VALUES, Baseline
values, functions = tables = Baseline(VALUES), Baseline(FUNCTIONS)
told = {"differs": any(table.differs() for table in tables), "read": sorted({row.module for table in tables for row in table._rows})}
told["defaults"] = [
    f"{row.module}: {row.read}" for table in tables for row, read in zip(table._rows, table._one_by_one)
    if row.default and eval(row.default, {"m": sys.modules[row.module]}) != read()
]
told["lost"] = [name for table in tables for name in table.put_back()]
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
    modules = {
        "_socket",
        "_csv",
        "asyncio.events",
        "builtins",
        "decimal",
        "gc",
        "logging",
        "multiprocessing.context",
        "os",
        "sys",
        "tempfile",
    }
    assert modules <= set(told["read"])
    assert told["defaults"] == []
    assert told["lost"] == []
    assert told["seen"] == [True, True]
    assert told["back"] == [False, False, "[1]", "list"]
    assert told["odd"] == [True, [], False]


MONITORING = """
import json, sys, types
if not hasattr(sys, "monitoring"):  # before Python 3.12: as much of it as we use
    class Monitoring:
        events = types.SimpleNamespace(NO_EVENTS=0, LINE=1, CALL=2, C_RAISE=4)
        def __init__(self): self.tools, self.made, self.calls = {}, {}, {}
        def use_tool_id(self, tool, name): self.tools[tool] = name
        def get_tool(self, tool): return self.tools.get(tool)
        def free_tool_id(self, tool): del self.tools[tool]
        def set_events(self, tool, events): self.made[tool] = events
        def register_callback(self, tool, event, call):
            assert event in (1, 2, 4)
            before, self.calls[tool, event] = self.calls.get((tool, event)), call
            return before
        def _all_events(self):
            masks = {name: sum(1 << tool for tool in self.made if self.made[tool] & event) for name, event in vars(self.events).items()}
            return {name: mask for name, mask in masks.items() if mask}
    sys.monitoring = Monitoring()
from tmax_workers.probes import VALUES, Baseline
m, events = sys.monitoring, sys.monitoring.events
m.use_tool_id(1, "ours")
m.set_events(1, events.LINE)
m.register_callback(1, events.LINE, print)
values = Baseline(VALUES)
seen = [values.differs()]
m.use_tool_id(2, "the task's")
m.register_callback(2, events.CALL, id)
m.set_events(2, events.CALL | events.LINE)
seen += [values.differs(), values.put_back(), values.differs()]
seen += [m.get_tool(1), m.get_tool(2), m.register_callback(2, events.CALL, None), m.register_callback(1, events.LINE, None) is print]
print(json.dumps(seen))
"""


def test_a_tool_that_a_task_leaves_with_the_interpreter_ends() -> None:
    done = subprocess.run([sys.executable, "-c", MONITORING], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [False, True, [], False, "ours", None, None, True]
