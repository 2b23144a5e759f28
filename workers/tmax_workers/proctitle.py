r"""What ``ps`` and ``/proc`` show of a process: its command line and its environment, as they were when it was started.

A forked worker would show those of the zygote: people could not identify it, and the engine could not find its left-over
processes, because it searches ``/proc/PID/environ`` for ``TMAX_LIFE``, which ``putenv`` does not change.  So the zygote is
started with a placeholder, and each child overwrites it in place:

    zygote  TMAX_LIFE=..................        child  TMAX_LIFE=default:5f0c:17 \0 _=.....

``prctl(PR_SET_MM)`` could move the block instead; it needs a privilege or an option of the kernel.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from tmax_pipes.proc_stat import stat_fields

LIFE_VARIABLE = b"TMAX_LIFE"
PLACEHOLDER = "." * 120
"""Value of the variable in the environment of the zygote: longer than any mark."""

_ARG_START = 45
"""Index in ``stat_fields``; arg_end, env_start and env_end follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessTitle:
    """Location of both texts in this process and its forked children: (address, size in bytes)."""

    command: tuple[int, int]
    mark: tuple[int, int]
    """(0, 0): there is no placeholder."""

    def show(self, command: tuple[bytes, ...], mark: bytes) -> None:
        """Show this command line (cut to the available size) and this mark.  Raises ValueError for a mark that is too long."""
        address, size = self.command
        # The last byte stays 0: otherwise the kernel reads on into what follows.
        text = b"\0".join(command)[: max(0, size - 1)]
        ctypes.memmove(address, text.ljust(size, b"\0"), size)
        address, size = self.mark
        if len(mark) > size:
            raise ValueError(f"a mark of {len(mark)} bytes, at most {size} fit")
        rest = size - len(mark)
        # Some readers end at an empty string, so a variable fills the rest.
        filler = b"\0_=" + b"." * (rest - 3) if rest >= 3 else b"\0" * rest
        ctypes.memmove(address, mark + filler, size)


def locate() -> ProcessTitle:
    """Return where the command line and the mark of this process are."""
    arg_start, arg_end, env_start, env_end = map(int, stat_fields("self")[_ARG_START : _ARG_START + 4])
    with open("/proc/self/environ", "rb") as file:
        block = file.read()
    wanted = LIFE_VARIABLE + b"=" + PLACEHOLDER.encode()
    at = 0 if block.startswith(wanted + b"\0") else block.find(b"\0" + wanted + b"\0") + 1
    is_there = env_start > 0 and len(block) == env_end - env_start and block[at:].startswith(wanted + b"\0")
    mark = (env_start + at + len(LIFE_VARIABLE) + 1, len(PLACEHOLDER)) if is_there else (0, 0)
    return ProcessTitle(command=(arg_start, arg_end - arg_start), mark=mark)
