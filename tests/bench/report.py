"""A run as JSON, and the history file: one run a line.  Text in, values out; files are the caller's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tests.bench.figures import Figure, Must, Row, Skipped

SCHEMA_VERSION = 1
MACHINE_KEYS = ("cpu", "cores", "memory_gib", "python")
"""What makes two machines one for comparing runs: a new kernel or tmux may be the cause of a change."""

Run = dict[str, Any]


def row_to_data(row: Row) -> dict[str, Any]:
    """Return a row as plain data, with what is derived from its samples."""
    if isinstance(row, Skipped):
        return {"what": row.what, "skipped": row.reason}
    data = asdict(row)
    data |= {"samples": list(row.samples), "peer_samples": list(row.peer_samples)}  # as they come back from JSON
    return {**data, "best": row.best, "median": row.median, "ratio": row.ratio, "holds": row.holds}


def row_from_data(data: Mapping[str, Any]) -> Row:
    """Return the row of ``row_to_data``; what is derived is derived again."""
    if "skipped" in data:
        return Skipped(what=data["what"], reason=data["skipped"])
    must = None if data["must"] is None else Must(**data["must"])
    names = {name: data[name] for name in ("what", "unit", "better", "peer", "target")}
    return Figure(must=must, samples=tuple(data["samples"]), peer_samples=tuple(data["peer_samples"]), **names)


def run_to_data(head: Mapping[str, Any], benches: Mapping[str, Sequence[Row]]) -> Run:
    """Return a whole run.  ``head``: machine, commit, time, whether it was quiet."""
    return {"schema_version": SCHEMA_VERSION, **head, "benches": {name: list(map(row_to_data, rows)) for name, rows in benches.items()}}


def figures_of(run: Run) -> dict[str, Figure]:
    """Return the figures of a run, by ``bench: what, beside peer``."""
    found = {}
    for bench, rows in run["benches"].items():
        for row in map(row_from_data, rows):
            if isinstance(row, Figure):
                found[f"{bench}: {row.what}" + (f", beside {row.peer}" if row.peer else "")] = row
    return found


def same_machine(one: Run, other: Run) -> bool:
    """Return whether two runs can be compared by their values."""
    return all(one["machine"].get(key) == other["machine"].get(key) for key in MACHINE_KEYS)


def parse_history(text: str) -> list[Run]:
    """Return the runs of a history file, oldest first.  Raises ValueError that names the line of a broken one."""
    runs = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                run = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number} of the history is no JSON: {error}") from error
            if run.get("schema_version") != SCHEMA_VERSION:
                raise ValueError(f"line {number} of the history has schema_version {run.get('schema_version')}, not {SCHEMA_VERSION}")
            runs.append(run)
    return runs


def replace_generated(page: str, text: str) -> str:
    """Return a page with the text between its two markers replaced.  Raises ValueError without them."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN} or {END}")
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"


BEGIN = "<!-- measured -->"
END = "<!-- end of measured -->"
