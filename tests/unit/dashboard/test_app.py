"""The app in a headless terminal, fed by hand."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager

import msgspec
import pytest
from textual.app import App

from tests.unit.dashboard.pictures import HOSTILE, FakeFeed, FakeViewer, many_workers, snapshot, task, worker
from tmax_dashboard.app import Dashboard
from tmax_dashboard.feed import Log
from tmax_dashboard.rows import Picture
from tmax_dashboard.widgets.grid import Grid
from tmax_dashboard.widgets.help import HelpScreen
from tmax_dashboard.widgets.lines import Lines
from tmax_dashboard.widgets.log import LogScreen, LogView

pytestmark = pytest.mark.asyncio


def live(shot=None):
    return Picture(contact="live", snapshot=shot or snapshot())


def screen_of(app: App) -> str:
    """Return what the terminal shows, line by line."""
    return "\n".join("".join(segment.text for segment in strip) for strip in app.screen._compositor.render_strips())


def changed(app) -> tuple[int, ...]:
    return tuple(widget.changed for widget in (*app.query(Grid), *app.query(Lines)))


async def until(pilot, predicate):
    """Let the app run until ``predicate`` holds; fail with its screen after five seconds."""
    end = time.monotonic() + 5
    while not predicate():
        assert time.monotonic() < end, screen_of(pilot.app)
        await pilot.pause(0.01)


async def push(pilot, feed, picture):
    feed.push(picture)
    await until(pilot, lambda: pilot.app._picture is picture)
    await pilot.pause()


@asynccontextmanager
async def opened(app, size=(80, 24)):
    """Run the app until it shows the first picture of its feed."""
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: app._picture is app._feed.take() and "● ready" in screen_of(app))
        yield pilot


async def shows(pilot, *words):
    await until(pilot, lambda: all(word in screen_of(pilot.app) for word in words))


@pytest.fixture
def feed():
    return FakeFeed(live())


@pytest.fixture
def viewer():
    return FakeViewer()


@pytest.fixture
def app(feed, viewer):
    return Dashboard(feed, viewer, "default")


# -- pictures --------------------------------------------------------------------------------------


async def test_the_frame_is_there_before_the_first_picture():
    app = Dashboard(FakeFeed(), FakeViewer(), "night")
    async with app.run_test(size=(80, 24)):
        told = screen_of(app)
    for words in ("tmax", "night", "waiting for the controller…", "worker", "queue", "took", "Enter attach"):
        assert words in told


async def test_the_same_picture_twice_draws_nothing(app, feed):
    async with opened(app, (160, 50)) as pilot:
        await push(pilot, feed, live(many_workers(100)))
        before = changed(app)
        again = msgspec.convert(msgspec.to_builtins(many_workers(100)), type(many_workers(1)))
        await push(pilot, feed, live(again))
        assert changed(app) == before
        assert sum(before) > 0


async def test_only_the_cells_that_differ_are_drawn(app, feed):
    async with opened(app, (160, 50)) as pilot:
        shot = many_workers(40)
        await push(pilot, feed, live(shot))
        before = app.query_one("#workers", Grid).changed
        first = msgspec.structs.replace(shot.workers[0], cpu_percent=77.0, tasks_done=5)
        await push(pilot, feed, live(msgspec.structs.replace(shot, workers=(first, *shot.workers[1:]))))
        assert app.query_one("#workers", Grid).changed == before + 2
        assert " 77 " in screen_of(app)


async def test_workers_come_and_go(app, feed):
    async with opened(app) as pilot:
        await push(pilot, feed, live(snapshot(workers=(worker(1), worker(2)), recent=())))
        assert "w2" in screen_of(app)
        await push(pilot, feed, live(snapshot(workers=(worker(1), worker(3)), recent=())))
        assert "w3" in screen_of(app) and "w2" not in screen_of(app)
        await push(pilot, feed, live(snapshot(workers=(), recent=())))
        assert "w1" not in screen_of(app)


async def test_a_lost_controller_is_said_and_the_last_picture_stays(app, feed):
    async with opened(app) as pilot:
        await push(pilot, feed, Picture(contact="gone", snapshot=snapshot(), why="swarm 'default' is not running"))
        told = screen_of(app)
        assert "controller gone, reconnecting" in told and "swarm 'default' is not running" in told and "#124" in told
        await push(pilot, feed, live())
        assert "● ready" in screen_of(app) and "not running" not in screen_of(app)


@pytest.mark.parametrize("size", [(80, 24), (60, 15), (200, 60), (120, 16), (20, 5), (1, 1)])
async def test_every_size_is_drawn(size, feed):
    app = Dashboard(feed, FakeViewer(), "default")
    async with app.run_test(size=size) as pilot:
        await push(pilot, feed, live(many_workers(30)))
        lines = screen_of(app).split("\n")
        assert len(lines) == size[1]
        if size[1] > 5:
            assert "● ready" in lines[0] and "w1" in lines[2] and "leave" in lines[-1]


async def test_a_resize_shares_the_screen_out_anew(app, feed):
    async with opened(app) as pilot:
        await pilot.resize_terminal(160, 50)
        await until(pilot, lambda: app.query_one("#side").region.x > 80)
        await pilot.resize_terminal(60, 15)
        await until(pilot, lambda: app.query_one("#side").region.x == 0)


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_text_stays_text(text, feed):
    app = Dashboard(feed, FakeViewer(), text)
    async with opened(app) as pilot:
        views = (worker(1, task=1, task_label=text, state=text), worker(2))
        await push(pilot, feed, live(snapshot(workers=views, notice=text, recent=(task(1, "running", label=text, worker=text),))))
        lines = screen_of(app).split("\n")
        assert all(line.isprintable() for line in lines)
        assert "w2" in screen_of(app)
        assert app.is_running


async def test_no_color_leaves_no_color(feed, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    app = Dashboard(feed, FakeViewer(), "default")
    async with opened(app):
        styles = [segment.style for strip in app.screen._compositor.render_strips() for segment in strip if segment.style]
        assert {style.color.name for style in styles if style.color} <= {"default"}
        assert any(style.reverse for style in styles)


# -- keys ------------------------------------------------------------------------------------------


async def test_arrows_and_letters_move_the_cursor(app, feed):
    async with opened(app) as pilot:
        grid = app.query_one("#workers", Grid)
        seen = []
        for key in ("down", "j", "j", "up", "k", "end", "home", "k", "pagedown", "pageup"):
            await pilot.press(key)
            seen.append(grid.selected)
        assert seen == ["w2", "w3", "w4", "w3", "w2", "p1.7", "w1", "w1", "p1.7", "w1"]


async def test_the_cursor_stays_with_its_worker(app, feed):
    async with opened(app) as pilot:
        await push(pilot, feed, live(snapshot(workers=(worker(2), worker(3)))))
        await pilot.press("j")
        assert app.query_one("#workers", Grid).selected == "w3"
        await push(pilot, feed, live(snapshot(workers=(worker(1), worker(2), worker(3)))))
        assert app.query_one("#workers", Grid).selected == "w3"
        await push(pilot, feed, live(snapshot(workers=(worker(1),))))
        assert app.query_one("#workers", Grid).selected == "w1"


async def test_a_long_table_scrolls_with_the_cursor(app, feed):
    async with opened(app) as pilot:
        await push(pilot, feed, live(many_workers(100)))
        await pilot.press("end")
        await shows(pilot, "w100 ", "93-100 of 100")
        assert "\n w1 " not in screen_of(app)


async def test_enter_switches_the_viewer_to_the_worker(app, viewer):
    async with opened(app) as pilot:
        await pilot.press("j", "enter")
        assert viewer.passed == ["switch w2"]


async def test_enter_outside_gives_the_terminal_away(feed):
    viewer = FakeViewer(inside=False)
    app = Dashboard(feed, viewer, "default")
    app.suspend = lambda: NoTerminal(viewer)
    async with opened(app) as pilot:
        await pilot.press("enter")
        assert viewer.passed == ["given", "attach w1", "taken back"]


class NoTerminal:
    """Stands for App.suspend, which needs a real terminal (the integration test has one)."""

    def __init__(self, viewer):
        self.viewer = viewer

    def __enter__(self):
        self.viewer.passed.append("given")

    def __exit__(self, *exc):
        self.viewer.passed.append("taken back")


async def test_what_tmux_says_is_shown_until_the_next_key(feed):
    app = Dashboard(feed, FakeViewer(trouble="can't find session: \x1b[31mw1"), "default")
    async with opened(app) as pilot:
        await pilot.press("enter")
        await shows(pilot, "can't find session: ␛[31mw1")
        await pilot.press("j")
        await shows(pilot, "Enter attach")


async def test_a_worker_without_a_session_cannot_be_attached_to(app, feed, viewer):
    async with opened(app) as pilot:
        await push(pilot, feed, live(snapshot(workers=(worker(1, session=""),))))
        await pilot.press("enter")
        await shows(pilot, "w1 has no session now")
        await push(pilot, feed, live(snapshot(workers=())))
        await pilot.press("enter", "l")
        await shows(pilot, "no worker is selected")
        assert viewer.passed == []


@pytest.mark.parametrize("key", ["q", "ctrl+c", "ctrl+q"])
async def test_leaving_the_monitor_session_detaches_and_the_app_lives_on(key, app, viewer):
    async with opened(app) as pilot:
        await pilot.press(key)
        await pilot.pause()
        assert viewer.passed == ["detach"]
        assert app.is_running


async def test_leaving_elsewhere_ends_the_app(feed):
    app = Dashboard(feed, FakeViewer(inside=False), "default")
    async with opened(app) as pilot:
        await pilot.press("q")
    assert not app.is_running
    assert feed.stopped


async def test_help_opens_and_closes(app):
    async with opened(app) as pilot:
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(app.screen, HelpScreen)
        await shows(pilot, "attach to the selected worker")
        await pilot.press("q")
        await pilot.pause()
        assert not isinstance(app.screen, HelpScreen) and app.is_running


# -- logs ------------------------------------------------------------------------------------------


async def test_l_shows_the_log_and_follows_it(app, feed):
    feed.answer = Log(title="task 124, running, w1", lines=tuple(f"line {n}" for n in range(100)), stamp="1")
    async with opened(app) as pilot:
        await pilot.press("l")
        await shows(pilot, "task 124, running, w1", "line 99")
        feed.answer = Log(title="task 124, done, w1", lines=tuple(f"line {n}" for n in range(101)), stamp="2")
        await push(pilot, feed, live(snapshot(uptime_s=9000.0)))
        await shows(pilot, "line 100", "80-101 of 101, following")
        assert feed.asked == [("w1", 124, ""), ("w1", 124, "1")]
        await pilot.press("q")
        await pilot.pause()
        assert not isinstance(app.screen, LogScreen)
        await shows(pilot, "up 2h30m")


async def test_a_log_that_is_scrolled_up_stays(app, feed):
    feed.answer = Log(title="t", lines=tuple(f"line {n}" for n in range(100)), stamp="1")
    async with opened(app) as pilot:
        await pilot.press("l")
        await shows(pilot, "line 99")
        await pilot.press("home", "j")
        feed.answer = Log(title="t", lines=tuple(f"line {n}" for n in range(200)), stamp="2")
        await push(pilot, feed, live(snapshot(uptime_s=9000.0)))
        await shows(pilot, "line 1 ", "2-23 of 200")
        assert "following" not in screen_of(app)
        await pilot.press("right")
        await pilot.pause()
        assert app.screen.query_one(LogView)._left == 20
        await pilot.press("left", "left", "end")
        await shows(pilot, "line 199", "following")


async def test_a_worker_whose_task_is_unknown_shows_its_pane(app, feed):
    async with opened(app) as pilot:
        await pilot.press("end", "l")
        await until(pilot, lambda: feed.asked == [("p1", None, "")])
