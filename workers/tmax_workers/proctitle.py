r"""What ``ps`` and ``/proc`` show of a process: its command line and its environment, as they were when it was started.

A forked worker would show those of the zygote.  People would not know it, and the engine would not find what it left
behind: that is found by the mark ``TMAX_LIFE`` in ``/proc/PID/environ``, which ``putenv`` does not reach.  So the zygote is
started with room for a mark, and each child overwrites it in place:

    zygote  TMAX_LIFE=..................        child  TMAX_LIFE=default:5f0c:17 \0 _=.....

``prctl(PR_SET_MM)`` could move the block instead; it needs a privilege or an option of the kernel.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from tmax_pipes.proc_stat import stat_fields

LIFE_VARIABLE = b"TMAX_LIFE"
PLACEHOLDER = "." * 120
"""Value of the mark in the environment of the zygote: longer than any mark."""

_ARG_START = 45
"""Of the fields after the name in /proc/PID/stat; then follow arg_end, env_start, env_end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessTitle:
    """Where these texts lie in this process and in every child it forks: (address, bytes)."""

    command: tuple[int, int]
    mark: tuple[int, int]
    """(0, 0): there is no room for a mark."""

    def show(self, command: tuple[bytes, ...], mark: bytes) -> None:
        """Show this command line (cut where its room ends) and this mark.  ValueError for a mark that is too long."""
        address, size = self.command
        # The last byte stays 0: otherwise the kernel takes what follows for more of it.
        text = b"\0".join(command)[: max(0, size - 1)]
        ctypes.memmove(address, text.ljust(size, b"\0"), size)
        address, size = self.mark
        if len(mark) > size:
            raise ValueError(f"a mark of {len(mark)} bytes in room for {size}")
        rest = size - len(mark)
        # An empty string in the middle would end the environment for some readers: a variable fills the rest.
        filler = b"\0_=" + b"." * (rest - 3) if rest >= 3 else b"\0" * rest
        ctypes.memmove(address, mark + filler, size)


def locate() -> ProcessTitle:
    """Return where this process shows its command line and its mark."""
    arg_start, arg_end, env_start, env_end = map(int, stat_fields("self")[_ARG_START : _ARG_START + 4])
    with open("/proc/self/environ", "rb") as file:
        block = file.read()
    wanted = LIFE_VARIABLE + b"=" + PLACEHOLDER.encode()
    at = 0 if block.startswith(wanted + b"\0") else block.find(b"\0" + wanted + b"\0") + 1
    is_there = env_start > 0 and len(block) == env_end - env_start and block[at:].startswith(wanted + b"\0")
    mark = (env_start + at + len(LIFE_VARIABLE) + 1, len(PLACEHOLDER)) if is_there else (0, 0)
    return ProcessTitle(command=(arg_start, arg_end - arg_start), mark=mark)
