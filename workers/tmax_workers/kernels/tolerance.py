"""The allowed difference between checksums of one job on two libraries, devices or numbers of threads.

The inputs are the same to the last bit (``backends.py``); what differs is the order in which products are added up, and
the steps of an iteration.  Each figure is a relative difference of two checksums.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """The stated relative difference by type of number, and why it is not zero."""

    within: dict[str, float]
    reason: str


TOLERANCES: dict[str, Tolerance] = {
    # Threads, vector units and tiles add the k products of an element in different orders.  The error of an element is
    # about sqrt(k) units of its last place, with either sign, so the sum of many is nearer than any one of them: NumPy and
    # torch differ by 1e-15 in float64 and by 1e-9 in float32 up to n = 1024.  An element of a half-precision product is rounded once more, to 2**-11 or 2**-8 of
    # itself, and cuBLAS may round partial sums as well.
    "matmul": Tolerance(
        within={"float64": 1e-9, "float32": 1e-5, "float16": 1e-3, "bfloat16": 1e-2},
        reason="sums in another order",
    ),
    # An eigenvalue of a matrix that is not symmetric moves by its condition number times the error of the method: a factor
    # of about n for random matrices, and now and then far more.  Two implementations of QR take different steps.  NumPy and
    # torch differ by 2e-15 in float64 and by 6e-6 in float32 up to n = 700.
    "eigvals": Tolerance(
        within={"float64": 1e-8, "float32": 1e-3},
        reason="other steps of an iteration, times the eigenvalues' condition",
    ),
    # All terms are positive, so only the order counts; half precision is added up in float32.
    "reduce": Tolerance(
        within={"float64": 1e-9, "float32": 1e-5, "float16": 1e-5, "bfloat16": 1e-5},
        reason="sums in another order",
    ),
}


def within(kernel: str, dtype: str) -> float:
    """Return the stated relative difference.  KeyError for a kernel or a type of number that has none."""
    return TOLERANCES[kernel].within[dtype]


def agree(kernel: str, dtype: str, one: float | None, other: float | None) -> bool:
    """Return whether two checksums are the same within the stated difference; one that is not a number (None) never is."""
    if one is None or other is None:
        return False
    return math.isclose(one, other, rel_tol=within(kernel, dtype))


def difference(one: float | None, other: float | None) -> float:
    """Return how far two checksums lie apart, relative to the larger; infinite when one is not a number."""
    if one is None or other is None or not (math.isfinite(one) and math.isfinite(other)):
        return math.inf
    largest = max(abs(one), abs(other))
    return abs(one - other) / largest if largest else 0.0
