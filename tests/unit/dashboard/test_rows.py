from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dashboard.pictures import HOSTILE, NOW, many_workers, snapshot, task, worker
from tmax_dashboard import rows
from tmax_dashboard.rows import Picture, arrange, fit, share
from tmax_dashboard.text import columns_of


def text_of(line):
    return "".join(span.text for span in line)


def live(**fields):
    return Picture(contact="live", snapshot=snapshot(**fields))


# -- workers ---------------------------------------------------------------------------------------


def test_workers_stand_by_number_and_pooled_ones_dimmed_at_the_end():
    workers = (
        worker(10),
        worker(2),
        worker(1),
        worker(1, name="p1", pooled=True),
        worker(3, name="p10", pooled=True),
        worker(4, name="p2", pooled=True),
    )
    made = rows.worker_rows(snapshot(workers=workers))
    assert [row.cells[0].text for row in made] == ["w1", "w2", "w10", "p1", "p2", "p10"]
    assert [row.style for row in made] == ["", "", "", "dim", "dim", "dim"]


def test_a_worker_in_one_row():
    busy, _, idle, starting, _ = rows.worker_rows(snapshot())
    assert [span.text for span in busy.cells] == ["w1", "busy", "#124 matmul n=4096 dtype=float32", "398", "1.2 GB", "121", "0", "12s"]
    assert [span.text for span in idle.cells] == ["w3", "idle", "", "0", "61 MB", "123", "0", ""]
    assert [span.text for span in starting.cells][3:5] == ["-", "-"]


def test_pooled_workers_of_one_name_have_rows_of_their_own():
    made = rows.worker_rows(snapshot(workers=(worker(1, name="pool", pooled=True), worker(2, name="pool", pooled=True))))
    assert len({row.key for row in made}) == 2


@pytest.mark.parametrize("name", ["", "w", "w²", "9" * 5000, "w1w2", "-", "漢1"])
def test_any_name_can_be_sorted(name):
    assert len(rows.worker_rows(snapshot(workers=(worker(1), worker(2, name=name))))) == 2


def test_the_task_whose_log_is_meant():
    shot = snapshot()
    by_name = {view.name: view for view in shot.workers}
    assert rows.task_of(by_name["w1"], shot) == 124
    assert rows.task_of(by_name["w3"], shot) == 123
    assert rows.task_of(by_name["w4"], shot) == 121
    assert rows.task_of(by_name["p1"], shot) is None
    assert rows.task_of(worker(2), shot) == 122


# -- tasks -----------------------------------------------------------------------------------------


def test_tasks_say_what_why_and_how_long():
    by_key = {row.key: [span.text for span in row.cells] for row in rows.task_rows(snapshot(), 50)}
    assert by_key["124"] == ["#124", "running", "matmul n=4096 dtype=float32", "w1", "12s"]
    assert by_key["126"] == ["#126", "ready", "nightly: first in line", "", ""]
    assert by_key["122"] == ["#122", "failed", "make -C part122: exit 2", "w2", "1.2s"]
    assert by_key["123"] == ["#123", "done", "make -C part123", "w3", "340ms"]


def test_a_short_list_keeps_something_of_each():
    recent = (
        *(task(n, "running") for n in range(10)),
        *(task(n, "ready") for n in range(10, 30)),
        *(task(n, "done") for n in range(30, 50)),
    )
    shown = [row.cells[1].text for row in rows.task_rows(snapshot(recent=recent), 7)]
    assert shown == ["running"] * 3 + ["ready"] * 2 + ["done"] * 2
    assert rows.task_rows(snapshot(), 0) == ()
    assert rows.task_rows(snapshot(), -1) == ()


@given(st.integers(0, 60), st.lists(st.integers(0, 40), min_size=3, max_size=3))
def test_shares_are_fair(room, wants):
    given_ = share(room, wants)
    assert sum(given_) == min(room, sum(wants))
    for got, want in zip(given_, wants, strict=True):
        assert got == want or got >= max(given_) - 1


# -- header, notice --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "picture, said",
    [
        (Picture(), "waiting for the controller…"),
        (live(), "● ready"),
        (live(ready=False), "○ starting"),
        (live(held=True), "■ held"),
        (live(held=True, draining=True), "▼ draining"),
        (Picture(contact="gone", snapshot=snapshot()), "controller gone, reconnecting"),
        (Picture(contact="gone"), "controller gone, reconnecting"),
    ],
)
def test_the_header_says_how_things_are(picture, said):
    for width in (60, 80, 200):
        line = rows.header(picture, "default", width)
        assert said in text_of(line)
        assert columns_of(text_of(line)) == width


def test_the_header_counts_busy_and_missing_workers():
    assert text_of(rows.header(live(), "default", 80)).endswith("v0.1.0  up 2h14m  2/4 busy ")
    assert "2/4 busy, 8 wanted" in text_of(rows.header(live(workers_wanted=8), "default", 80))


def test_a_narrow_header_drops_the_least_important_first():
    assert text_of(rows.header(live(), "default", 50)).endswith("  up 2h14m  2/4 busy ")
    assert text_of(rows.header(live(), "default", 44)).endswith("2/4 busy ")
    assert "● ready" in text_of(rows.header(live(), "a-swarm-with-a-very-long-name-32", 30))


