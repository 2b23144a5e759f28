"""Restart of a worker by exec, without preloaded modules.

A program's own NumPy may precede the preloaded one: another environment, a checkout.  Extension modules cannot be loaded twice in
one process, so exec replaces it: pid, pane, life and parent stay.  The controller sees one connection end and another begin, and
sends the task again that had not run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import NoReturn

from tmax_pipes import rendezvous
from tmax_workers.options import Options


def arguments(options: Options, connections: int) -> list[str]:
    """Return the command line of this worker with nothing to preload."""
    arguments = [sys.executable, "-P", "-m", "tmax_workers", "--life", str(options.life), "--rt", options.rt, "--state", options.state]
    arguments += ["--control", options.control, "--preload", "", "--threads", str(options.threads)]
    return [*arguments, "--orphan-ttl-s", str(options.orphan_ttl_s), "--connections", str(connections)]


def restart_bare(options: Options, connections: int, env: Mapping[bytes, bytes], terminal: int) -> NoReturn:
    """Replace this process by such a worker.  ``env``: its environment; ``terminal``: its descriptors 1 and 2 outside of tasks, -1: none.

    Raises OSError when the interpreter cannot be executed.
    """
    rendezvous.forget(options.rt, options.life)
    for fd in (1, 2):
        if terminal >= 0:
            os.dup2(terminal, fd)
    os.umask(0o077)
    os.execve(sys.executable, arguments(options, connections), {**env})
