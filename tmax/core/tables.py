"""The text of ``status``, ``workers`` and ``ps``.  Pure: the controller renders it, so that the client only prints.

All text from users (labels, names, reasons) passes through ``printable``: a task's name must not be able to move a terminal's
cursor, change its colours or reverse a line.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tmax.core.snapshot import Snapshot, TaskView, WorkerView
from tmax.task_end import ENDS
from tmax_pipes.terminal_text import printable

_TINTS = {
    "running": "32",
    "busy": "32",
    "idle": "2",
    "done": "2",
    "failed": "31",
    "dead": "31",
    "silent": "31",
    "interrupted": "33",
    "cancelled": "33",
    "starting": "36",
    "proving": "36",
    "draining": "33",
}

_ORDER = ("running", "sent", "ready", "waiting", *ENDS)
_UP = frozenset({"idle", "busy"})


def columns_of(text: str) -> int:
    """Return how many terminal columns ``text`` takes (wide characters two, combining ones none)."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def fit(text: str, width: int) -> str:
    """Return ``text`` cut to ``width`` columns; a text that was cut ends with an ellipsis."""
    if columns_of(text) <= width:
        return text
    kept: list[str] = []
    left = width - 1
    for character in text:
        left -= _columns(character)
        if left < 0:
            break
        kept.append(character)
    return "".join(kept) + "…" if width > 0 else ""


_SCALES = ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))


def duration(seconds: float) -> str:
    """Return seconds as short text: ``12ms``, ``3.4s``, ``2m05s``, ``3h20m``, ``2d04h``."""
    if seconds < 0.9995:
        return f"{max(seconds, 0.0) * 1000:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    size_s, unit, small_s, small = next(scale for scale in _SCALES if whole >= scale[0])
    return f"{whole // size_s}{unit}{whole % size_s // small_s:02}{small}"


