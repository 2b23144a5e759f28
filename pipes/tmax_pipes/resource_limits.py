"""Resource limits and usage of this process, and whether the limits may have changed.

What is imported here is forgotten by ``sys.modules`` again: a program or a task that changes its limits has to import ``resource``
itself, so as long as the module is not there, no limit needs to be looked at.  Whoever of us wants ``resource`` takes it from here.
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
    """Whether anything in this process can have changed a limit, but for C code and other processes."""
    return "resource" in _modules


def limits_now() -> tuple[tuple[int, int], ...]:
    """Return (soft, hard) of each of NUMBERS.

    A call for each: one read of ``/proc/self/limits`` takes less time alone, but lets go of the interpreter, which costs more.
    """
    return tuple(map(getrlimit, NUMBERS))
