"""Memory and processor time of this process, read from the kernel.  Without psutil, which costs a worker 4 MB and 20 ms.

/proc/self/statm --> resident set now        getrusage --> CPU so far, peak resident set, children included
"""

from __future__ import annotations

import os
from os import getpid
from typing import NamedTuple

from tmax_pipes.resource_limits import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SLACK_BYTES = 4 * 1024 * 1024
"""The kernel counts the two figures a little apart; a smaller difference means nothing."""
_inherited: dict[int, int] = {}
"""By pid, so that a forked process does not use its parent's: the inherited peak, 0 when its own is larger."""


class Usage(NamedTuple):
    """CPU seconds (user and system, all threads, ended children included) and the highest resident set so far."""

    cpu_s: float
    peak_rss_bytes: int
    children_cpu_s: float
    """The part of ``cpu_s`` that ended children used."""


def own_size_bytes() -> int:
    """Return what this process has mapped, in bytes; 0 when the kernel does not report it."""
    return _statm_bytes(0)


def own_rss_bytes() -> int:
    """Return the resident set of this process in bytes; 0 when the kernel does not report it."""
    return _statm_bytes(1)


def _statm_bytes(field: int) -> int:
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[field]) * _PAGE_BYTES
    except (OSError, IndexError, ValueError):
        return 0


def own_usage() -> Usage:
    """Return what this process and its ended children have used since it began."""
    own, children_cpu_s = getrusage(RUSAGE_SELF), ended_children_cpu_s()
    return Usage(own.ru_utime + own.ru_stime + children_cpu_s, _own_peak_bytes(own.ru_maxrss * 1024), children_cpu_s)


def ended_children_cpu_s() -> float:
    """CPU seconds of the children that have ended."""
    children = getrusage(RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def _own_peak_bytes(reported_bytes: int) -> int:
    pid = getpid()
    born_with = _inherited.get(pid)
    if born_with is None:
        born_with = _inherited[pid] = reported_bytes if reported_bytes > peak_of(pid) + _SLACK_BYTES else 0
    return reported_bytes if reported_bytes > born_with else peak_of(pid)


def peak_of(pid: int) -> int:
    """Return the highest resident set of a process since its last exec, in bytes; 0 when it has ended."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass  # it ended in between
    return 0
