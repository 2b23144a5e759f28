"""Process groups of shell jobs: their running members, and signals to all of them."""

from __future__ import annotations

import os

from tmax_pipes.proc_stat import ENDED_STATES, stat_fields


def running_in_group(group: int) -> list[int]:
    """Return the processes of ``group`` that have not ended; zombies count as ended."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            state, _, its_group = stat_fields(name)[:3]
        except OSError:
            continue  # it ended in between
        if int(its_group) == group and state not in ENDED_STATES:
            found.append(int(name))
    return found


def signal_group(group: int, number: int) -> None:
    """Send a signal to every process of ``group``; a group that has ended is no error.

    The caller has not reaped the group's leader, so the number cannot denote another group.
    """
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass  # all of it has ended
