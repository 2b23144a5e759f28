"""What the sample job did, as text: computed from what the swarm recorded about each task, from nothing else.

    answers of ``show``, one for each task --> Record --> KindFigures --> the report
    figures of ``examples/plain.py`` -----------------------------------/

Pure: values in, text out.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tmax_workers.kernels.tolerance import TOLERANCES, agree, difference, within

KINDS = ("kernel", "python", "shell")
AMOUNT = re.compile(r"-|[0-9.]+( [%a-zA-Z/]+)?")
"""What is set to the right in a table: a number with its unit, or none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One task as the swarm recorded it."""

    id: int
    kind: str
    label: str
    state: str
    worker: str
    submitted_at: float
    ended_at: float
    """0.0: it has not ended."""
    duration_s: float
    cpu_s: float
    device: str = ""
    why: str = ""
    """Why it did not succeed; empty when it did."""
    figures: Mapping[str, Any] | None = None
    """What a kernel measured of itself."""


def record_of(story: Mapping[str, Any]) -> Record:
    """Return the record in one answer of ``show`` (``tmax result ID --json`` prints the same)."""
    report = story.get("report") or {}
    result = story.get("result")
    return Record(
        id=story["id"],
        kind=story["kind"],
        label=story["label"],
        state=story["state"],
        worker=story["worker"],
        submitted_at=story["submitted_at"],
        ended_at=story["ended_at"],
        duration_s=story["duration_s"],
        cpu_s=report.get("cpu_s", 0.0),
        device=report.get("device", ""),
        why=story.get("why", ""),
        figures=result if story["kind"] == "kernel" and isinstance(result, dict) else None,
    )


def not_accepted(kind: str, why: str) -> Record:
    """Return the record of a task that never became one: it has no number and ran nowhere."""
    return Record(
        id=0, kind=kind, label="", state="not accepted", worker="", submitted_at=0.0, ended_at=0.0, duration_s=0.0, cpu_s=0.0, why=why
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFigures:
    """One kind's part of the run."""

    kind: str
    tasks: int
    done: int
    seconds: float
    """From the first submit to the last recorded end."""
    cpu_s: float
    workers: Mapping[str, int] = field(default_factory=dict)
    """Tasks that each worker ended."""
    devices: tuple[str, ...] = ()

    @property
    def per_second(self) -> float:
        """Tasks that succeeded, a second; 0.0 when no time passed."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    def cpu_share(self, cores: int) -> float:
        """Part of all ``cores`` that the tasks used while this kind ran, 0.0 to about 1.0."""
        return self.cpu_s / (self.seconds * cores) if self.seconds > 0 else 0.0


def figures_of(kind: str, records: Iterable[Record]) -> KindFigures:
    """Return the figures of one kind; all zero when it has no task."""
    ours = [record for record in records if record.kind == kind]
    ended = [record for record in ours if record.ended_at]
    seconds = max(record.ended_at for record in ended) - min(record.submitted_at for record in ended) if ended else 0.0
    return KindFigures(
        kind=kind,
        tasks=len(ours),
        done=sum(record.state == "done" for record in ours),
        seconds=seconds,
        cpu_s=sum(record.cpu_s for record in ours),
        workers=Counter(record.worker for record in ended if record.worker),
        devices=tuple(sorted({record.device for record in ours if record.device})),
    )


def same(ours: object, plain: object) -> bool:
    """Return whether two checks agree: equal, except for a kernel's checksum, which may differ by what is stated for it."""
    if isinstance(ours, Mapping) and isinstance(plain, Mapping):
        if ours.keys() != plain.keys():
            return False
        exact = [key for key in ours if key != "checksum"]
        near = "checksum" not in ours or agree(ours["name"], ours["dtype"], ours["checksum"], plain["checksum"])
        return near and all(same(ours[key], plain[key]) for key in exact)
    if isinstance(ours, list | tuple) and isinstance(plain, list | tuple):
        return len(ours) == len(plain) and all(map(same, ours, plain))
    return ours == plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything the report is made of."""

    swarm: str
    workers: Sequence[str]
    cores: int
    python: str
    records: Sequence[Record]
    checks: Mapping[str, object]
    """By kind: what the swarm's results add up to.  A kind with a task that did not succeed has none."""
    plain: Mapping[str, Any] | None
    """What ``examples/plain.py --json`` printed; None when it failed."""

    @property
    def failed(self) -> list[Record]:
        """Tasks that did not succeed."""
        return [record for record in self.records if record.state != "done"]

    def agrees(self, kind: str) -> bool | None:
        """Return whether both ways gave the same results for this kind; None when one of them has none."""
        if self.plain is None or kind not in self.checks:
            return None
        return same(self.checks[kind], self.plain["kinds"][kind]["check"])

    @property
    def ok(self) -> bool:
        """True when every task succeeded and every result is that of the plain process."""
        return not self.failed and all(self.agrees(kind) for kind in KINDS)


