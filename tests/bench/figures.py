"""Figures beside their peers: samples, medians, spread, ratios, and the tables they are shown in.  Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower"]


def mad(values: Sequence[float]) -> float:
    """Return the median of the absolute distances from the median."""
    middle = statistics.median(values)
    return statistics.median(abs(value - middle) for value in values)


def slope(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the least-squares line through the points; 0 when there are fewer than two different x."""
    if len(pairs) < 2 or len({x for x, _ in pairs}) < 2:
        return 0.0
    return statistics.linear_regression([x for x, _ in pairs], [y for _, y in pairs]).slope


@dataclass(frozen=True, slots=True, kw_only=True)
class Must:
    """What has to hold of a figure's ratio, or of its median ``value``."""

    comparison: Literal["<=", ">="]
    bound: float
    of: Literal["ratio", "value"] = "ratio"

    def holds(self, ratio: float | None, value: float) -> bool | None:
        """Return whether it holds; None without a ratio to look at."""
        found = value if self.of == "value" else ratio
        if found is None:
            return None
        return found <= self.bound if self.comparison == "<=" else found >= self.bound

    def shown(self, unit: str) -> str:
        """Return it as text."""
        return f"{self.comparison} {self.bound:g}x" if self.of == "ratio" else f"{self.comparison} {shown(self.bound, unit)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measurement, in rounds, beside a peer measured in the same rounds (or none).

    ``what``: what is measured, unique in its bench.  ``samples`` and ``peer_samples``: one value a round, in ``unit``.
    ``target``: the number of a target in docs/benchmarks.md (empty: none).
    """

    what: str
    unit: str
    samples: tuple[float, ...]
    better: Better = "lower"
    peer: str = ""
    peer_samples: tuple[float, ...] = ()
    target: str = ""
    must: Must | None = None

    @property
    def median(self) -> float:
        """The median of the samples."""
        return statistics.median(self.samples)

    @property
    def best(self) -> float:
        """The best sample."""
        return max(self.samples) if self.better == "higher" else min(self.samples)

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ours over the peer's, for each round, as rounds are neighbours in time; of the medians when the numbers of samples differ."""
        if not self.peer_samples:
            return ()
        if len(self.samples) == len(self.peer_samples):
            return tuple(ours / peer for ours, peer in zip(self.samples, self.peer_samples, strict=True) if peer)
        peer = statistics.median(self.peer_samples)
        return (self.median / peer,) if peer else ()

    @property
    def ratio(self) -> float | None:
        """The median of the ratios; None without a peer."""
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def holds(self) -> bool | None:
        """Whether what must hold does; None when nothing must."""
        return None if self.must is None else self.must.holds(self.ratio, self.median)


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A measurement or a peer that was left out; ``reason`` as in "ray is not installed"."""

    what: str
    reason: str


Row = Figure | Skipped


def shown(value: float, unit: str) -> str:
    """Return a value with its unit, three to four digits, in thousands grouped."""
    if unit == "B":
        for prefix in ("B", "KiB", "MiB"):
            if abs(value) < 1024:
                return f"{value:.0f} {prefix}" if prefix == "B" else f"{value:.1f} {prefix}"
            value /= 1024
        return f"{value:.2f} GiB"
    if unit == "s" and 0 < abs(value) < 1:
        return f"{value * 1e3:.3g} ms" if abs(value) >= 1e-3 else f"{value * 1e6:.3g} us"
    number = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return f"{number} {unit}".rstrip()


def spread(samples: Sequence[float], unit: str) -> str:
    """Return the median, with the range when there are several samples."""
    text = shown(statistics.median(samples), unit)
    return text if len(samples) < 2 else f"{text} ({shown(min(samples), unit)} to {shown(max(samples), unit)})"


def table(title: str, rows: Sequence[Row]) -> str:
    """Return the figures as a Markdown table, with what was skipped below it."""
    lines = [f"### {title}", "", "| what | tmax | best | beside | ratio | must | holds |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        if isinstance(row, Figure):
            ratio = "" if row.ratio is None else f"{row.ratio:.2f}x"
            peer = f"{row.peer} {spread(row.peer_samples, row.unit)}" if row.peer_samples else row.peer
            must = "" if row.must is None else row.must.shown(row.unit)
            must = f"{row.target}: {must}" if row.target and must else must or row.target
            holds = {None: "", True: "yes", False: "**no**"}[row.holds]
            best = shown(row.best, row.unit)
            lines.append(f"| {row.what} | {spread(row.samples, row.unit)} | {best} | {peer} | {ratio} | {must} | {holds} |")
    skipped = [row for row in rows if isinstance(row, Skipped)]
    if skipped:
        lines += ["", *(f"- skipped: {row.what}: {row.reason}" for row in skipped)]
    return "\n".join(lines)
