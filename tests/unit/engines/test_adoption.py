"""Which processes, panes and places belong to which life: every combination that a killed controller leaves."""

from __future__ import annotations

from tmax.core.model import LifeRecord
from tmax.engines.adoption import match
from tmax.engines.process_table import Seen, mark_in
from tmax.engines.reaper import Group
from tmax.engines.tmux.sessions import FoundPane
from tmax.engines.tmux.tmux_host import strangers
from tmax_pipes.rendezvous import Rendezvous

MARKS = {1: "s:x:1", 2: "s:x:2"}


def found(life: int = 0, pid: int = 0, name: str = "w1", *, dead: bool = False) -> FoundPane:
    return FoundPane(session_id=f"${life}{pid}", pane_id=f"%{life}{pid}", pid=pid, dead=dead, life=life, name=name)


def place(life: int, pid: int, ticks: int) -> Rendezvous:
    return Rendezvous(folder=f"/rt/{life}.1", pid=pid, ticks=ticks, life=life, n=1)


def seen(pid: int, ticks: int, mark: str = "", parent: int = 1) -> Seen:
    return Seen(pid=pid, ticks=ticks, parent=parent, group=pid, session=pid, mark=mark)


def test_a_known_process_with_pane_and_place() -> None:
    record = LifeRecord(life=1, worker="w1", pid=50, ticks=9)
    (one,) = match([record], [found(1, 50)], [place(1, 50, 9)], [], MARKS)
    assert (one.pid, one.ticks, one.hosted, one.place) == (50, 9, found(1, 50), place(1, 50, 9))


def test_a_place_of_another_process_is_not_used() -> None:
    record = LifeRecord(life=1, worker="w1", pid=50, ticks=9)
    (one,) = match([record], [], [place(1, 51, 9)], [], MARKS)
    assert (one.pid, one.place, one.hosted) == (50, None, None)


def test_an_unknown_process_is_found_by_its_place_first() -> None:
    (one,) = match([LifeRecord(life=1, worker="w1")], [found(0, 50)], [place(1, 50, 9)], [seen(49, 8, MARKS[1])], MARKS)
    assert (one.pid, one.ticks) == (50, 9)
    assert one.hosted == found(0, 50), "made, and its maker died before it could mark it"


def test_then_by_its_mark_and_the_oldest_bears_it_first() -> None:
    processes = [seen(70, 30, MARKS[1]), seen(60, 20, MARKS[1]), seen(50, 10, MARKS[2])]
    one, two = match([LifeRecord(life=1, worker="w1"), LifeRecord(life=2, worker="w2")], [], [], processes, MARKS)
    assert (one.pid, two.pid) == (60, 50)


def test_nothing_is_found_of_a_life_that_never_was() -> None:
    (one,) = match([LifeRecord(life=1, worker="w1")], [found(0, 0, "mine")], [], [seen(50, 1)], MARKS)
    assert (one.pid, one.hosted, one.place) == (0, None, None)


def test_strangers_are_marked_and_unknown() -> None:
    panes = [found(3, 9, "w3"), found(4, 8, "w4-dead-4", dead=True), found(1, 7, "w1"), found(0, 6, "mine"), found(0, 5, "ctl")]
    kept, ended = strangers(panes, {1})
    assert [pane.life for pane in kept] == [4]
    assert [pane.life for pane in ended] == [3]


def test_marks_in_an_environment() -> None:
    assert mark_in(b"A=b\0TMAX_LIFE=s:x:1\0C=d\0") == "s:x:1"
    assert mark_in(b"TMAX_LIFE=s:x:1\0A=b\0") == "s:x:1"
    assert mark_in(b"TMAX_LIFE=s:x:1") == "s:x:1"
    assert mark_in(b"XTMAX_LIFE=s:x:1\0OTHER=TMAX_LIFE=s\0") == ""
    assert mark_in(b"") == ""


def test_a_group_holds_its_own_and_nobody_older() -> None:
    group = Group(group=2**22 - 7, ticks=0, since_ticks=100)
    inside = Seen(pid=5, ticks=100, parent=1, group=2**22 - 7, session=1, mark="")
    moved = Seen(pid=5, ticks=100, parent=1, group=5, session=2**22 - 7, mark="")
    older = Seen(pid=5, ticks=99, parent=1, group=2**22 - 7, session=1, mark="")
    other = Seen(pid=5, ticks=100, parent=1, group=5, session=5, mark="")
    assert [group.holds(one) for one in (inside, moved, older, other)] == [True, True, False, False]
    assert not Group(group=1, ticks=0, since_ticks=0).holds(Seen(pid=5, ticks=100, parent=1, group=1, session=1, mark=""))
