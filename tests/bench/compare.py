"""Two runs beside each other, and one run against the history.  Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.bench.figures import Figure, mad
from tests.bench.report import Run, figures_of, same_machine

NOISE_MADS = 3.0
"""A change within so many deviations (MAD times 1.4826, which estimates a standard deviation) is noise."""
NOISE_LEAST = 0.05
"""A change of less than this share is noise, however close the samples lie."""
HISTORY_RUNS = 10
HISTORY_LEAST = 4
"""With fewer earlier runs on the machine nothing is flagged: the deviation of three values says little."""

Verdict = Literal["same", "better", "worse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One figure in two runs.  ``old`` and ``new``: ratios to the peer, or medians where there is none; ``noise``: a share of ``old``."""

    what: str
    old: float
    new: float
    noise: float
    verdict: Verdict

    @property
    def factor(self) -> float:
        """New over old."""
        return self.new / self.old if self.old else 1.0 if self.new == self.old else float("inf")


def series_of(figure: Figure) -> Sequence[float]:
    """Return what a figure is compared by: its ratios, or its samples where it has no peer."""
    return figure.ratios or figure.samples


def noise_of(values: Sequence[float]) -> float:
    """Return the noise of the median of these values as a share of it, at least NOISE_LEAST."""
    middle = statistics.median(values)
    return max(NOISE_LEAST, NOISE_MADS * 1.4826 * mad(values) / abs(middle)) if middle else NOISE_LEAST


def verdict_of(old: float, new: float, noise: float, better: str) -> Verdict:
    """Return whether ``new`` lies outside the noise around ``old``, and on which side."""
    if abs(new - old) <= noise * abs(old):
        return "same"
    return "better" if (new > old) == (better == "higher") else "worse"


def changes(old: Run, new: Run) -> list[Change]:
    """Return every figure that is in both runs."""
    before, found = figures_of(old), []
    for what, figure in figures_of(new).items():
        if what in before:
            first, second = series_of(before[what]), series_of(figure)
            noise = max(noise_of(first), noise_of(second))
            values = statistics.median(first), statistics.median(second)
            found.append(Change(what=what, old=values[0], new=values[1], noise=noise, verdict=verdict_of(*values, noise, figure.better)))
    return found


def regressions(history: Sequence[Run], new: Run, last: int = HISTORY_RUNS) -> list[Change]:
    """Return the figures of ``new`` that lie outside what the last runs on its machine had, on the worse side.

    A run that was not quiet is no measure for others.
    """
    earlier = [figures_of(run) for run in history if same_machine(run, new) and run["quiet"]][-last:]
    found = []
    for what, figure in figures_of(new).items():
        values = [statistics.median(series_of(run[what])) for run in earlier if what in run]
        if len(values) >= HISTORY_LEAST:
            old, now, noise = statistics.median(values), statistics.median(series_of(figure)), noise_of(values)
            verdict = verdict_of(old, now, noise, figure.better)
            if verdict == "worse":
                found.append(Change(what=what, old=old, new=now, noise=noise, verdict=verdict))
    return found


def changes_table(found: Sequence[Change]) -> str:
    """Return changes as a Markdown table."""
    lines = ["| what | old | new | new / old | noise | |", "|---|---|---|---|---|---|"]
    for one in found:
        mark = "" if one.verdict == "same" else f"**{one.verdict}**"
        lines.append(f"| {one.what} | {one.old:.3g} | {one.new:.3g} | {one.factor:.2f}x | +-{100 * one.noise:.0f} % | {mark} |")
    return "\n".join(lines)


def selected(name: str, history: Sequence[Run], files: Mapping[str, Run]) -> Run:
    """Return the run that a command line names: a file that was read, or an index in the history (-1: the last).

    Raises LookupError.
    """
    if name in files:
        return files[name]
    try:
        return history[int(name)]
    except ValueError:
        raise LookupError(f"{name!r} is neither a file nor an index in the history") from None
    except IndexError:
        raise LookupError(f"the history has {len(history)} runs, and none at {name}") from None