def report(run: Run) -> str:
    """Return the report, ending with a newline."""
    parts = [
        f"Sample job on swarm {run.swarm!r}: {len(run.workers)} workers, {count(run.cores, 'core')}, Python {run.python}",
        table(kind_rows(run)),
        table(worker_rows(run)),
        table(kernel_rows(run.records)),
        "\n".join(closing(run)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def kind_rows(run: Run) -> list[list[str]]:
    """One line a kind: what the swarm did, and the plain process beside it."""
    rows = [
        ["kind", "tasks", "failed", "seconds", "tasks/s", f"CPU of {count(run.cores, 'core')}", "device", "one process", "same results"]
    ]
    for kind in KINDS:
        ours = figures_of(kind, run.records)
        plain_s = f"{run.plain['kinds'][kind]['seconds']:.2f} s" if run.plain else "-"
        agrees = {True: f"yes{stated(run.checks.get(kind))}", False: "NO", None: "-"}[run.agrees(kind)]
        share = f"{100 * ours.cpu_share(run.cores):.0f} %"
        amounts = [str(ours.tasks), str(ours.tasks - ours.done), f"{ours.seconds:.2f}", f"{ours.per_second:.1f}", share]
        rows.append([kind, *amounts, ", ".join(ours.devices) or "-", plain_s, agrees])
    return rows


def checksums(check: object) -> list[Mapping[str, Any]]:
    """Return the rows of a check that are kernels' checksums."""
    return [row for row in check if isinstance(row, Mapping) and "checksum" in row] if isinstance(check, list | tuple) else []


def stated(check: object) -> str:
    """Return the widest difference that counts as the same in this check; empty when nothing but equal does."""
    rows = checksums(check)
    return f" (within {max(within(row['name'], row['dtype']) for row in rows):.0e})" if rows else ""


def kernel_lines(run: Run) -> list[str]:
    """Return, for each kernel and type, how far the two ways' checksums lie apart, how far they may, and why."""
    if run.agrees("kernel") is None or run.plain is None:
        return []
    groups: dict[tuple[str, str], list[float]] = {}
    for ours, plain in zip(checksums(run.checks["kernel"]), checksums(run.plain["kinds"]["kernel"]["check"]), strict=False):
        groups.setdefault((ours["name"], ours["dtype"]), []).append(difference(ours["checksum"], plain["checksum"]))
    return [
        f"Checksums of {name} {dtype}: {f'at most {max(apart):.0e} apart' if any(apart) else 'equal'}; within {within(name, dtype):.0e} is the same ({TOLERANCES[name].reason})."
        for (name, dtype), apart in groups.items()
    ]


def worker_rows(run: Run) -> list[list[str]]:
    """One line a kind: how many tasks each worker ended."""
    figures = [figures_of(kind, run.records) for kind in KINDS]
    seen = {name for one in figures for name in one.workers}
    names = [*run.workers, *sorted(seen - set(run.workers))]
    return [["ran by", *names], *([one.kind, *(str(one.workers.get(name, 0)) for name in names)] for one in figures)]


def kernel_rows(records: Iterable[Record]) -> list[list[str]]:
    """One line for each kind of kernel: medians of what the workers measured of one run."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for record in records:
        if record.figures:
            one = record.figures
            shapes = " @ ".join("x".join(map(str, shape)) for shape in one["shape"])
            groups.setdefault((one["kernel"], shapes, one["backend"], one["device_name"]), []).append(one)
    rows = [["kernel", "of", "with", "on", "tasks", "one run", "rate"]]
    for key, group in groups.items():
        ms = 1000 * statistics.median(one["median_s"] for one in group)
        unit, name = ("gflops", "GFLOP/s") if "gflops" in group[0] else ("gb_per_s", "GB/s")
        rate = statistics.median(one[unit] for one in group)
        rows.append([*key, str(len(group)), f"{ms:.1f} ms", f"{rate:.1f} {name}"])
    return rows if len(rows) > 1 else []


def closing(run: Run) -> list[str]:
    """The totals, what failed, and what differs."""
    whole = sum(figures_of(kind, run.records).seconds for kind in KINDS)
    lines = [f"The swarm: {whole:.1f} s for all three, one kind after the other."]
    if run.plain:
        lines.append(f"One process (examples/plain.py): {run.plain['total_s']:.1f} s, of which {run.plain['import_s']:.1f} s are imports.")
    else:
        lines.append("One process (examples/plain.py): failed, so there is nothing to compare with.")
    lines += kernel_lines(run)
    lines += [
        f"FAILED: task {one.id} ({one.kind}, {one.label[:60]}): {one.state}: {one.why or 'no reason was recorded'}"
        for one in run.failed[:10]
    ]
    if len(run.failed) > 10:
        lines.append(f"FAILED: {len(run.failed) - 10} more")
    lines += [f"DIFFERENT: the results of kind {kind} are not those of the plain process" for kind in KINDS if run.agrees(kind) is False]
    return lines


def count(number: int, what: str) -> str:
    """``1 core``, ``2 cores``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell; numbers to the right, words to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = [all(AMOUNT.fullmatch(cell) for cell in column[1:]) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) if flush else cell.ljust(width) for cell, width, flush in zip(row, widths, right, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