def test_the_notice_is_the_controllers_or_what_is_wrong_with_it():
    assert rows.notice(live()) == ""
    assert rows.notice(live(notice="the queue is held")) == "the queue is held"
    assert (
        rows.notice(Picture(contact="gone", snapshot=snapshot(notice="old"), why="swarm 'x' is not running\x1b"))
        == "swarm 'x' is not running␛"
    )


# -- queue -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width, across", [(80, 5), (119, 5), (60, 3), (72, 4), (31, 1)])
def test_the_queue_shows_every_state_at_any_width(width, across):
    lines = rows.queue_lines(snapshot(), width, 40, 1)
    told = " ".join(text_of(line) for line in lines)
    assert len(lines) == 2 + -(-rows.FIGURES // across)
    assert all(columns_of(text_of(line)) <= width for line in lines)
    for word in (
        "waiting 1",
        "sent 0",
        "running 2",
        "done 12,345",
        "failed 7",
        "dead 1",
        "interrupted 1",
        "tasks/min 93",
        "lat p50 4.2ms",
        "deaths 1",
    ):
        assert word in told


def test_the_queue_keeps_to_its_height_and_to_the_figures_it_counts():
    for height in range(12):
        assert len(rows.queue_lines(snapshot(), 80, height, 1)) <= height
        assert len(rows.queue_lines(None, 80, height, 1)) <= height
    assert sum(len(line) for line in rows._figures(snapshot(), 80)) == 2 * rows.FIGURES


def test_a_big_number_is_shortened_rather_than_cut():
    told = text_of(rows.queue_lines(snapshot(tasks={"interrupted": 1_234_567, "done": 12_345_678}), 80, 9, 1)[2])
    assert "interrupted 1.2M" in told
    assert "done 12.3M" in told


# -- places ----------------------------------------------------------------------------------------


@given(st.integers(0, 300), st.integers(0, 120), st.integers(0, 200), st.booleans())
def test_places_fit_the_screen(width, height, workers, notice):
    places = arrange(width, height, workers=workers, notice=notice)
    used = places.queue + places.tasks if places.wide else places.workers + places.queue + places.tasks
    assert min(places.workers, places.queue, places.tasks, places.left, places.right) >= 0
    assert used <= max(0, height - 2 - notice)
    assert places.left + places.right + 1 == width if places.wide else places.left == places.right == width


def test_places_on_the_usual_screens():
    small = arrange(80, 24, workers=5, notice=False)
    assert (small.wide, small.workers, small.queue, small.tasks) == (False, 6, 5, 11)
    many = arrange(80, 24, workers=100, notice=True)
    assert (many.workers, many.queue, many.tasks) == (8, 5, 8)
    assert arrange(160, 50, workers=5, notice=False).wide
    assert not arrange(119, 50, workers=5, notice=False).wide


@given(st.integers(0, 250))
def test_columns_never_overlap_nor_leave_the_table(width):
    for columns in (rows.WORKERS, rows.TASKS):
        end = 0
        for _, x, wide in fit(columns, width):
            assert x >= end
            assert wide >= 0
            end = x + wide
            assert wide == 0 or end <= width


def test_a_narrow_table_leaves_columns_out():
    assert [rows.WORKERS[index].title for index, _, _ in fit(rows.WORKERS, 40)] == ["worker", "state", "task", "cpu %"]
    assert len(fit(rows.WORKERS, 100)) == len(rows.WORKERS)


# -- hostile text ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_everywhere_is_harmless(text):
    shot = snapshot(
        swarm=text,
        version=text,
        notice=text,
        tasks={text: 5},
        workers=(worker(1, name=text, state=text, task=1, task_label=text, session=text, task_since=NOW + 1e9),),
        recent=(task(1, text, name=text, label=text, why=text, worker=text), task(2, "failed", label=text, kind=text)),
    )
    picture = Picture(contact="live", snapshot=shot, why=text)
    shown = [span.text for row in (*rows.worker_rows(shot), *rows.task_rows(shot, 9)) for span in row.cells]
    shown += [span.text for span in rows.header(picture, text, 80)] + [rows.notice(picture)]
    shown += [span.text for line in rows.queue_lines(shot, 80, 9, 1) for span in line]
    assert all(part.isprintable() for part in shown)


def test_strange_numbers_are_drawn_all_the_same():
    views = (
        worker(1, cpu_percent=1e12, rss_bytes=2**63, tasks_done=10**15, task=10**18, task_since=-1e18),
        worker(2, cpu_percent=-0.0, rss_bytes=-5),
    )
    shot = snapshot(workers=views, uptime_s=1e12, tasks_per_min=1e12, ended_per_second=(10**12, -5, 0), store_bytes=2**62, at=0.0)
    assert len(rows.worker_rows(shot)) == 2
    assert rows.queue_lines(shot, 80, 9, 1)


def test_rows_of_an_unchanged_picture_are_equal():
    again = msgspec.convert(msgspec.to_builtins(many_workers(20)), type(snapshot()))
    assert rows.worker_rows(again) == rows.worker_rows(many_workers(20))
    assert rows.task_rows(again, 20) == rows.task_rows(many_workers(20), 20)
