"""``/proc/PID/stat``: the state, the relations and the start time of a process.

``proc(5)`` numbers its fields from 1.  The command's name (field 2) stands in parentheses and may itself hold spaces and
parentheses, so the fields are counted from the last closing one.
"""

from __future__ import annotations

ENDED_STATES = frozenset({b"Z", b"X"})
"""States of a process that has ended: a zombie that waits to be reaped, or dead."""


def stat_fields(pid: int | str) -> list[bytes]:
    """Return the fields of a process from the third on: state, parent, process group, session, ... ; ``pid`` may be ``"self"``.

    Raises OSError when there is no such process.
    """
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
        text = file.read()
    return text[text.rindex(b")") + 2 :].split()


def start_ticks(pid: int) -> int:
    """Return the start time of a process in clock ticks since boot (field 22); 0 when there is no such process.

    A process id together with its start time identifies a process: the kernel reuses ids.
    """
    try:
        return int(stat_fields(pid)[19])
    except (FileNotFoundError, ProcessLookupError):
        return 0
