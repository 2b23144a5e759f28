"""Which of the processes and places that are there belong to the lives in the store.  Decides only; pure.

A controller that starts finds four sources about each life: the store's record, a process of the host marked with the life
(a pane of tmux), a place the worker published, and a process with the life's mark in its environment.  The record may be from
before its process existed (pid 0).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tmax.core.model import LifeRecord
from tmax.engines.host import HostedProcess
from tmax.engines.process_table import Seen
from tmax_pipes.rendezvous import Rendezvous


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What was found of one life; ``pid`` 0: no process."""

    record: LifeRecord
    pid: int
    ticks: int
    hosted: HostedProcess | None
    place: Rendezvous | None


def match(
    records: Sequence[LifeRecord],
    hosted: Iterable[HostedProcess],
    places: Iterable[Rendezvous],
    seen: Iterable[Seen],
    marks: Mapping[int, str],
) -> list[Match]:
    """Return what belongs to each record.  ``marks``: life -> the mark its processes bear.

    Whether the process found is alive, and still the same, is for the caller to see through a pidfd.
    """
    by_place = {place.life: place for place in places}
    hosted = list(hosted)
    roots = _roots(seen)
    found = []
    for record in records:
        place = by_place.get(record.life)
        pid, ticks = record.pid, record.ticks
        if not pid and place is not None:
            pid, ticks = place.pid, place.ticks
        elif not pid:
            pid, ticks = roots.get(marks[record.life], (0, 0))
        if place is not None and (place.pid, place.ticks) != (pid, ticks):
            place = None
        found.append(Match(record=record, pid=pid, ticks=ticks, hosted=_hosted(record, pid, hosted), place=place))
    return found


def _roots(seen: Iterable[Seen]) -> dict[str, tuple[int, int]]:
    """Return mark -> (pid, ticks) of the process that was there first: the others were started by it."""
    roots: dict[str, tuple[int, int]] = {}
    for one in sorted(seen, key=lambda one: (one.ticks, one.pid)):
        if one.mark:
            roots.setdefault(one.mark, (one.pid, one.ticks))
    return roots


def _hosted(record: LifeRecord, pid: int, hosted: Sequence[HostedProcess]) -> HostedProcess | None:
    marked = next((one for one in hosted if one.life == record.life), None)
    if marked is not None:
        return marked
    # Made by a controller that died before it could mark it.
    return next((one for one in hosted if pid and one.pid == pid and not one.life), None)
