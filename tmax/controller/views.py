"""Tasks as they are shown to users: one row, or all details.  Pure functions."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec

from tmax.core.model import Task
from tmax.core.snapshot import TaskView
from tmax.task_end import end_of_failure
from tmax_pipes import task_options
from tmax_pipes.jobs import Blob, Job, ShellJob, label_of

TEXT_LIMIT = 4096
"""Characters of a label or a reason in a view; a longer one is cut and ends with an ellipsis.  The job itself is stored whole."""


def to_plain(value: object) -> Any:
    """Return ``value`` for the JSON encoder: structs and dataclasses become dicts, bytes base64 text."""
    return msgspec.to_builtins(value)


def brief(text: str) -> str:
    """Return ``text``, cut to TEXT_LIMIT characters with an ellipsis."""
    return text if len(text) <= TEXT_LIMIT else f"{text[: TEXT_LIMIT - 1]}…"


def brief_label(job: Job) -> str:
    """Return the label of a job, cut to TEXT_LIMIT; only as many bytes of its arguments are decoded as that needs."""
    if not isinstance(job, ShellJob) or sum(map(len, job.argv)) <= TEXT_LIMIT:
        return brief(label_of(job))
    parts: list[str] = []
    left = TEXT_LIMIT + 1
    for part in job.argv:
        parts.append(part[: 4 * left].decode("utf-8", "replace"))  # four bytes are the longest character
        left -= len(parts[-1]) + 1
        if left <= 0:
            break
    return brief(" ".join(parts))


def task_view(task: Task, why: str = "") -> TaskView:
    """Return the row of a task; ``why``: the reason why it has not started."""
    outcome = task.outcome
    failure = outcome.failure if outcome and task.ended else None
    report = outcome.report if outcome else None
    lease = task.lease
    end = end_of_failure(task.state.value, failure) if task.ended else None
    has_status = end is not None and (task.kind == "shell" or not end.ok)
    return TaskView(
        id=task.id,
        name=task.options.name,
        kind=task.kind,
        label=brief_label(task.job),
        state=task.state.value,
        priority=task.options.priority,
        options=task.options,
        attempt=task.attempt,
        worker=lease.worker if lease else task.ran_on,
        submitted_at=task.submitted_at,
        started_at=lease.started_at if lease else (report.started_at if report else 0.0),
        ended_at=task.ended_at,
        duration_s=report.duration_s if report and task.ended else 0.0,
        exit_code=end.status if end is not None and has_status else None,
        signal=end.signal if end is not None else None,
        why=brief(failure.message) if failure else why if end is None or end.ok else end.words,
    )


def options_of(task: Task) -> dict[str, Any]:
    """Return the value of every option that applies to this task's kind, by name."""
    found = {
        option.name: getattr(task.options if option.owner == "task" else task.job, option.name)
        for option in task_options.OPTIONS
        if task.kind in option.kinds
    }
    return {**found, "delivery": task.delivery}


def task_details(task: Task, why: str = "") -> dict[str, Any]:
    """Return everything about a task: its row, its options, crashes, report, failure and result."""
    details: dict[str, Any] = to_plain(task_view(task, why))
    del details["options"]  # here each has a field of its own, with its default where it was not given
    details |= options_of(task)
    details["failures"] = task.failures
    details["crashes"] = to_plain(task.crashes)
    outcome = task.outcome
    if outcome is None:
        return details
    details["report"] = to_plain(outcome.report)
    details["form"] = outcome.form
    if outcome.failure is not None:
        details["failure"] = to_plain(outcome.failure)
    if isinstance(outcome.result, Blob):
        details["blob"] = to_plain(outcome.result)
    elif outcome.form == "json":
        details["result"] = json.loads(outcome.result)
    elif outcome.form == "pickle":
        details["pickle"] = base64.b64encode(outcome.result).decode()
    return details
