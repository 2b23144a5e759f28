"""A worker that starts anew in its own place, without what was preloaded.

A program may find its own NumPy before the one that is preloaded here: another environment, a checkout.  Extension modules cannot
be loaded twice in one process, so the process is replaced by exec: pid, pane and life stay, and so does its parent.  The controller
sees a connection end and another begin, and sends the task again that had not run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import NoReturn

from tmax_pipes import rendezvous
from tmax_workers.options import Options


def arguments(options: Options, connections: int) -> list[str]:
    """Return the command line of the same worker with nothing to preload."""
    arguments = [sys.executable, "-P", "-m", "tmax_workers", "--life", str(options.life), "--rt", options.rt, "--state", options.state]
    arguments += ["--control", options.control, "--preload", "", "--threads", str(options.threads)]
    return [*arguments, "--orphan-ttl-s", str(options.orphan_ttl_s), "--connections", str(connections)]


def restart_bare(options: Options, connections: int, env: Mapping[bytes, bytes], terminal: int) -> NoReturn:
    """Become that worker.  ``env``: this worker's own; ``terminal``: where its output went before it was taken for the tasks' logs.

    Raises OSError when it cannot be executed.
    """
    rendezvous.forget(options.rt, options.life)
    for fd in (1, 2):
        if terminal >= 0:
            os.dup2(terminal, fd)
    os.umask(0o077)
    os.execve(sys.executable, arguments(options, connections), {**env})
