"""The table "Where does my change go?" in docs/architecture.md: its paths exist, and each change is really made in the named files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")

PLACES = {
    "the number of workers": {
        "tmax/core/roster.py": r"workers_wanted = ",
        "tmax/core/nesting.py": r"workers_wanted \+ index",
        "tmax/controller/startup.py": r"workers = settings\.swarm\.workers",
        "tmax/core/events.py": r"^class Submitted",
        "tmax/core/scheduler.py": r"self\._handlers",
    },
    "depend on other tasks": {
        "tmax/core/scheduler.py": r"def _accept\(",
        "tmax/core/state.py": r"def end\(",
        "tmax/core/ledger.py": r"^MOVES\b",
        "tmax/core/task_tree.py": r"\.job\.parent",
        "tmax/core/waiting_reasons.py": r"^def why_waiting",
    },
    "an option of a task": {"pipes/tmax_pipes/task_options.py": r"^OPTIONS: .*--retries", "pipes/tmax_pipes/jobs.py": r"fresh: bool"},
    "a column to `ps`": {
        "tmax/core/snapshot.py": r"^class TaskView",
        "tmax/controller/views.py": r"^def task_view",
        "tmax/core/tables.py": r'^_TASK = [^#]*?head="PRIORITY"',
    },
    "a column to `workers`": {
        "tmax/engines/engine.py": r"^class WorkerFigures",
        "tmax/engines/process_table.py": r"WorkerFigures\(",
        "tmax/core/snapshot.py": r"^class WorkerView",
        "tmax/controller/snapshot_builder.py": r"WorkerView\(",
        "tmax/core/tables.py": r'^_WORKER = [^#]*?head="MEMORY"',
    },
    "on the dashboard": {"dashboard/tmax_dashboard/rows.py": r"^def _worker_row"},
    "metrics": {
        "tmax/core/ledger.py": r"self\.counts: Counter",
        "tmax/core/stats.py": r"^class Stats",
        "tmax/core/snapshot.py": r"^class Snapshot\b",
        "tmax/controller/snapshot_builder.py": r"return Snapshot\(",
    },
    "a cache of results": {
        "tmax/controller/admission.py": r"def accept_once",
        "tmax/storage/schema.py": r"CREATE TABLE tasks",
        "tmax/storage/reader.py": r"def requests\(",
        "tmax/core/scheduler.py": r"def _accept\(",
    },
    "a worker's death": {
        "tmax/core/retry_policy.py": r"died under it; the last one",
        "tmax/engines/process_end.py": r"killed by ",
        "tmax/cli/outcome.py": r"died while it ran the task",
        "workers/tmax_workers/kinds/shell.py": r"^PROGRAM_KILLED_HINT",
    },
    "after a failure or a death": {"tmax/core/retry_policy.py": r"^def after_failure"},
    "orphan limit": {
        "tmax/core/settings.py": r"orphan_ttl_s: \w+ = ",
        "workers/tmax_workers/state_machine.py": r"no controller for",
        "workers/tmax_workers/zygote.py": r"_alone_since \+ self\._orphan_ttl_s",
    },
    "stdin of commands": {
        "tmax/cli/input.py": r"SCM_RIGHTS",
        "workers/tmax_workers/kinds/stdin.py": r"^class Stdin",
        "workers/tmax_workers/kinds/shell.py": r"[Ss]tdin\(",
    },
    "a kernel": {
        "workers/tmax_workers/kernels/catalog.py": r"^KERNELS\b",
        "workers/tmax_workers/kernels/tolerance.py": r"matmul",
        "scripts/check_gpu": r"matmul",
    },
    "a kind of job": {
        "pipes/tmax_pipes/jobs.py": r"^Job: TypeAlias|^Job = ",
        "workers/tmax_workers/kinds/registry.py": r"^def call\(",
        "tmax/core/model.py": r"^DELIVERY_OF_KIND",
        "tmax/controller/intake.py": r"^_KINDS\b",
    },
    "an engine for processes": {
        "tmax/engines/host.py": r"^class Host\(Protocol\)",
        "tmax/engines/process/process_host.py": r"^class ProcessHost",
        "tmax/engines/factory.py": r"^def host_for",
        "tmax/core/settings.py": r"engine: ",
        "tmax/cli/verbs/init.py": r'one_of\("tmux", "process"\)',
        "tmax/api/swarm.py": r'engine: Literal\["tmux", "process"\]',
        "tests/contract/test_engines.py": r"^def test_",
    },
    "an engine of another kind": {
        "tmax/engines/engine.py": r"^class Engine\(Protocol\)",
        "tmax/engines/terminals.py": r"^class Terminals\(Protocol\)",
        "tmax/engines/factory.py": r"^def engine_for",
    },
    "add a verb": {
        "tmax/cli/verbs/__init__.py": r"^FILES = ",
        "tmax/control/protocol.py": r"^\| ``hold``",
        "tmax/controller/assembly.py": r'"hold": partial\(',
    },
    "a setting": {"tmax/core/settings.py": r"^class SwarmSettings"},
    "kept on disk": {
        "tmax/storage/schema.py": r"^MIGRATIONS\b",
        "tmax/storage/task_rows.py": r"^class TaskProgress",
    },
    "which task runs next": {"tmax/core/queue.py": r"^class ReadyQueue", "tmax/core/placement.py": r"^class FreeSlots"},
    "deadlock is reported": {"tmax/core/nesting.py": r"^def deadlock", "tmax/controller/deadlock_notices.py": r"^class DeadlockNotices"},
}
"""Part of a row's first cell -> file that the row names -> what that file must hold for the row to be true."""


def rows() -> dict[str, str]:
    """The rows of the table: the change -> where it goes."""
    table = PAGE.split("## Where does my change go?\n", 1)[1]
    found = [line.strip("| ").split(" | ", 1) for line in table.splitlines() if line.startswith("| ") and not line.startswith("|--")]
    return {row[0]: row[1] for row in found[1:]}


def row_of(part: str) -> str:
    found = [places for change, places in rows().items() if part in change]
    assert len(found) == 1, f"{len(found)} rows about {part!r}"
    return found[0]


@pytest.mark.parametrize("part", PLACES)
def test_a_change_is_made_in_the_files_that_its_row_names(part: str) -> None:
    places = row_of(part)
    for path, pattern in PLACES[part].items():
        assert f"`{path}`" in places, f"the row about {part!r} does not name {path}"
        text = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(pattern, text, re.MULTILINE | re.DOTALL), f"{path} does not hold {pattern}"


@pytest.mark.parametrize("change", rows())
def test_every_path_and_name_in_a_row_exists(change: str) -> None:
    """``name`` in brackets after a path is defined or used in that file; NAME and KIND stand for new files."""
    for named, names in re.findall(r"`([\w./{},]+/[\w./]*)`(?: \(((?:`\w+`(?:, )?)+))?", rows()[change]):
        path = named.rsplit("/", 1)[0] if "NAME" in named or "KIND" in named else named
        assert (ROOT / path).exists(), path
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"\b{name}\b", (ROOT / path).read_text(encoding="utf-8")), f"{path} has no {name}"


def test_every_path_in_the_page_is_from_the_root() -> None:
    for path in re.findall(r"`((?:tmax|workers|pipes|dashboard|tests|scripts)/[\w./]+)`", PAGE):
        if "NAME" not in path and "KIND" not in path:
            assert (ROOT / path).exists(), path
