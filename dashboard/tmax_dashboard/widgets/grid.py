"""A table that draws only the cells that changed.

Textual's DataTable discards its cache of lines at each update of a cell; with one picture a second of 100 workers that was
half of the cost of a refresh.  This widget compares each picture with the last and refreshes only the cells that differ.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from textual.events import Resize
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tmax_dashboard.palette import style
from tmax_dashboard.rows import GridColumn, Row, fit
from tmax_dashboard.text import pad


class Grid(Widget):
    """A header line and rows; with ``cursor`` one row is selected, and the rows scroll to keep it visible."""

    def __init__(self, columns: Sequence[GridColumn], *, cursor: bool, id: str) -> None:  # noqa: A002 - Textual's parameter
        super().__init__(id=id)
        self.changed = 0
        """Number of visible cells drawn again because their content changed."""
        self._columns = tuple(columns)
        self._has_cursor = cursor
        self._rows: tuple[Row, ...] = ()
        self._at = 0
        self._top = 0
        self._stale = False

    # -- what is shown -----------------------------------------------------------------------------

    @property
    def selected(self) -> str | None:
        """The key of the selected row; None in an empty table."""
        return self._rows[self._at].key if self._rows else None

    def show(self, rows: tuple[Row, ...], *, stale: bool = False) -> None:
        """Show these rows; ``stale``: they are outdated, and dimmed.  The selection follows its key."""
        selected = self.selected
        before, self._rows = self._rows, rows
        if stale != self._stale:
            self._stale = stale
            self.refresh()
        # Set the cursor first, so that the rows compared below are at their final positions.
        keys = [row.key for row in rows]
        self._move_to(keys.index(selected) if selected in keys else self._at, seen=len(before) == len(rows))
        for y in range(1, self.size.height):
            self._compare(y, before, rows)

    def _compare(self, y: int, before: Sequence[Row], rows: Sequence[Row]) -> None:
        index = self._top + y - 1
        old = before[index] if index < len(before) else None
        new = rows[index] if index < len(rows) else None
        if old == new:
            return
        if old is None or new is None or old.style != new.style:
            self.changed += len(self._columns)
            self._refresh_row(index)
            return
        for number, x, width in fit(self._columns, self.size.width):
            if old.cells[number] != new.cells[number]:
                self.changed += 1
                self.refresh(Region(x, y, width, 1))

    # -- the cursor --------------------------------------------------------------------------------

    def move(self, by: int) -> None:
        """Select the row ``by`` lines below (negative: above), as far as there is one."""
        self._move_to(self._at + by)

    def page(self, by: int) -> None:
        """Move by pages."""
        self._move_to(self._at + by * self._visible_rows)

    @property
    def _visible_rows(self) -> int:
        return max(1, self.size.height - 1)

    def _move_to(self, at: int, *, seen: bool = True) -> None:
        at = max(0, min(at, len(self._rows) - 1))
        top = min(self._top, at) if at < self._top + self._visible_rows else at - self._visible_rows + 1
        top = max(0, min(top, len(self._rows) - self._visible_rows))
        if top != self._top or not seen:
            self._top = top
            self.refresh()
        elif at != self._at:
            self._refresh_row(self._at)
            self._refresh_row(at)
        self._at = at

    def _refresh_row(self, index: int) -> None:
        self.refresh(Region(0, index - self._top + 1, self.size.width, 1))

    def on_resize(self, event: Resize) -> None:
        """Keep the cursor visible (Textual hook)."""
        self._move_to(self._at)

    # -- drawing -----------------------------------------------------------------------------------

    def render_line(self, y: int) -> Strip:
        """Draw one line (Textual hook)."""
        width = self.size.width
        placed = fit(self._columns, width)
        if y == 0:
            return self._heads(placed, width)
        index = self._top + y - 1
        if index >= len(self._rows):
            return Strip.blank(width)
        row = self._rows[index]
        over = ["cursor"] if self._has_cursor and index == self._at else []
        over += ["dim"] if self._stale else []
        blank = Segment(" ", style(*over))
        segments = [blank]
        for number, _, wide in placed:
            cell = row.cells[number]
            # One colour for the whole row: a green cell in reverse would look like a second selection.
            styles = [*over] if "cursor" in over else [cell.style, row.style, *over]
            segments.append(Segment(pad(cell.text, wide, right=self._columns[number].right), style(*styles)))
            segments.append(blank)
        return Strip(segments).adjust_cell_length(width)

    def _heads(self, placed: Sequence[tuple[int, int, int]], width: int) -> Strip:
        hidden = len(self._rows) - self._visible_rows
        first = len(self._rows) and self._top + 1
        note = (
            f"{first}-{min(len(self._rows), self._top + self._visible_rows)} of {len(self._rows)}"
            if hidden > 0 and self._has_cursor
            else ""
        )
        heads = []
        for number, _, wide in placed:
            column = self._columns[number]
            title = column.title
            if note and not column.width:
                title = f"{title}  {note}" if len(title) + 2 + len(note) <= wide else note
            heads.append(pad(title, wide, right=column.right))
        return Strip([Segment(pad(" " + " ".join(heads), width), style("head"))])
