"""Pictures of the dashboard, compared with accepted ones (``__snapshots__``; accept new ones with ``--snapshot-update``).

Whoever accepts a new picture looks at it first: what to look for is in each test's docstring.
"""

from __future__ import annotations

import pytest

from tests.unit.dashboard.pictures import HOSTILE, FakeFeed, FakeViewer, many_workers, snapshot, task, worker
from tmax_dashboard.app import Dashboard
from tmax_dashboard.feed import Log
from tmax_dashboard.rows import Picture
from tmax_dashboard.widgets.log import LogScreen

SIZES = [(80, 24), (160, 50)]


def name_of(size):
    return f"{size[0]}x{size[1]}"


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)


async def drawn(pilot):
    """Return once the app has drawn its feed's picture."""
    while pilot.app._picture is not pilot.app._feed.take():
        await pilot.pause(0.01)
    await pilot.pause()


def app_of(shot, **fields):
    return Dashboard(FakeFeed(Picture(contact="live", snapshot=shot, **fields)), FakeViewer(), "default")


@pytest.mark.parametrize("size", SIZES, ids=name_of)
def test_a_swarm_at_work(snap_compare, size):
    """Header: ready, uptime, 2/4 busy.  w1 to w4 in order, p1 dimmed below them, the cursor on w1 in reverse.

    Busy and done green, failed and dead red, numbers right-aligned.  Every state of the queue has its figure, the bars
    are green; the tasks list begins with what runs and ends with what ended.  At 160 columns the workers fill the left
    side and the bars are three lines high.  The last line names the keys; nothing is cut off at the right edge.
    """
    assert snap_compare(app_of(snapshot()), terminal_size=size, run_before=drawn)


@pytest.mark.parametrize("size", SIZES, ids=name_of)
def test_a_hundred_workers(snap_compare, size):
    """The table says which of the 100 are in sight; w2 comes after w1, not after w19; the tasks list keeps its share of the room."""
    assert snap_compare(app_of(many_workers(100)), terminal_size=size, run_before=drawn)


def test_before_the_controller_is_there(snap_compare):
    """The frame with heads, the queue's rule and keys; the header says that the controller is waited for; no figures."""
    assert snap_compare(Dashboard(FakeFeed(), FakeViewer(), "default"), terminal_size=(80, 24))


def test_the_controller_is_gone(snap_compare):
    """The header says so in red, the line below says why and what to do; both tables are dimmed and still readable."""
    gone = Picture(contact="gone", snapshot=snapshot(), why="swarm 'default' is not running")
    assert snap_compare(Dashboard(FakeFeed(gone), FakeViewer(), "default"), terminal_size=(80, 24), run_before=drawn)


def test_held_with_a_notice_on_a_small_screen(snap_compare):
    """60x15: held in yellow, the notice below it in yellow, four lines of workers, three of tasks, nothing overlaps."""
    shot = snapshot(held=True, notice="the queue is held: tmax resume")
    assert snap_compare(app_of(shot), terminal_size=(60, 15), run_before=drawn)


def test_hostile_names(snap_compare):
    """Markup is shown as typed and colours nothing; ESC is a small picture; wide text is cut at a column's edge; all columns stay straight."""
    workers = tuple(worker(n, state="busy", task=n, task_label=text) for n, text in enumerate(HOSTILE, 1))
    recent = tuple(task(n, "failed", label=text, why=text, worker=text) for n, text in enumerate(HOSTILE, 1))
    assert snap_compare(app_of(snapshot(workers=workers, recent=recent)), terminal_size=(80, 24), run_before=drawn)


def test_help(snap_compare):
    """Keys, then words, on one page of 80x24 without a line cut."""
    assert snap_compare(app_of(snapshot()), press=["question_mark"], terminal_size=(80, 24))


def test_a_log(snap_compare):
    """The title names task, state and worker and which lines are in sight; the last line of the output is just above the keys."""
    app = app_of(snapshot())
    app._feed.answer = Log(title="task 124, running, w1", lines=tuple(f"step {n}: loss {1 / n:.4f}" for n in range(1, 101)), stamp="1")

    async def opened(pilot):
        await drawn(pilot)
        await pilot.press("l")
        while not (isinstance(app.screen, LogScreen) and app.screen.stamp):
            await pilot.pause(0.01)
        await pilot.pause()

    assert snap_compare(app, terminal_size=(80, 24), run_before=opened)
