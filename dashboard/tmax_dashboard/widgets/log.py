"""The end of a task's output, scrollable."""

from __future__ import annotations

from rich.segment import Segment
from textual.app import ComposeResult
from textual.binding import Binding
from textual.events import Resize
from textual.screen import ModalScreen
from textual.strip import Strip
from textual.widget import Widget

from tmax_dashboard.palette import style
from tmax_dashboard.rows import Span
from tmax_dashboard.text import clean, pad
from tmax_dashboard.widgets.lines import Lines


class LogView(Widget):
    """Scrollable lines.  At the end it follows new output; scrolled up it keeps its position."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's parameter
        super().__init__(id=id)
        self._lines: tuple[str, ...] = ()
        self._top = 0
        self._left = 0
        self._following = True

    def show(self, lines: tuple[str, ...]) -> None:
        """Replace the lines."""
        if lines != self._lines:
            self._lines = lines
            self._go(self._last_top if self._following else self._top)
            self.refresh()

    @property
    def _last_top(self) -> int:
        return max(0, len(self._lines) - self.size.height)

    def _go(self, top: int) -> None:
        top = max(0, min(top, self._last_top))
        self._following = top == self._last_top
        if top != self._top:
            self._top = top
            self.refresh()

    def scroll(self, lines: int = 0, pages: int = 0) -> None:
        """Move down (negative: up) by lines and pages."""
        self._go(self._top + lines + pages * max(1, self.size.height - 1))

    def aside(self, columns: int) -> None:
        """Move to the right (negative: left)."""
        self._left = max(0, self._left + columns)
        self.refresh()

    def on_resize(self, event: Resize) -> None:
        """Stay at the end if it was there (Textual hook)."""
        self._go(self._last_top if self._following else self._top)

    def where(self) -> str:
        """Return which lines are visible."""
        shown = min(len(self._lines), self._top + self.size.height)
        return f"{min(self._top + 1, shown)}-{shown} of {len(self._lines)}" + (", following" if self._following else "")

    def render_line(self, y: int) -> Strip:
        """Draw one line (Textual hook)."""
        width, index = self.size.width, self._top + y
        if index >= len(self._lines):
            return Strip.blank(width)
        return Strip([Segment(pad(self._lines[index][self._left :], width), style(""))])


class LogScreen(ModalScreen[None]):
    """The log of one worker's task, over the dashboard."""

    BINDINGS = [
        Binding("l,q,escape,ctrl+c", "app.pop_screen", show=False),
        Binding("up,k", "scroll(-1,0)", show=False),
        Binding("down,j", "scroll(1,0)", show=False),
        Binding("pageup,b", "scroll(0,-1)", show=False),
        Binding("pagedown,space", "scroll(0,1)", show=False),
        Binding("home,g", "scroll(-10000000,0)", show=False),
        Binding("end,G", "scroll(10000000,0)", show=False),
        Binding("left", "aside(-20)", show=False),
        Binding("right", "aside(20)", show=False),
    ]

    def __init__(self, worker: str, task: int | None) -> None:
        super().__init__()
        self.worker = worker
        self.task_id = task
        """The task shown while the page is open; None: no task, the pane is shown."""
        self.stamp = ""
        self._title = f"log of {clean(worker)}…"

    def compose(self) -> ComposeResult:
        """Make the page (Textual hook)."""
        yield Lines(id="log-title")
        yield LogView(id="log-text")
        yield Lines(id="log-keys")

    def on_mount(self) -> None:
        """Show the title until the log is read (Textual hook)."""
        self._frame()

    def show(self, title: str, lines: tuple[str, ...], stamp: str) -> None:
        """Show what was read."""
        self.stamp = stamp
        self._title = clean(title)
        self.query_one(LogView).show(lines)
        self._frame()

    def _frame(self) -> None:
        where = self.query_one(LogView).where()
        self.query_one("#log-title", Lines).show(((Span(" log ", "badge"), Span(f" {self._title}", "strong"), Span(f"  {where}", "dim")),))
        keys = (("↓ ↑ PgDn PgUp Home End", "scroll"), ("← →", "aside"), ("q", "back"))
        self.query_one("#log-keys", Lines).show(
            (tuple(span for key, meaning in keys for span in (Span(f" {key}", "key"), Span(f" {meaning} "))),)
        )

    def on_resize(self) -> None:
        """Count the visible lines again after the layout (Textual hook)."""
        self.call_after_refresh(self._frame)

    def action_scroll(self, lines: int, pages: int) -> None:
        """Scroll."""
        self.query_one(LogView).scroll(lines, pages)
        self._frame()

    def action_aside(self, columns: int) -> None:
        """Scroll sideways."""
        self.query_one(LogView).aside(columns)
