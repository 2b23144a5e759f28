"""Which of the processes, panes and places that are there belong to the lives in the store.  Decides only; pure.

A controller that starts finds four stories about each life: the store's record, a pane marked with the life, a place the
worker published, and a process with the life's mark.  The record may be from before its process existed (pid 0).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tmax.core.model import LifeRecord
from tmax.engines.control_mode import SESSION
from tmax.engines.reaper import Seen
from tmax.engines.sessions import MONITOR, Found
from tmax_pipes.rendezvous import Rendezvous


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What was found of one life; ``pid`` 0: no process."""

    record: LifeRecord
    pid: int
    ticks: int
    pane: Found | None
    place: Rendezvous | None


def match(
    records: Sequence[LifeRecord], panes: Iterable[Found], places: Iterable[Rendezvous], seen: Iterable[Seen], marks: Mapping[int, str]
) -> list[Match]:
    """Return what belongs to each record.  ``marks``: life -> the mark its processes bear.

    Whether the process found is alive, and still the same, is for the caller to see through a pidfd.
    """
    by_place = {place.life: place for place in places}
    panes = list(panes)
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
        found.append(Match(record=record, pid=pid, ticks=ticks, pane=_pane(record, pid, panes), place=place))
    return found


def _roots(seen: Iterable[Seen]) -> dict[str, tuple[int, int]]:
    """Return mark -> (pid, ticks) of the process that was there first: the others were started by it."""
    roots: dict[str, tuple[int, int]] = {}
    for one in sorted(seen, key=lambda one: (one.ticks, one.pid)):
        if one.mark:
            roots.setdefault(one.mark, (one.pid, one.ticks))
    return roots


def _pane(record: LifeRecord, pid: int, panes: Sequence[Found]) -> Found | None:
    marked = next((pane for pane in panes if pane.life == record.life), None)
    if marked is not None:
        return marked
    # Made by a controller that died before it could mark it.
    return next((pane for pane in panes if pid and pane.pid == pid and not pane.life), None)


def strangers(panes: Iterable[Found], records: Iterable[LifeRecord]) -> tuple[list[Found], list[Found]]:
    """Return (dead sessions to keep for people, sessions to end) among panes of lives that the store does not know.

    Sessions without the mark of a life are a person's own and are left alone.
    """
    known = {record.life for record in records}
    ours = [pane for pane in panes if pane.life and pane.life not in known and pane.name not in (SESSION, MONITOR)]
    kept = sorted((pane for pane in ours if pane.dead), key=lambda pane: pane.life)
    return kept, [pane for pane in ours if not pane.dead]
