"""What people and programs read, word for word.  To accept a change: ``TMAX_GOLDEN=write pytest tests/integration/cli/test_golden.py``.

Look at the difference in git before committing it: is each help page still led by examples, does each table still align,
did a JSON field vanish or change its type (never do that without raising ``schema_version``)?
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.integration.cli.toy import Toy
from tmax.cli import fast, verbs
from tmax.core import tables
from tmax.core.snapshot import Latency, Snapshot, TaskView, WorkerView

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "cli"
NOW = 1_763_666_100.25
TASKS = (
    TaskView(id=41, name="train", kind="shell", label="python train.py --lr 0.1", state="running", priority="high", attempt=1, worker="w1",
             submitted_at=NOW - 70, started_at=NOW - 65),
    TaskView(id=42, kind="python", label="mine.f", state="ready", submitted_at=NOW - 5, why="all 2 workers are busy; it is next"),
    TaskView(id=40, kind="shell", label="make\x1b[31m test", state="failed", attempt=2, worker="w2", submitted_at=NOW - 500,
             started_at=NOW - 480, ended_at=NOW - 400, duration_s=80.125, exit_code=2, why="exit 2"),
)  # fmt: skip
WORKERS = (
    WorkerView(name="w1", life=1, pid=4001, session="w1", pane="%1", state="busy", task=41, task_label="python train.py --lr 0.1",
               task_since=NOW - 65, cpu_percent=98.7, rss_bytes=512_000_000, tasks_done=12, tasks_failed=1, started_at=NOW - 3600),
    WorkerView(name="w2", life=2, pid=4002, session="w2", pane="%2", state="idle", cpu_percent=0.0, rss_bytes=36_000_000, tasks_done=8,
               started_at=NOW - 3600),
    WorkerView(name="pool-3", life=3, pid=4003, session="pool-3", pane="%3", state="starting", started_at=NOW - 1, pooled=True),
)  # fmt: skip
SNAPSHOT = Snapshot(
    swarm="default", controller_pid=4000, epoch=3, version="0.1.0", at=NOW, uptime_s=3600.5, ready=True, held=False, workers_wanted=2,
    workers=WORKERS, tasks={"running": 1, "ready": 1, "done": 20, "failed": 1}, tasks_per_min=20.0, ended_per_second=(0, 1, 2),
    latency=Latency(p50_s=0.0123, p99_s=1.5, count=21), recent=TASKS, deaths=0, store_bytes=65536, commit_p50_s=0.003,
)  # fmt: skip


def compare(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("TMAX_GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text(), f"{name} differs; see this file's first lines"


@pytest.fixture(autouse=True)
def _width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.mark.parametrize("verb", ["", *verbs.FILES])
def test_help(verb: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert fast.main([*verb.split(), "--help"]) == 0
    out, err = capfd.readouterr()
    assert not err
    assert out.index("Examples:") < out.index("Options:")
    compare(f"help{'-' if verb else ''}{verb}.txt", out)


@pytest.mark.parametrize("width", [80, 120])
def test_tables(width: int) -> None:
    compare(f"status-{width}.txt", tables.status_text(SNAPSHOT, width))
    compare(f"workers-{width}.txt", tables.workers_text(WORKERS, NOW, width))
    compare(f"ps-{width}.txt", tables.ps_text(TASKS, NOW, width))


def plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


@pytest.mark.parametrize(
    "name, line, replies",
    [
        ("status", "status", {"status": {"snapshot": plain(SNAPSHOT)}}),
        ("workers", "workers", {"workers": {"workers": plain(WORKERS)}}),
        ("ps", "ps", {"ps": {"tasks": plain(TASKS)}}),
        ("submit", "submit --request-id r1 -- true", {"submit": {"ids": [43]}}),
        ("wait", "wait 40 --ignore-failures", {"wait": {"tasks": plain(TASKS[2:])}}),
        ("logs", "logs 40", {"logs": {"task": 40, "state": "failed", "worker": "w2", "file": None, "tail": "aMOkCg==", "live": False}}),
        ("cancel", "cancel 41", {"cancel": {"results": [{"id": 41, "was": "running", "now": "ending"}]}}),
        ("attach", "attach w1", {"locate": {"session": "w1", "pane": "%1", "worker": "w1", "task": 41, "tmux": "/run/tmux.sock"}}),
        ("result", "result 39", {"show": {"task": {**plain(TASKS[2]), "id": 39, "state": "done", "why": "", "form": "json", "result": [1, {"a": None}]}, "blobs": "/b"}}),
        ("hold", "hold", {"hold": {"held": True}}),
    ],
)  # fmt: skip
def test_json(toy: Toy, capfd: pytest.CaptureFixture[str], name: str, line: str, replies: dict[str, Any]) -> None:
    toy.replies.update({verb: {"ok": True, **reply} for verb, reply in replies.items()})
    verb, *rest = line.split()
    assert fast.main([verb, "--json", *rest]) == 0
    out, err = capfd.readouterr()
    assert not err
    value = msgspec.json.decode(out)
    assert value["schema_version"] == 1
    compare(f"json-{name}.json", msgspec.json.format(out, indent=1).rstrip("\n") + "\n")
