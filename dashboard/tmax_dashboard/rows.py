"""From snapshots to rows, lines and the screen layout.  Pure: no clock but the snapshot's own, no screen.

``palette.py`` maps the style names (``good``, ``bad``, ``warn``, ``dim``, ...) to colours; every state is shown as text
too, so that nothing depends on colour.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import msgspec

from tmax.core.snapshot import Snapshot, TaskView, WorkerView
from tmax_dashboard.text import bars, brief, clean, clip, columns_of, count, pad, since, size, took

Contact: TypeAlias = Literal["waiting", "live", "gone"]


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """What the screen shows: the last snapshot, if any, and the state of the connection to the controller."""

    contact: Contact = "waiting"
    snapshot: Snapshot | None = None
    why: str = ""
    """Why the controller cannot be reached or understood; one line."""


class Span(msgspec.Struct, frozen=True, gc=False):
    """Text in one style."""

    text: str
    style: str = ""


Line: TypeAlias = tuple[Span, ...]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a table.  ``key`` identifies the worker or task while its line moves."""

    key: str
    cells: tuple[Span, ...]
    style: str = ""


class GridColumn(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a table; ``width`` 0: the remaining width."""

    title: str
    width: int
    right: bool = False
    from_width: int = 0
    """Shown only in a table of at least this many columns."""


class ScreenLayout(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of the parts of the screen, in columns and lines."""

    wide: bool
    """Workers on the left, the rest on the right; otherwise one above the other."""
    left: int
    right: int
    """Widths of the workers' table and of the rest."""
    notice: int
    workers: int
    queue: int
    tasks: int
    bars: int


WORKERS = (
    GridColumn(title="worker", width=8),
    GridColumn(title="state", width=9),
    GridColumn(title="task", width=0),
    GridColumn(title="cpu %", width=5, right=True),
    GridColumn(title="memory", width=7, right=True, from_width=44),
    GridColumn(title="done", width=7, right=True, from_width=52),
    GridColumn(title="failed", width=7, right=True, from_width=84),
    GridColumn(title="for", width=6, right=True, from_width=60),
)

TASKS = (
    GridColumn(title="task", width=7),
    GridColumn(title="state", width=11),
    GridColumn(title="what", width=0),
    GridColumn(title="worker", width=7, from_width=56),
    GridColumn(title="took", width=6, right=True, from_width=40),
)

_STATE_STYLES = {
    "busy": "good",
    "running": "good",
    "done": "good",
    "idle": "dim",
    "sent": "info",
    "ready": "info",
    "waiting": "dim",
    "starting": "info",
    "proving": "info",
    "cancelled": "warn",
    "interrupted": "warn",
    "draining": "warn",
    "silent": "warn",
    "suspect": "warn",
    "failed": "bad",
    "dead": "bad",
}

# -- tables ----------------------------------------------------------------------------------------


def worker_rows(snapshot: Snapshot) -> tuple[Row, ...]:
    """Return the workers' lines: w1, w2, ... w10 by number, pooled ones dimmed at the end."""
    return tuple(_worker_row(worker, snapshot.at) for worker in sorted(snapshot.workers, key=_order))


def key_of(worker: WorkerView) -> str:
    """Return the key of a worker's row: its name, with the life for pooled workers, which may share a name."""
    return f"{worker.name}.{worker.life}" if worker.pooled else worker.name


def task_of(worker: WorkerView, snapshot: Snapshot) -> int | None:
    """Return the task whose log to show: the running one, else the last one in the snapshot that the worker ended."""
    if worker.task is not None:
        return worker.task
    ended = [task for task in snapshot.recent if task.worker == worker.name and task.ended]
    return max(ended, key=lambda task: task.ended_at).id if ended else None


def _order(worker: WorkerView) -> tuple[bool, list[tuple[int, str]], int]:
    # w2 before w10: runs of digits count as numbers, and come before letters.
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+", worker.name)
    return worker.pooled, [(int(part), "") if part.isdecimal() else (2**62, part) for part in parts], worker.life


def _worker_row(worker: WorkerView, now: float) -> Row:
    task = f"#{worker.task} {clean(worker.task_label)}" if worker.task is not None else ""
    cpu = "-" if worker.cpu_percent is None else f"{worker.cpu_percent:.0f}"
    return Row(
        key=key_of(worker),
        cells=(
            Span(clean(worker.name), "strong"),
            Span(clean(worker.state), _STATE_STYLES.get(worker.state, "")),
            Span(task),
            Span(cpu, "dim" if cpu in {"-", "0"} else ""),
            Span(size(worker.rss_bytes)),
            Span(count(worker.tasks_done)),
            Span(count(worker.tasks_failed), "bad" if worker.tasks_failed else "dim"),
            Span("" if not worker.task_since else since(now - worker.task_since)),
        ),
        style="dim" if worker.pooled else "",
    )


def task_rows(snapshot: Snapshot, height: int) -> tuple[Row, ...]:
    """Return at most ``height`` rows: running, waiting and recently ended tasks, each with a fair share."""
    running = [task for task in snapshot.recent if task.state == "running"]
    ended = [task for task in snapshot.recent if task.ended]
    waiting = [task for task in snapshot.recent if task.state != "running" and not task.ended]
    shares = share(height, (len(running), len(waiting), len(ended)))
    chosen = [*running[: shares[0]], *waiting[: shares[1]], *ended[: shares[2]]]
    return tuple(_task_row(task, snapshot.at) for task in chosen)


def share(height: int, wants: Sequence[int]) -> tuple[int, ...]:
    """Split ``height`` so that no part exceeds its want and unused lines go to the others."""
    given = [0] * len(wants)
    left = height
    while left > 0 and any(got < want for got, want in zip(given, wants, strict=True)):
        for index, want in enumerate(wants):
            if left > 0 and given[index] < want:
                given[index] += 1
                left -= 1
    return tuple(given)


def _task_row(task: TaskView, now: float) -> Row:
    what = clean(task.name) if task.name else clean(task.label)
    why = clean(task.why)
    style = _STATE_STYLES.get(task.state, "")
    if task.state == "running":
        lasted = since(now - task.started_at) if task.started_at else ""
    else:
        lasted = took(task.duration_s) if task.ended and task.duration_s else ""
    return Row(
        key=str(task.id),
        cells=(
            Span(f"#{task.id}", "strong"),
            Span(clean(task.state), style),
            Span(f"{what}: {why}" if why else what),
            Span(clean(task.worker)),
            Span(lasted),
        ),
    )


def fit(columns: Sequence[GridColumn], width: int) -> tuple[tuple[int, int, int], ...]:
    """Return (index, x, width) of the columns that a table of ``width`` shows: a blank before each, the remaining width for the one of width 0."""
    shown = [(index, column) for index, column in enumerate(columns) if width >= column.from_width]
    fixed = sum(column.width for _, column in shown) + len(shown) + 1
    rest = max(0, width - fixed)
    placed: list[tuple[int, int, int]] = []
    x = 1
    for index, column in shown:
        wide = min(column.width or rest, max(0, width - x))
        placed.append((index, x, wide))
        x += wide + 1
    return tuple(placed)


# -- lines -----------------------------------------------------------------------------------------


def width_of(line: Iterable[Span]) -> int:
    """Return the columns that a line takes."""
    return sum(columns_of(span.text) for span in line)


def header(picture: Picture, swarm: str, width: int) -> Line:
    """Return the first line: swarm and state on the left; busy workers, uptime and version on the right as far as they fit."""
    snapshot = picture.snapshot
    state = _state(picture)
    name = clip(clean(snapshot.swarm if snapshot else swarm), max(4, width - 9 - width_of((state,))))
    left: Line = (Span(" tmax ", "badge"), Span(" "), Span(name, "strong"), Span("  "), state)
    right = _facts(snapshot) if snapshot else ()
    while right and width_of(left) + 1 + width_of(right) + 1 > width:
        right = right[1:]
    gap = max(0, width - width_of(left) - width_of(right) - 1)
    return (*left, Span(" " * gap), *right, Span(" "))


def _state(picture: Picture) -> Span:
    snapshot = picture.snapshot
    if picture.contact == "gone":
        return Span("✗ controller gone, reconnecting", "bad")
    if snapshot is None:
        return Span("waiting for the controller…", "info")
    if snapshot.draining:
        return Span("▼ draining", "warn")
    if snapshot.held:
        return Span("■ held", "warn")
    return Span("● ready", "good") if snapshot.ready else Span("○ starting", "info")


def _facts(snapshot: Snapshot) -> Line:
    here = [worker for worker in snapshot.workers if not worker.pooled]
    busy = sum(worker.task is not None for worker in here)
    missing = len(here) < snapshot.workers_wanted
    return (
        Span(f"v{clean(snapshot.version, 20)}  ", "dim"),
        Span(f"up {since(snapshot.uptime_s)}  ", ""),
        Span(f"{busy}/{len(here)} busy" + (f", {snapshot.workers_wanted} wanted" if missing else ""), "warn" if missing else "strong"),
    )


def notice(picture: Picture) -> str:
    """Return the notice for people on one line, or an empty text."""
    if picture.why:
        return clean(picture.why)
    return clean(picture.snapshot.notice) if picture.snapshot else ""


def rule(title: str, note: str, width: int) -> Line:
    """Return a line across the screen with a title at its left and a note at its right."""
    note = clip(note, max(0, width - len(title) - 8))
    fill = max(0, width - len(title) - 4 - (columns_of(note) + 3 if note else 0))
    tail: Line = (Span(f" {note} ", "dim"), Span("─", "rule")) if note else ()
    return (Span("─ ", "rule"), Span(title, "title"), Span(" " + "─" * (fill + 1), "rule"), *tail)


def queue_lines(snapshot: Snapshot | None, width: int, height: int, bars_height: int) -> tuple[Line, ...]:
    """Return the queue's panel in at most ``height`` lines: title, figures, and the bars of what ended each second."""
    if snapshot is None or height <= 0:
        return (rule("queue", "", width),)[: max(0, height)]
    most = max(snapshot.ended_per_second, default=0)
    title = rule("queue", f"ended per second, last 60 s, most {most}" if bars_height else "", width)
    figures = _figures(snapshot, width)[: max(0, height - 1 - bars_height)]
    drawn = tuple((Span(" "), Span(text, "good")) for text in bars(snapshot.ended_per_second, min(60, width - 2), bars_height))
    return (title, *figures, *drawn)[:height]


def _figures(snapshot: Snapshot, width: int) -> tuple[Line, ...]:
    tasks, latency = snapshot.tasks, snapshot.latency
    across = figures_across(width)
    cell = (width - 4) // across if across == 5 else width // across
    numbers: list[tuple[str, float, str]] = []
    numbers += [(name, tasks.get(name, 0), _STATE_STYLES[name]) for name in ("waiting", "ready", "sent", "running")]
    numbers += [("tasks/min", snapshot.tasks_per_min, "strong")]
    numbers += [(name, tasks.get(name, 0), _STATE_STYLES[name]) for name in ("done", "failed", "dead", "cancelled", "interrupted")]
    cells = [_number(name, number, style, cell + 4 * (name == "interrupted" and across == 5)) for name, number, style in numbers]
    cells += [_cell("lat p50", took(latency.p50_s), "", cell), _cell("lat p99", took(latency.p99_s), "", cell)]
    cells += [_cell("commit", took(snapshot.commit_p50_s), "", cell), _cell("store", size(snapshot.store_bytes), "", cell)]
    cells.append(_number("deaths", snapshot.deaths, "bad", cell))
    return tuple(tuple(part for pair in cells[start : start + across] for part in pair) for start in range(0, len(cells), across))


FIGURES = 15
"""Number of figures in the queue's panel."""


def figures_across(width: int) -> int:
    """Return how many figures fit side by side in ``width`` columns.

    ``interrupted`` and a number take 18; five fit in 80 all the same, because it is the fifth and gets the remaining columns.
    """
    return 5 if width >= 80 else max(1, width // 18)


def _number(name: str, number: float, style: str, width: int) -> Line:
    value = count(number)
    if len(value) > width - len(name) - 2:
        value = brief(number)
    return _cell(name, value, style if number else "dim", width)


def _cell(name: str, value: str, style: str, width: int) -> Line:
    # Figures begin at fixed columns, so that a growing number moves no other.
    return (Span(f" {name} ", "dim"), Span(pad(value, max(0, width - len(name) - 2)), style))


# -- layout ----------------------------------------------------------------------------------------


def arrange(width: int, height: int, *, workers: int, notice: bool) -> ScreenLayout:
    """Divide a screen of ``width`` x ``height``; ``workers``: the lines that their table would fill.

    From 120 columns on the workers have the left side.  Below, they get at most half of what the queue leaves.
    For every size no part is negative and the sum does not exceed the screen.
    """
    wide = width >= 120 and height >= 16
    body = max(0, height - 2 - notice)
    right = min(78, width * 45 // 100) if wide else width
    bars_height = 3 if wide else int(body >= 12)
    figures = 1 + -(-FIGURES // figures_across(right))
    queue = min(figures + bars_height, body * 2 // 5)
    bars_height = max(0, min(bars_height, queue - figures))  # where both do not fit, prefer the figures
    rest = body - queue
    table = body if wide else min(workers + 1, max(-(-rest // 2), min(3, rest)))
    tasks = rest if wide else rest - table
    return ScreenLayout(
        wide=wide,
        left=width - right - 1 if wide else width,
        right=right,
        notice=int(notice),
        workers=table,
        queue=queue,
        tasks=tasks,
        bars=bars_height,
    )
