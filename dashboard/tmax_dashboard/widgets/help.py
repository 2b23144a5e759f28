"""The help page: keys and terms."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import ModalScreen

from tmax_dashboard.rows import Line, Span
from tmax_dashboard.widgets.lines import Lines

_KEYS = (
    ("Enter", "attach to the selected worker; prefix L comes back, prefix d leaves"),
    ("l", "log of its task, or of its last one"),
    ("j k ↓ ↑", "select a worker; also PgDn PgUp Home End"),
    ("q", "leave (in the monitor session: detach, the dashboard stays)"),
    ("?", "this page; any of ? q Esc closes it"),
)

_TERMS = (
    ("ready", "queued for a worker"),
    ("waiting", "delayed before a retry"),
    ("sent", "with a worker, not started"),
    ("dead", "too many of its workers died"),
    ("lat", "submit to result, last 1,000 tasks: half and 99 % are faster"),
    ("commit", "median of one write to the store that is on disk when it returns"),
    ("deaths", "unexpected ends of workers since the controller started"),
    ("cpu %", "of one core; memory is what is resident"),
)


class HelpScreen(ModalScreen[None]):
    """One page of help over the dashboard."""

    BINDINGS = [Binding("question_mark,q,escape,enter,ctrl+c", "app.pop_screen", show=False)]

    def compose(self) -> ComposeResult:
        """Make the page (Textual hook)."""
        yield Lines(id="page")

    def on_mount(self) -> None:
        """Fill it (Textual hook)."""
        self.query_one(Lines).show(help_lines())


def help_lines() -> tuple[Line, ...]:
    """Return the page's lines."""
    keys = [(Span(f"  {key:<9}", "key"), Span(meaning)) for key, meaning in _KEYS]
    terms = [(Span(f"  {term:<9}", "strong"), Span(meaning)) for term, meaning in _TERMS]
    return ((Span(" tmax ", "badge"), Span("  keys", "title")), (), *keys, (), (Span("  terms", "title"),), (), *terms)
