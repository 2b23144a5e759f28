"""Which peers this machine has, and why one is left out."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess

from tests.bench.figures import Skipped

MODULES = {"ray": "ray", "Dask distributed": "distributed", "loky": "loky", "torch": "torch", "NumPy": "numpy"}
PROGRAMS = {"GNU parallel": "parallel", "task-spooler": "tsp"}


def missing(peer: str) -> str:
    """Return why a peer cannot be measured here; empty when it can."""
    if peer in MODULES:
        return "" if importlib.util.find_spec(MODULES[peer]) else f"{MODULES[peer]} is not installed"
    program = shutil.which(PROGRAMS[peer])
    if program is None:
        return f"{PROGRAMS[peer]} is not installed"
    if peer == "GNU parallel" and "GNU" not in subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout:
        return "the installed parallel is not GNU parallel"
    return ""


def skipped(what: str, peer: str) -> Skipped:
    """Return the row for a peer that is missing."""
    return Skipped(what=f"{what}, beside {peer}", reason=missing(peer))
