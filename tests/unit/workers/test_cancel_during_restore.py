"""A cancellation that comes while the worker notes or restores the state of its process: it waits, and nothing is left half done."""

from __future__ import annotations

import subprocess
import sys

from tests.box import PACKAGE_PATH

PROGRAM = """
import signal, sys
from tmax_workers.cancel import InterruptGate, TaskCancelled
from tmax_workers.isolation import Isolation

gate = InterruptGate()
signal.signal(signal.SIGUSR1, gate.on_signal)
key = (7, 1)
came = []

def cancel_now():
    came.append("requested")
    gate.request(key)  # SIGUSR1 is handled at once: this is the main thread
    came.append("went on")

isolation = Isolation(cancel_now, gate.suspended)
isolation.rebase()
called = []

def function():
    called.append(1)

gate.open(key)
sys.modules["a_new_module"] = type(sys)("a_new_module")  # as if loading the function had imported it
try:
    isolation.call(function, (), {})
except TaskCancelled:
    came.append("cancelled")
gate.close()
isolation.disarm()
isolation.leave(keep_background=False)
assert came == ["requested", "went on", "cancelled"], came
assert not called, "the function of a cancelled task was called"
assert gate.reached
assert not isolation.used_up, isolation.used_up

# The next task of this process is not cancelled, and may import modules as well.
isolation._on_loaded = lambda: None
gate.open((8, 1))
sys.modules["another_module"] = type(sys)("another_module")
isolation.call(function, (), {})
gate.close()
isolation.disarm()
isolation.leave(keep_background=False)
assert called and not isolation.used_up, isolation.used_up
print("all true")
"""


def test_a_cancellation_waits_until_the_worker_has_noted_the_state_of_its_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={"PYTHONPATH": PACKAGE_PATH}, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "all true\n", done.stderr
