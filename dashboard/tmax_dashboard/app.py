"""The app: each picture is compared with the one before, and the differences are drawn.

::

    feed's thread --wake()--> FeedMoved --> feed.take() --> rows.py --> widgets (changed cells)
    keys --> cursor | tmux client | log and help pages

The app has no timer: without a new picture and a key nothing runs.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.events import Resize
from textual.geometry import Size
from textual.message import Message

from tmax.core.snapshot import WorkerView
from tmax_dashboard import rows
from tmax_dashboard.driver import QuietDriver
from tmax_dashboard.feed import Feed
from tmax_dashboard.rows import Picture, ScreenLayout, Span
from tmax_dashboard.text import clean
from tmax_dashboard.tmux_client import TmuxViewer
from tmax_dashboard.widgets.grid import Grid
from tmax_dashboard.widgets.help import HelpScreen
from tmax_dashboard.widgets.lines import Lines
from tmax_dashboard.widgets.log import LogScreen

_KEYS = (("Enter", "attach"), ("l", "log"), ("j k", "select"), ("?", "help"), ("q", "leave"))


class FeedUpdated(Message):
    """The feed has a new picture."""


class Dashboard(App[None], inherit_bindings=False):
    """A swarm on one screen."""

    TITLE = "tmax"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home,g", "move(-100000)", show=False),
        Binding("end,G", "move(100000)", show=False),
        Binding("enter", "attach", show=False),
        Binding("l", "log", show=False),
        Binding("question_mark", "help", show=False),
        Binding("q,ctrl+c,ctrl+q", "leave", show=False),
    ]

    def __init__(self, feed: Feed, tmux: TmuxViewer, swarm: str) -> None:
        super().__init__(driver_class=QuietDriver, ansi_color=True)
        self.animation_level = "none"
        self._feed = feed
        self._tmux = tmux
        self._swarm = swarm
        self._picture = Picture()
        self._layout: ScreenLayout | None = None
        self._workers_by_key: dict[str, WorkerView] = {}
        self._status = ""
        self._extent = Size(0, 0)

    def compose(self) -> ComposeResult:
        """Create the widgets (Textual hook)."""
        yield Lines(id="header")
        yield Lines(id="notice")
        with Container(id="body"):
            yield Grid(rows.WORKERS, cursor=True, id="workers")
            with Container(id="side"):
                yield Lines(id="queue")
                yield Grid(rows.TASKS, cursor=False, id="tasks")
        yield Lines(id="keys")

    def on_mount(self) -> None:
        """Draw the empty screen, then connect to the controller (Textual hook)."""
        self._extent = self.size
        self._draw()
        self.call_after_refresh(self._feed.start, self._wake)

    def on_unmount(self) -> None:
        """Disconnect from the controller (Textual hook)."""
        self._feed.stop()

    def _wake(self) -> None:
        self.post_message(FeedUpdated())

    def on_feed_updated(self) -> None:
        """Draw the newest picture (handler of ``FeedUpdated``)."""
        self._picture = self._feed.take()
        if isinstance(self.screen, LogScreen):
            self._read_log(self.screen)
        self._draw()

    def on_resize(self, event: Resize) -> None:
        """Lay the screen out for the new size (Textual hook)."""
        self._extent = event.size  # ``self.size`` is still the old size here
        self._draw()

    # -- drawing -----------------------------------------------------------------------------------

    def _draw(self) -> None:
        picture, snapshot = self._picture, self._picture.snapshot
        notice = rows.notice(picture)
        table = rows.worker_rows(snapshot) if snapshot else ()
        self._workers_by_key = {rows.key_of(worker): worker for worker in snapshot.workers} if snapshot else {}
        layout = rows.arrange(self._extent.width, self._extent.height, workers=len(table), notice=bool(notice))
        self._arrange(layout)
        stale = picture.contact == "gone"
        main = self.screen_stack[0]
        main.query_one("#header", Lines).show((rows.header(picture, self._swarm, self._extent.width),))
        main.query_one("#notice", Lines).show(((Span(f" {notice}", "warn"),),) if notice else ())
        main.query_one("#workers", Grid).show(table, stale=stale)
        main.query_one("#queue", Lines).show(rows.queue_lines(snapshot, layout.right, layout.queue, layout.bars))
        main.query_one("#tasks", Grid).show(rows.task_rows(snapshot, layout.tasks - 1) if snapshot else (), stale=stale)
        self._draw_keys()

    def _draw_keys(self) -> None:
        keys = tuple(span for key, meaning in _KEYS for span in (Span(f" {key}", "key"), Span(f" {meaning} ")))
        self.screen_stack[0].query_one("#keys", Lines).show(((Span(f" {self._status}", "warn"),) if self._status else keys,))

    def _arrange(self, layout: ScreenLayout) -> None:
        if layout == self._layout:
            return
        self._layout = layout
        main = self.screen_stack[0]
        main.set_class(layout.wide, "-wide")
        main.query_one("#notice").styles.height = layout.notice
        main.query_one("#workers").styles.height = layout.workers
        main.query_one("#workers").styles.width = layout.left
        main.query_one("#side").styles.width = layout.right
        main.query_one("#queue").styles.height = layout.queue

    def _show_status(self, text: str) -> None:
        """Show one line in place of the keys until the next key press."""
        self._status = clean(text)
        self._draw_keys()

    # -- keys --------------------------------------------------------------------------------------

    def _selected(self) -> WorkerView | None:
        self._show_status("")
        worker = self._workers_by_key.get(self.query_one("#workers", Grid).selected or "")
        if worker is None:
            self._show_status("no worker is selected")
        return worker

    def action_move(self, by: int) -> None:
        """Select another worker."""
        self._show_status("")
        self.query_one("#workers", Grid).move(by)

    def action_page(self, by: int) -> None:
        """Select another worker, a page away."""
        self._show_status("")
        self.query_one("#workers", Grid).page(by)

    def action_help(self) -> None:
        """Show what the keys do."""
        self._show_status("")
        self.push_screen(HelpScreen())

    async def action_attach(self) -> None:
        """Go to the selected worker's pane."""
        worker = self._selected()
        if worker is None:
            return
        if not worker.session:
            self._show_status(f"{worker.name} has no session now")
        elif self._tmux.inside:
            self._show_status(await asyncio.to_thread(self._tmux.switch, worker.session))
        else:
            with self.suspend():
                problem = self._tmux.attach(worker.session)
            self.refresh(layout=True)
            self._show_status(problem)

    async def action_leave(self) -> None:
        """Detach the viewer in a monitor session, where the app keeps running; end the app elsewhere."""
        self._show_status("")
        if self._tmux.inside:
            self._show_status(await asyncio.to_thread(self._tmux.detach))
        else:
            self.exit()

    # -- logs --------------------------------------------------------------------------------------

    async def action_log(self) -> None:
        """Show the log of the selected worker's task, or of its last one."""
        worker = self._selected()
        if worker is not None and self._picture.snapshot is not None:
            page = LogScreen(worker.name, rows.task_of(worker, self._picture.snapshot))
            await self.push_screen(page)
            self._read_log(page)

    def _read_log(self, page: LogScreen) -> None:
        self.run_worker(self._show_log(page), group="log", exclusive=True)

    async def _show_log(self, page: LogScreen) -> None:
        log = await asyncio.to_thread(self._feed.log, page.worker, page.task_id, page.stamp)
        if log is not None and page.is_current:
            page.show(log.title, log.lines, log.stamp)
