"""Children of a task where the kernel does not list those of a thread (no CONFIG_PROC_CHILDREN)."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import os, subprocess
from tmax_workers.isolation import Isolation
def start(): return subprocess.Popen(["sleep", "60"])
isolation = Isolation()
isolation.close()
isolation._children_fd = -1
kept = start()
isolation.leave(keep_background=True)
isolation.rebase()
isolation.leave(keep_background=False)
assert not isolation.used_up, isolation.used_up
left = start()
isolation.leave(keep_background=False)
print(isolation.used_up, kept.poll())
kept.kill()
kept.wait()
"""


def test_a_child_that_is_kept_hides_no_later_one() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.stdout == "1 process left running None\n", done.stderr
