"""Reading verbs when no controller runs: take the controller's lock, read the store, release the lock, and report that.

The lock prevents that a controller starts and writes meanwhile.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tmax.cli import output
from tmax.cli.task_ids import several_selected
from tmax.controller.fields import MAX_NUMBER
from tmax.controller.listing import PAGE_ROWS
from tmax.controller.selectors import select
from tmax.controller.verbs.task_numbers import no_task
from tmax.controller.views import task_details, task_view, to_plain
from tmax.core.model import Task
from tmax.core.snapshot import TaskView
from tmax.core.tables import ps_text
from tmax.errors import NoSwarm, TmaxError
from tmax.storage.store import open_for_reading
from tmax.storage.task_store import Reader

WHY = "its controller is not running"


def _never_started(common: output.Common) -> bool:
    return not os.path.exists(common.layout.database)


@contextmanager
def _store(common: output.Common, missing: NoSwarm) -> Iterator[Reader]:
    """Open the store and report that the data comes from it.  Raises NoSwarm when there is none, LockHeld when another process has it."""
    if _never_started(common):
        raise NoSwarm(common.layout.swarm, "was never started") from missing
    with open_for_reading(common.layout) as reader:
        common.notify(f"note: swarm {common.layout.swarm!r} is not running; this is read from its store")
        yield reader


def status(common: output.Common, missing: NoSwarm) -> int:
    """Print the stored counts with ``--json``.  Always raises NoSwarm, with the reason and the number of tasks kept."""
    layout = common.layout
    if _never_started(common):
        raise NoSwarm(layout.swarm, "was never started") from missing
    down = os.path.lexists(f"{layout.state}/down")
    with open_for_reading(layout) as reader:
        loaded = reader.loaded()
    kept = len(loaded.tasks)
    why = "was taken down" if down else "has no controller running"
    why += f"; {kept} task{'s' if kept != 1 else ''} kept in its queue" if kept else ""
    if common.json:
        tasks = dict(loaded.counts)
        for task in loaded.tasks:
            tasks[task.state.value] = tasks.get(task.state.value, 0) + 1
        output.write_json(
            {
                "schema_version": output.SCHEMA_VERSION,
                "swarm": layout.swarm,
                "running": False,
                "down": down,
                "controller_pid": None,
                "workers": [],
                "tasks": tasks,
            }
        )
    raise NoSwarm(layout.swarm, why) from missing


def ps(common: output.Common, missing: NoSwarm, *, every: bool, states: Sequence[str], limit: int) -> Iterator[dict[str, Any]]:
    """Yield the lines that a controller would reply to ``ps``."""
    with _store(common, missing) as reader:
        live = sorted(reader.loaded().tasks, key=lambda task: task.id)
        views = [task_view(task, WHY) for task in live if not states or task.state.value in states]
        if every or states:
            views += _ended(reader, list(states) or None, limit - len(views) if limit else MAX_NUMBER)
    views = views[: limit or None]
    if common.json or common.quiet:
        for at in range(0, len(views) or 1, PAGE_ROWS):
            yield {"tasks": to_plain(views[at : at + PAGE_ROWS])}
        return
    form = common.text_format()
    yield {"text": ps_text(views, time.time(), form["width"], form["color"])}


def _ended(reader: Reader, states: Sequence[str] | None, left: int) -> Iterator[TaskView]:
    """Yield at most ``left`` ended tasks, page by page: their results may be large."""
    before: int | None = None
    while left > 0:
        page = reader.ended(min(PAGE_ROWS, left), states, before)
        yield from map(task_view, page)
        if len(page) < PAGE_ROWS:
            return
        left -= len(page)
        before = page[-1].id


def _ids(reader: Reader, words: Sequence[str]) -> list[int]:
    last = max(reader.last_ids(1), default=0)
    ids = select(words, last, reader)
    if isinstance(ids, TmaxError):
        raise ids
    return ids


def _found(reader: Reader, ids: Sequence[int]) -> list[Task]:
    found = reader.tasks(ids)
    unknown = [number for number in ids if number not in found]
    if unknown:
        raise no_task(unknown)
    return [found[number] for number in ids]


def _single(reader: Reader, word: str) -> Task:
    ids = _ids(reader, [word])
    if len(ids) != 1:
        raise several_selected(word, len(ids))
    return _found(reader, ids)[0]


def ended(common: output.Common, missing: NoSwarm, words: Sequence[str]) -> list[dict[str, Any]]:
    """Return the tasks that ``words`` select when all have ended.  Raises ``missing`` otherwise: without a controller none will end."""
    plain: list[dict[str, Any]] = []
    with _store(common, missing) as reader:
        ids = _ids(reader, words)
        for at in range(0, len(ids), PAGE_ROWS):
            tasks = _found(reader, ids[at : at + PAGE_ROWS])
            if not all(task.ended for task in tasks):
                raise missing
            plain += to_plain([task_view(task) for task in tasks])
    return plain


def show(common: output.Common, missing: NoSwarm, words: Sequence[str]) -> dict[str, Any]:
    """Return the reply to ``show``."""
    with _store(common, missing) as reader:
        task = _single(reader, words[0])
    return {"task": task_details(task, "" if task.ended else WHY), "blobs": common.layout.blobs}


def logs(common: output.Common, missing: NoSwarm, words: Sequence[str]) -> dict[str, Any]:
    """Return the reply to ``logs`` of a task."""
    with _store(common, missing) as reader:
        task = _single(reader, words[0])
    path = f"{common.layout.logs}/{task.id}.log"
    tail = task.outcome.report.tail if task.outcome else b""
    return {
        "task": task.id,
        "state": task.state.value,
        "worker": task.ran_on,
        "file": path if os.path.exists(path) else None,
        "tail": base64.b64encode(tail).decode(),
        "lost_bytes": task.outcome.report.lost_bytes if task.outcome else 0,
        "live": False,
    }
