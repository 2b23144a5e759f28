from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tmax.core import tables
from tmax.core.snapshot import Latency, Snapshot, TaskView, WorkerView
from tmax_pipes.terminal_text import printable

NOW = 1_000_000.0


def worker(number: int, **more: object) -> WorkerView:
    given: dict[str, object] = {"name": f"w{number}", "life": number, "pid": 1000 + number, "session": f"w{number}", "pane": f"%{number}"}
    return WorkerView(**{**given, "state": "idle", **more})  # type: ignore[arg-type]


def snapshot(*workers: WorkerView, **more: object) -> Snapshot:
    given: dict[str, object] = {
        "swarm": "default", "controller_pid": 77, "epoch": 1, "version": "0.1.0", "at": NOW, "uptime_s": 3.0, "ready": True, "held": False,
        "workers_wanted": len(workers), "tasks": {}, "tasks_per_min": 0.0, "latency": Latency(),
    }  # fmt: skip
    return Snapshot(workers=workers, **{**given, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "seconds, text",
    [
        (-1, "0ms"), (0, "0ms"), (0.0042, "4ms"), (0.9994, "999ms"), (0.9996, "1.0s"), (59.94, "59.9s"), (59.96, "1m00s"), (125, "2m05s"),
        (3599.6, "1h00m"), (7325, "2h02m"), (86399.9, "1d00h"), (100 * 86400, "100d00h"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert tables.duration(seconds) == text


@pytest.mark.parametrize(
    "count, text",
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (45e6, "45 MB"),
        (1.25e9, "1.2 GB"),
        (5e15, "5000 TB"),
    ],
)
def test_sizes(count: float, text: str) -> None:
    assert tables.size(count) == text


@pytest.mark.parametrize(
    "text, shown",
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("\x1bPq#0\x1b\\x", "x"),
        ("\x1bcreset", "reset"),
        ("a\nb\tc\rd", "a b c d"),
        ("\x9b31mx\x00\x7f", "31mx"),
        ("safe\u202egnp.exe", "safegnp.exe"),
        ("\u2066x\u2069\u200f", "x"),
        ("caf\udce9", "caf\N{REPLACEMENT CHARACTER}"),
        ("[bold]x[/bold]", "[bold]x[/bold]"),
        ("日本 é ü", "日本 é ü"),
    ],
)
def test_control_sequences_are_removed(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(st.characters(codec=None)))
def test_printable_never_lets_a_control_character_through(text: str) -> None:
    shown = printable(text)
    assert not any(ord(one) < 32 or 0x7F <= ord(one) < 0xA0 or 0xD800 <= ord(one) < 0xE000 for one in shown)
    shown.encode("utf-8")


@given(st.text(), st.integers(1, 40))
def test_fit_is_never_too_wide_and_keeps_what_fits(text: str, width: int) -> None:
    shown = tables.fit(printable(text), width)
    assert tables.columns_of(shown) <= width
    if tables.columns_of(printable(text)) <= width:
        assert shown == printable(text)


@pytest.mark.parametrize("width", [60, 80, 132])
@pytest.mark.parametrize("label", ["x" * 500, "日本語" * 100, "\x1b[31m" * 50 + "red"])
def test_no_line_is_wider_than_the_terminal(width: int, label: str) -> None:
    busy = worker(1, state="busy", task=7, task_label=label, task_since=NOW - 70, cpu_percent=99.6, rss_bytes=123_456_789)
    texts = [
        tables.status_text(snapshot(busy, tasks={"running": 1}, latency=Latency(p50_s=0.1, p99_s=1.0, count=3)), width),
        tables.ps_text([TaskView(id=1, kind="shell", label=label, name=label, state="failed", why=label)], NOW, width),
    ]
    for text in texts:
        for line in text.splitlines():
            assert tables.columns_of(line) <= width, line


def test_columns_that_cannot_fit_are_left_out_and_the_task_stays() -> None:
    text = tables.workers_text([worker(1, state="busy", task=7, task_label="make", rss_bytes=1)], NOW, 60)
    head = text.splitlines()[0].split()
    assert "PANE" not in head
    assert "SESSION" not in head
    assert "7 make" in text


def test_colour_only_on_request_and_widths_do_not_count_it() -> None:
    plain = tables.status_text(snapshot(worker(1, state="busy")), 80)
    coloured = tables.status_text(snapshot(worker(1, state="busy")), 80, color=True)
    assert "\x1b" not in plain
    assert "\x1b[32mbusy\x1b[0m" in coloured
    assert coloured.replace("\x1b[32m", "").replace("\x1b[0m", "") == plain


def test_an_empty_list_is_a_line_of_heads() -> None:
    assert len(tables.ps_text([], NOW).splitlines()) == 1
    assert len(tables.workers_text([], NOW).splitlines()) == 1


def test_status_shows_what_is_unusual() -> None:
    text = tables.status_text(snapshot(worker(1), worker(2, pooled=True), held=True, draining=True, notice="the disk is full"))
    assert "queue held" in text
    assert "going down" in text
    assert "note: the disk is full" in text
    assert "1 warm in the pool" in text


def test_ages_are_run_times_or_waiting_times() -> None:
    tasks = [
        TaskView(id=1, kind="shell", label="r", state="running", submitted_at=NOW - 60, started_at=NOW - 5),
        TaskView(id=2, kind="shell", label="w", state="ready", submitted_at=NOW - 9),
        TaskView(id=3, kind="shell", label="d", state="done", submitted_at=NOW - 900, ended_at=NOW - 500, duration_s=2.5),
    ]
    ages = [line.split()[4] for line in tables.ps_text(tasks, NOW).splitlines()[1:]]
    assert ages == ["5.0s", "9.0s", "2.5s"]


def test_no_cell_is_wider_than_two_hundred_columns_and_no_line_ends_in_blanks_also_without_a_terminal() -> None:
    huge = "x" * 120_000
    rows = [
        TaskView(
            id=number, kind="shell", label=huge if number == 3 else "true", state="done", why=f"one\ntwo\t{huge}" if number == 4 else ""
        )
        for number in range(9)
    ]
    lines = tables.ps_text(rows, NOW).splitlines()
    assert len(lines) == 10
    assert not [line for line in lines if line != line.rstrip()]
    assert max(map(len, lines)) < 500
    assert sum("\N{HORIZONTAL ELLIPSIS}" in line for line in lines) == 2
    busy = tables.workers_text([worker(1, state="busy", task=7, task_label=huge)], NOW)
    assert max(map(len, busy.splitlines())) < 400
    noted = tables.status_text(snapshot(worker(1, state="busy", task=7, task_label=huge), notice=huge))
    assert max(map(len, noted.splitlines())) < 1000


@given(st.text(max_size=2000), st.integers(1, 80))
def test_a_cell_is_harmless_and_fits(text: str, columns: int) -> None:
    shown = tables.cell(text, columns)
    assert tables.columns_of(shown) <= columns
    assert printable(shown) == shown
