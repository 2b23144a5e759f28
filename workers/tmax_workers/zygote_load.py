"""The imports of the zygote, and the checks whether it can still be forked afterwards.

threads of all libraries to 1 -> import what every worker needs -> import the modules to preload -> check for a second thread, an open GPU
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tmax_workers import threads
from tmax_workers.code_fingerprint import fingerprint
from tmax_workers.preload import preload
from tmax_workers.proctitle import ProcessTitle, locate

ALWAYS = ("cloudpickle", "ctypes", "subprocess", "tmax_workers.kinds.kernel", "tmax_workers.runtime")
"""Modules that every worker imports, some at its first task, besides those to preload."""

GPU_DEVICES = ("/dev/nvidia", "/dev/kfd")
"""Device files that the NVIDIA and AMD drivers open, from the first call that counts devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModules:
    """The imported modules, and whether this process may be forked."""

    wanted: tuple[str, ...]
    modules: dict[str, str]
    missing: tuple[str, ...]
    broken: str
    code: str
    shown: ProcessTitle


def load(wanted: Sequence[str]) -> LoadedModules:
    """Import everything, with one thread for each library; never raises for a module of ``wanted``."""
    code = fingerprint()
    os.environ.update(threads.env_for(1))  # read by the libraries at import: more would be threads before the first fork
    for name in ALWAYS:
        importlib.import_module(name)
    found: list[str] = []
    missing: list[str] = []
    broken = ""
    for name in wanted:
        one = preload([name], 1)
        found += one.modules
        missing += one.missing
        broken = broken or other_threads(f"importing {name} started") or opened_gpu(name)
    shown = locate()
    if not shown.mark[1]:
        broken = broken or "its environment has no placeholder for the mark of a worker"
    modules = {name: str(getattr(sys.modules[name], "__version__", "")) for name in found}
    return LoadedModules(wanted=tuple(wanted), modules=modules, missing=tuple(missing), broken=broken, code=code, shown=shown)


def other_threads(what: str) -> str:
    """Return an error text when there is a second thread, beginning with ``what``; else empty."""
    others = [number for number in os.listdir("/proc/self/task") if int(number) != os.getpid()]
    if not others:
        return ""
    return f"{what} {len(others)} more thread{'s' * (len(others) > 1)} ({', '.join(sorted({_thread_name(one) for one in others}))})"


def opened_gpu(name: str) -> str:
    """Return an error text when an import opened a GPU, which no forked process could use; else empty."""
    opened = gpus_in("/proc/self/fd")
    return f"importing {name} opened {', '.join(opened)}, and a forked process cannot use a GPU that was opened before" if opened else ""


def gpus_in(folder: str) -> list[str]:
    """Return the GPU devices among the files that the links in ``folder`` lead to."""
    found = set()
    for number in os.listdir(folder):
        try:
            target = os.readlink(f"{folder}/{number}")
        except OSError:  # the listing's own descriptor is closed by now
            continue
        if target.startswith(GPU_DEVICES):
            found.add(target)
    return sorted(found)


def _thread_name(number: str) -> str:
    try:
        with open(f"/proc/self/task/{number}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "ended by now"
