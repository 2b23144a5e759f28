"""``scripts/bench [NAME ...] [--write]``: measure, print the tables, and exit 1 when a demand does not hold."""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import subprocess
import sys
from pathlib import Path

from tests.bench.figures import machine, table
from tests.box import REPOSITORY

NAMES = ("init", "idle", "tasks", "contexts", "commands", "cli", "storm")


def main() -> int:
    """Run the benches named (none: all), one after another, never side by side."""
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], default=[], metavar="NAME", help=" ".join(NAMES))
    parser.add_argument("--write", action="store_true", help="also put the tables into docs/benchmarks.md")
    options = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    ).stdout.strip()
    head = f"{dt.date.today()}, commit {commit}.\n{machine()}."  # noqa: DTZ011 - the day where it was measured
    print(head, flush=True)
    tables, broken = [], False
    for name in options.names or NAMES:
        bench = importlib.import_module(f"tests.bench.bench_{name}")
        figures = bench.run()
        broken |= any(figure.holds is False for figure in figures)
        tables.append(table(bench.TITLE, figures))
        print(f"\n{tables[-1]}", flush=True)
    if options.write:
        write(head, tables)
    return 1 if broken else 0


def write(head: str, tables: list[str]) -> None:
    """Put the tables behind the mark in docs/benchmarks.md; what stands before it is kept."""
    page = Path(REPOSITORY) / "docs" / "benchmarks.md"
    before, mark, _ = page.read_text().partition("<!-- measured -->")
    page.write_text(f"{before}{mark or '<!-- measured -->'}\n\n{head}\n\n" + "\n\n".join(tables) + "\n")


if __name__ == "__main__":
    sys.exit(main())
