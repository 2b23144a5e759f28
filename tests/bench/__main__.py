"""``scripts/bench [NAME ...]``: measure beside peers.  ``scripts/bench compare [A B]``: two runs beside each other.

A run is written as JSON to a file of its own and appended to the history.  Exit codes: 0; 1 when a bound does not hold or a figure is worse than the history allows; 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.catalog import BENCHES
from tests.bench.compare import HISTORY_RUNS, changes, changes_table, regressions, selected
from tests.bench.figures import Figure, Row, Skipped, table
from tests.bench.machine import busy_share, describe_machine, machine_line, output_of, reasons_against_quiet
from tests.bench.report import Run, parse_history, replace_generated, run_to_data
from tests.bench.rounds import Sizes
from tests.box import REPOSITORY

FOLDER = REPOSITORY / ".bench"
HISTORY = "bench-history.jsonl"
PAGE = REPOSITORY / "docs" / "benchmarks.md"


def main(arguments: Sequence[str]) -> int:
    """Run what the command line names.  Return 2 for a wrong command line."""
    try:
        if arguments[:1] == ["compare"]:
            return compare(compare_options(arguments[1:]))
        return measure(measure_options(arguments))
    except (LookupError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


# -- measure ---------------------------------------------------------------------------------------


def measure_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of a run."""
    width = max(map(len, BENCHES))
    names = "\n".join(f"  {name:<{width}}  {question}" for name, (_, question) in BENCHES.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bench", formatter_class=argparse.RawDescriptionHelpFormatter, description=f"{__doc__}\n\nbenches:\n{names}"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which benches (none: all)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each case is measured (default 5)")
    parser.add_argument("--small", action="store_true", help="the least sizes, which prove that the benches work; no measurement")
    parser.add_argument("--set", action="append", default=[], metavar="SIZE=N", help="one size of a bench, for example tasks=1000")
    parser.add_argument("--output", type=Path, help="the JSON file (default .bench/run-TIME.json)")
    parser.add_argument("--history", type=Path, default=FOLDER / HISTORY, help=f"the history file (default .bench/{HISTORY})")
    parser.add_argument("--write", action="store_true", help="also put the tables into docs/benchmarks.md")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHES]
    if unknown:
        parser.error(f"unknown bench {unknown[0]!r}; benches: {' '.join(BENCHES)}")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    if options.write and options.small:
        parser.error("--write is for measurements, --small for none")
    return options


def sizes_of(options: argparse.Namespace) -> Sizes:
    """Return the sizes of a run.  Raises ValueError for a --set that is no SIZE=N."""
    given = {}
    for text in options.set:
        name, _, number = text.partition("=")
        if not number.isdigit():
            raise ValueError(f"--set {text}: not SIZE=N with a whole number N")
        given[name] = int(number)
    return Sizes(rounds=options.rounds, small=options.small, given=given)


def measure(options: argparse.Namespace) -> int:
    """Run the benches one after another, never side by side; return 1 when something that must hold does not, unless sizes are small."""
    sizes = sizes_of(options)
    machine = describe_machine()
    load = os.getloadavg()
    now = dt.datetime.now(dt.UTC)
    commit = output_of("git", "rev-parse", "--short", "HEAD") + ("+changes" if output_of("git", "status", "--porcelain") else "")
    busy: dict[str, float] = {"before the start": busy_share()}
    print(f"{now:%Y-%m-%d}, commit {commit}.\n{machine_line(machine)}.", flush=True)
    found: dict[str, list[Row]] = {}
    tables = []
    for name in options.names or BENCHES:
        bench = importlib.import_module(f"tests.bench.{BENCHES[name][0]}")
        found[name] = bench.run(sizes)
        busy[f"after {name}"] = busy_share()
        tables.append(table(bench.TITLE, found[name]))
        print(f"\n{tables[-1]}", flush=True)
        for row in found[name]:
            if isinstance(row, Skipped):
                print(f"skipped: {row.what}: {row.reason}", file=sys.stderr)
    reasons = reasons_against_quiet(load[0], machine["cores"], busy)
    head = {
        "at": now.isoformat(timespec="seconds"),
        "commit": commit,
        "machine": machine,
        "load_before": load,
        "busy": busy,
        "quiet": not reasons and not options.small,
        "not_quiet_because": reasons + ["small sizes are no measurement"] * options.small,
        "rounds": options.rounds,
        "small": options.small,
        "sizes": dict(sizes.given),
    }
    quiet = "Quiet machine." if head["quiet"] else f"**Not a quiet run**: {'; '.join(head['not_quiet_because'])}."
    print(f"\n{quiet}")
    keep(run_to_data(head, found), options, now)
    if options.write:
        text = f"{now:%Y-%m-%d}, commit {commit}.\n{machine_line(machine)}.\n{quiet}\n\n" + "\n\n".join(tables)
        PAGE.write_text(replace_generated(PAGE.read_text(), text))
    broken = any(isinstance(row, Figure) and row.holds is False for rows in found.values() for row in rows)
    return int(broken and not options.small)


def keep(run: Run, options: argparse.Namespace, now: dt.datetime) -> None:
    """Write the run to its file and append it to the history."""
    path = options.output or FOLDER / f"run-{now:%Y%m%dT%H%M%SZ}.json"
    for file in (path, options.history):
        file.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run, indent=1) + "\n")
    with options.history.open("a") as history:
        history.write(json.dumps(run) + "\n")
    print(f"written: {path}; appended to {options.history}", file=sys.stderr)


# -- compare ---------------------------------------------------------------------------------------


def compare_options(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of a comparison."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench compare", description="Two runs beside each other, and the second one against the history."
    )
    parser.add_argument("old", nargs="?", default="-2", help="a JSON file, or an index in the history (default -2)")
    parser.add_argument("new", nargs="?", default="-1", help="a JSON file, or an index in the history (default -1)")
    parser.add_argument("--history", type=Path, default=FOLDER / HISTORY, help=f"the history file (default .bench/{HISTORY})")
    parser.add_argument("--last", type=int, default=HISTORY_RUNS, help=f"earlier runs that are looked at (default {HISTORY_RUNS})")
    return parser.parse_args(arguments)


def compare(options: argparse.Namespace) -> int:
    """Print the changes; return 1 when a figure of the new run is worse than the history of its machine allows."""
    history = parse_history(options.history.read_text()) if options.history.exists() else []
    files: dict[str, Any] = {name: json.loads(Path(name).read_text()) for name in (options.old, options.new) if Path(name).is_file()}
    old, new = (selected(name, history, files) for name in (options.old, options.new))
    for name, run in (("old", old), ("new", new)):
        quiet = "" if run["quiet"] else f"; not quiet: {'; '.join(run['not_quiet_because'])}"
        print(f"{name}: {run['at']}, commit {run['commit']}, {machine_line(run['machine'])}{quiet}")
    print(f"\n{changes_table(changes(old, new))}")
    if not new["quiet"]:
        print("\nthe new run was not quiet: it is not compared with the history")
        return 0
    earlier = [run for run in history if run["at"] < new["at"]]
    flagged = regressions(earlier, new, options.last)
    print(f"\nfigures worse than the last quiet runs on this machine allow: {len(flagged)}")
    if flagged:
        print(f"\n{changes_table(flagged)}")
    return int(bool(flagged))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
