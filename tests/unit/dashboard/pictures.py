"""Fixed pictures of a swarm, and a feed and a door that a test drives by hand."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tmax.core.snapshot import Latency, Snapshot, TaskView, WorkerView
from tmax_dashboard.feed import Log
from tmax_dashboard.rows import Picture

NOW = 1_800_000_000.0

HOSTILE = (
    "[red]not red[/red] [@click=app.quit]x[/]",
    "esc \x1b[31mred\x1b]0;title\x07 bell\x07 back\b\r\n nul\x00 c1\x9b5m",
    "bidi \u202eesrever\u2066 zero\u200bwidth lone\udc80",
    "漢字かな交じりの長い名前" * 8,
    "tower " + "z" + "\u0301" * 60 + " 👍🏽 🇩🇪 ❤️ e\u0301",
    "x" * 5000,
)


def worker(number: int, **fields: object) -> WorkerView:
    name = f"w{number}"
    base = {"name": name, "life": number, "pid": 1000 + number, "session": name, "pane": f"%{number}", "state": "idle"}
    base |= {"cpu_percent": 0.0, "rss_bytes": 61_000_000, "tasks_done": 120 + number, "started_at": NOW - 8000}
    return WorkerView(**(base | fields))


def task(number: int, state: str, **fields: object) -> TaskView:
    base = {"id": number, "kind": "shell", "label": f"make -C part{number}", "state": state, "submitted_at": NOW - 60}
    return TaskView(**(base | fields))


def some_workers() -> tuple[WorkerView, ...]:
    return (
        worker(
            1,
            state="busy",
            task=124,
            task_label="matmul n=4096 dtype=float32",
            task_since=NOW - 12,
            cpu_percent=398.4,
            rss_bytes=1_240_000_000,
        ),
        worker(
            2,
            state="busy",
            task=125,
            task_label="sh -c 'make -j4 all && make install'",
            task_since=NOW - 4000,
            cpu_percent=99.6,
            tasks_failed=2,
        ),
        worker(3),
        worker(4, state="starting", cpu_percent=None, rss_bytes=None, tasks_done=0),
        worker(7, name="p1", session="pool-1", pooled=True, rss_bytes=230_000_000, tasks_done=0),
    )


def some_tasks() -> tuple[TaskView, ...]:
    return (
        task(124, "running", kind="kernel", label="matmul n=4096 dtype=float32", worker="w1", started_at=NOW - 12),
        task(125, "running", label="sh -c 'make -j4 all && make install'", worker="w2", started_at=NOW - 4000),
        task(126, "ready", name="nightly", why="first in line"),
        task(127, "waiting", kind="python", label="pkg.mod:fetch('https://example.org/a')", why="retry in 4 s"),
        task(123, "done", worker="w3", ended_at=NOW - 1, duration_s=0.34),
        task(122, "failed", worker="w2", ended_at=NOW - 3, duration_s=1.24, exit_code=2, why="exit 2"),
        task(
            121,
            "dead",
            kind="python",
            label="pkg.mod:leak(10)",
            worker="w4",
            ended_at=NOW - 30,
            duration_s=61.0,
            why="worker died 3 times: killed by signal 9",
        ),
        task(120, "cancelled", ended_at=NOW - 40),
        task(119, "interrupted", worker="w1", ended_at=NOW - 50, duration_s=700.0),
    )


def snapshot(**fields: object) -> Snapshot:
    """Four workers, one of them in trouble, a pooled one; something of every state."""
    base = {
        "swarm": "default",
        "controller_pid": 999,
        "epoch": 3,
        "version": "0.1.0",
        "at": NOW,
        "uptime_s": 8040.0,
        "ready": True,
        "held": False,
        "workers_wanted": 4,
        "workers": some_workers(),
        "tasks": {
            "waiting": 1,
            "ready": 1,
            "sent": 0,
            "running": 2,
            "done": 12_345,
            "failed": 7,
            "dead": 1,
            "cancelled": 1,
            "interrupted": 1,
        },
        "tasks_per_min": 93.0,
        "ended_per_second": tuple((second * 7) % 5 if second % 4 else 0 for second in range(60)),
        "latency": Latency(p50_s=0.0042, p99_s=1.31, count=1000),
        "recent": some_tasks(),
        "deaths": 1,
        "store_bytes": 4_300_000,
        "commit_p50_s": 0.00021,
    }
    return Snapshot(**(base | fields))


def many_workers(count: int, *, second: int = 0) -> Snapshot:
    """``count`` busy workers and fifty tasks, each with figures that depend on ``second``."""
    workers = tuple(
        worker(
            number,
            state="busy" if (number + second) % 3 else "idle",
            task=1000 + number + second if (number + second) % 3 else None,
            task_label=f"job {number}",
            task_since=NOW - number,
            cpu_percent=float((number * 37 + second * 11) % 100),
            tasks_done=number + second,
        )
        for number in range(1, count + 1)
    )
    recent = tuple(
        task(1000 + number + second, "running" if number < 20 else "done", worker=f"w{number}", started_at=NOW - 9, duration_s=0.2)
        for number in range(50)
    )
    ended = tuple((number * 7 + second) % 9 for number in range(60))
    return snapshot(workers=workers, workers_wanted=count, recent=recent, at=NOW + second, uptime_s=8040.0 + second, ended_per_second=ended)


def plain(shot: Snapshot) -> dict[str, object]:
    """Return the snapshot as it travels on the socket."""
    made: dict[str, object] = msgspec.to_builtins(shot)
    return made


class FakeFeed:
    """A feed whose pictures the test pushes.  In a test the app's own loop calls it, so no lock is needed."""

    def __init__(self, picture: Picture | None = None) -> None:
        self.picture = picture or Picture()
        self.asked: list[tuple[str, int | None, str]] = []
        self.answer: Log | None = None
        self.stopped = False
        self._wake: Callable[[], object] = lambda: None

    def start(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        if self.picture != Picture():
            wake()

    def take(self) -> Picture:
        return self.picture

    def push(self, picture: Picture) -> None:
        self.picture = picture
        self._wake()

    def log(self, worker: str, task: int | None, known: str) -> Log | None:
        self.asked.append((worker, task, known))
        return None if self.answer is None or self.answer.stamp == known else self.answer

    def stop(self) -> None:
        self.stopped = True


class FakeViewer:
    """A door that writes down who went through it."""

    def __init__(self, *, inside: bool = True, trouble: str = "") -> None:
        self.inside = inside
        self.trouble = trouble
        self.passed: list[str] = []

    def switch(self, session: str) -> str:
        self.passed.append(f"switch {session}")
        return self.trouble

    def attach(self, session: str) -> str:
        self.passed.append(f"attach {session}")
        return self.trouble

    def detach(self) -> str:
        self.passed.append("detach")
        return self.trouble
