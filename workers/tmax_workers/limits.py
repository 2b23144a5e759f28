"""Resource limits and usage of this process.

What is imported here is forgotten by ``sys.modules`` again: a task that changes limits has to import ``resource`` itself, so
as long as the module is not there, no limit needs to be looked at.  Whoever of us wants ``resource`` takes it from here.
"""

from __future__ import annotations

import os
import sys

_was_there = "resource" in sys.modules
import resource  # noqa: E402

if not _was_there:
    del sys.modules["resource"]

RUSAGE_SELF, RUSAGE_CHILDREN = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
getrusage = resource.getrusage
getrlimit = resource.getrlimit
setrlimit = resource.setrlimit

LIMITS: dict[str, int] = {name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}
_BYTES = 4096
_pread = os.pread


class KnownLimits:
    """The limits of this process as they are to be after each task.  One open file: it is read in a third of the time of sixteen calls."""

    def __init__(self) -> None:
        self._fd = os.open("/proc/self/limits", os.O_RDONLY | os.O_CLOEXEC)
        self._known = b""
        self._values: dict[str, tuple[int, int]] = {}
        self.retake()

    def retake(self) -> None:
        """What they are now is what they are to be."""
        self._values = {name: getrlimit(number) for name, number in LIMITS.items()}
        self._known = _pread(self._fd, _BYTES, 0)

    def differ(self) -> bool:
        """Whether one was changed."""
        return "resource" in sys.modules and _pread(self._fd, _BYTES, 0) != self._known

    def put_back(self) -> list[str]:
        """Set each to what it was; return the names of those that cannot be: a hard limit that was lowered stays so."""
        lost = []
        for name, value in self._values.items():
            try:
                if getrlimit(LIMITS[name]) != value:
                    setrlimit(LIMITS[name], value)
            except (OSError, ValueError):
                lost.append(name)
        return lost

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)
