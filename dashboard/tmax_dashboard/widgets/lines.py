"""Lines of styled text, drawn one by one."""

from __future__ import annotations

from rich.segment import Segment
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tmax_dashboard.palette import style
from tmax_dashboard.rows import Line


class Lines(Widget):
    """Shows lines that are ready to be drawn; only those that differ are drawn again."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's parameter
        super().__init__(id=id)
        self.changed = 0
        """Number of lines drawn again."""
        self._lines: tuple[Line, ...] = ()

    def show(self, lines: tuple[Line, ...]) -> None:
        """Show these lines from the top; what is below them is blank."""
        before, self._lines = self._lines, lines
        for y in range(max(len(before), len(lines))):
            if before[y : y + 1] != lines[y : y + 1]:
                self.changed += 1
                self.refresh(Region(0, y, self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        """Draw one line (Textual hook)."""
        width = self.size.width
        if y >= len(self._lines):
            return Strip.blank(width)
        return Strip([Segment(span.text, style(span.style)) for span in self._lines[y]]).adjust_cell_length(width)