def size(count_bytes: float) -> str:
    """Return bytes as short text, in powers of 1000: ``512 B``, ``45 MB``, ``1.2 GB``."""
    amount = float(count_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 999.5 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.1f} {unit}" if unit not in {"B", "kB"} and amount < 9.95 else f"{amount:.0f} {unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a table."""

    head: str
    right: bool = False
    flexible: bool = False
    """May be cut (down to ten columns) when the table is too wide."""
    drop: int = 0
    """Left out when the table is still too wide: the highest number first; 0: never."""
    tinted: bool = False
    optional: bool = False
    """Left out when all its cells are empty."""


_GAP = 2
_BETWEEN = "\0"
"""Separates the cells of a stored row; ``printable`` keeps it out of cells."""
_FLEXIBLE_AT_LEAST = 10
CELL_COLUMNS = 200
"""Longest cell where no width is given: a label may be megabytes long, and each row is as wide as the widest."""


class Table:
    """An aligned table with a head line, made row by row; not wider than ``width`` columns where it can be cut so far (0: no limit)."""

    def __init__(self, columns: Sequence[Column], width: int = 0, *, color: bool = False) -> None:
        self._columns = columns
        self._width = width
        self._color = color
        self._cell_limit = width or CELL_COLUMNS
        self._rows: list[str] = []
        """Each row as one text: so many lists would make the garbage collector scan the whole process."""
        self._widths = [0] * len(columns)

    def add(self, row: Sequence[str]) -> None:
        """Add one row; ``row``: untrusted text of any length."""
        cells = [cell(text, self._cell_limit) for text in row]
        self._rows.append(_BETWEEN.join(cells))
        for at, text in enumerate(cells):
            columns = columns_of(text)
            self._widths[at] = max(self._widths[at], columns)

    def lines(self) -> Iterator[str]:
        """Yield its lines, each with its line end."""
        kept = [at for at, column in enumerate(self._columns) if self._widths[at] or not column.optional]
        widths = [max(columns_of(column.head), width) for column, width in zip(self._columns, self._widths, strict=True)]
        if self._width:
            kept = _kept(self._columns, kept, widths, self._width)
            _shrink(self._columns, kept, widths, self._width)
        columns, kept_widths = [self._columns[at] for at in kept], [widths[at] for at in kept]
        yield _line([column.head for column in columns], columns, kept_widths, color=False) + "\n"
        for row in self._rows:
            cells = row.split(_BETWEEN)
            yield _line([cells[at] for at in kept], columns, kept_widths, color=self._color) + "\n"


def cell(text: str, columns: int) -> str:
    """Return ``text`` on one line, ``printable``, and cut to ``columns``."""
    if len(text) <= columns and text.isascii() and text.isprintable():
        return text
    longest = 8 * columns  # longer text cannot be shown, so it is not processed
    shown = printable(text[:longest])
    return fit(shown + "…" if len(text) > longest else shown, columns)


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], width: int = 0, *, color: bool = False) -> str:
    """Return these rows as a ``Table``."""
    made = Table(columns, width, color=color)
    for row in rows:
        made.add(row)
    return "".join(made.lines())


def _total(kept: Sequence[int], widths: Sequence[int]) -> int:
    return sum(widths[at] for at in kept) + _GAP * (len(kept) - 1)


def _kept(columns: Sequence[Column], filled: Sequence[int], widths: Sequence[int], width: int) -> list[int]:
    kept = list(filled)
    least = [min(widths[at], _FLEXIBLE_AT_LEAST) if column.flexible else widths[at] for at, column in enumerate(columns)]
    for at in sorted((at for at in kept if columns[at].drop), key=lambda at: -columns[at].drop):
        if _total(kept, least) > width:
            kept.remove(at)
    return kept


def _shrink(columns: Sequence[Column], kept: Sequence[int], widths: list[int], width: int) -> None:
    flexible = [at for at in kept if columns[at].flexible]
    while flexible and _total(kept, widths) > width:
        widest = max(flexible, key=lambda at: widths[at])
        if widths[widest] <= _FLEXIBLE_AT_LEAST:
            return
        widths[widest] -= 1


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int], *, color: bool) -> str:
    parts = []
    last = len(columns) - 1
    for at, (text, column, width) in enumerate(zip(cells, columns, widths, strict=True)):
        cut = fit(text, width)
        pad = "" if at == last and not column.right else " " * (width - columns_of(cut))
        tint = _TINTS.get(text) if color and column.tinted else None
        shown = f"\x1b[{tint}m{cut}\x1b[0m" if tint else cut
        parts.append(pad + shown if column.right else shown + pad)
    return (" " * _GAP).join(parts).rstrip(" ")


# -- what the verbs print --------------------------------------------------------------------------

_WORKER = (
    Column(head="WORKER"),
    Column(head="STATE", tinted=True),
    Column(head="TASK", flexible=True),
    Column(head="FOR", right=True),
    Column(head="CPU", right=True, drop=2),
    Column(head="MEMORY", right=True),
    Column(head="DONE", right=True),
    Column(head="FAILED", right=True, drop=1),
    Column(head="PID", right=True, drop=3),
)
_WHERE = (Column(head="SESSION", drop=4), Column(head="PANE", drop=5))
_TASK = (
    Column(head="ID", right=True),
    Column(head="STATE", tinted=True),
    Column(head="PRIORITY", drop=2),
    Column(head="WORKER"),
    Column(head="FOR", right=True),
    Column(head="NAME", flexible=True, drop=1, optional=True),
    Column(head="WHAT", flexible=True),
    Column(head="WHY", flexible=True, optional=True),
)


def status_text(snapshot: Snapshot, width: int = 0, color: bool = False) -> str:
    """Return what ``tmax status`` prints: the swarm, its tasks, its workers."""
    lines = [_swarm_line(snapshot), _tasks_line(snapshot)]
    rate = _rate_line(snapshot)
    if rate:
        lines.append(rate)
    if snapshot.notice:
        lines.append(f"note: {cell(snapshot.notice, 4 * CELL_COLUMNS)}")
    shown = [line if not width else fit(line, width) for line in lines[:3]] + lines[3:]
    return "\n".join(shown) + "\n\n" + table(_WORKER, _worker_rows(snapshot.workers, snapshot.at), width, color=color)


def _swarm_line(snapshot: Snapshot) -> str:
    up = sum(1 for worker in snapshot.workers if not worker.pooled and not worker.nested and worker.state in _UP)
    words = [f"{up} of {snapshot.workers_wanted} workers ready"]
    nested = sum(1 for worker in snapshot.workers if worker.nested)
    if nested:
        words.append(f"{nested} more for nested tasks")
    pooled = sum(1 for worker in snapshot.workers if worker.pooled)
    if pooled:
        words.append(f"{pooled} warm in the pool")
    words.append(f"up {duration(snapshot.uptime_s)}")
    words.append(f"controller pid {snapshot.controller_pid}")
    if snapshot.held:
        words.append("queue held")
    if snapshot.draining:
        words.append("going down")
    return f"{printable(snapshot.swarm)}: " + ", ".join(words)


def _tasks_line(snapshot: Snapshot) -> str:
    known = [state for state in _ORDER if snapshot.tasks.get(state)]
    known += sorted(state for state, count in snapshot.tasks.items() if count and state not in _ORDER)
    counts = [f"{snapshot.tasks[state]} {printable(state)}" for state in known]
    return "tasks: " + (", ".join(counts) or "none yet")


def _rate_line(snapshot: Snapshot) -> str:
    if not snapshot.latency.count:
        return ""
    words = [f"{snapshot.tasks_per_min:.0f} tasks/min"]
    for name, value_s in (("median", snapshot.latency.p50_s), ("99th percentile", snapshot.latency.p99_s)):
        if value_s is not None:
            words.append(f"submit to result {name} {duration(value_s)}" if name == "median" else f"{name} {duration(value_s)}")
    return "rate: " + ", ".join(words)


def workers_text(workers: Sequence[WorkerView], now: float, width: int = 0, color: bool = False) -> str:
    """Return what ``tmax workers`` prints; ``now``: UTC epoch seconds."""
    rows = [[*row, worker.session or "-", worker.pane or "-"] for row, worker in zip(_worker_rows(workers, now), workers, strict=True)]
    return table((*_WORKER, *_WHERE), rows, width, color=color)


def _worker_rows(workers: Sequence[WorkerView], now: float) -> list[list[str]]:
    return [_worker_row(worker, now) for worker in workers]


def _worker_row(worker: WorkerView, now: float) -> list[str]:
    task = "" if worker.task is None else f"{worker.task} {worker.task_label}".rstrip()
    return [
        worker.name,
        worker.state,
        task or "-",
        "-" if worker.task_since is None else duration(now - worker.task_since),
        "-" if worker.cpu_percent is None else f"{worker.cpu_percent:.0f}%",
        "-" if worker.rss_bytes is None else size(worker.rss_bytes),
        str(worker.tasks_done),
        str(worker.tasks_failed),
        str(worker.pid) if worker.pid else "-",
    ]


def ps_text(tasks: Sequence[TaskView], now: float, width: int = 0, color: bool = False) -> str:
    """Return what ``tmax ps`` prints; ``now``: UTC epoch seconds.  Columns that would be empty are left out."""
    return table(_TASK, (task_row(task, now) for task in tasks), width, color=color)


def ps_table(width: int = 0, color: bool = False) -> Table:
    """Return the empty table of ``tmax ps``; its rows are made by ``task_row``."""
    return Table(_TASK, width, color=color)


def task_row(task: TaskView, now: float) -> list[str]:
    """Return a task's cells, as in ``ps_table``."""
    return [
        str(task.id),
        task.state,
        task.priority,
        task.worker or "-",
        duration(_age_s(task, now)),
        task.name,
        task.label,
        task.why,
    ]


def _age_s(task: TaskView, now: float) -> float:
    """Return the seconds it ran, has been running, or has waited."""
    if task.ended:
        return task.duration_s
    return now - (task.started_at if task.state == "running" and task.started_at else task.submitted_at)
