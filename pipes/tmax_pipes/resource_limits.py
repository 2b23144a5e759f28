"""Resource limits and usage of this process, and whether the limits may have changed.

This module removes ``resource`` from ``sys.modules`` again.  A program or a task must import ``resource`` itself to change a limit,
so the limits need no check as long as the module is absent.  The packages of tmax use ``resource`` through this module only.
"""

from __future__ import annotations

import sys

_was_there = "resource" in sys.modules
import resource  # noqa: E402

if not _was_there:
    del sys.modules["resource"]

RUSAGE_SELF, RUSAGE_CHILDREN = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
getrusage = resource.getrusage
getrlimit = resource.getrlimit
setrlimit = resource.setrlimit
prlimit = resource.prlimit

LIMITS: dict[str, int] = {name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
NUMBERS = tuple(sorted(set(LIMITS.values())))
_modules = sys.modules


def may_change() -> bool:
    """Whether Python code of this process can have changed a limit; C code and other processes are not covered."""
    return "resource" in _modules


def limits_now() -> tuple[tuple[int, int], ...]:
    """Return (soft, hard) of each of NUMBERS.

    One call for each: a read of ``/proc/self/limits`` is quicker, but releases the interpreter lock, which costs more.
    """
    return tuple(map(getrlimit, NUMBERS))
