"""The sample job's work, described once: the swarm submits it, ``examples/plain.py`` does the same in one plain process.

Three kinds: numeric kernels, a Python callable on real files, and shell commands on the same files; about a minute at
most on two cores. No tmax in here: a ``Work`` becomes tasks elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from examples.stdlib_tokens import batches, source_files

TOKEN_TASKS = 32
HASH_TASKS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRun:
    """One kernel task: what ``tmax kernel NAME --n N --backend B --repeat R --seed S`` runs."""

    name: str
    n: int
    backend: str
    repeat: int
    seed: int = 0
    dtype: str = "float64"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Everything the sample job does, as values."""

    kernels: tuple[KernelRun, ...]
    token_batches: tuple[tuple[str, ...], ...]
    """Each is the argument of one call of ``examples.stdlib_tokens:count_tokens``."""
    hash_commands: tuple[tuple[str, ...], ...]
    """Argument vectors."""


def work(with_torch: bool) -> Work:
    """The work for this interpreter; the 4096 matmul only with torch."""
    kernels = [KernelRun(name="eigvals", n=100, backend="numpy", repeat=20, seed=seed) for seed in range(8)]
    kernels.append(KernelRun(name="matmul", n=2048, backend="numpy", repeat=3))
    if with_torch:
        kernels.append(KernelRun(name="matmul", n=4096, backend="torch", repeat=1))
    files = source_files()
    return Work(
        kernels=tuple(kernels),
        token_batches=tuple(tuple(batch) for batch in batches(files, TOKEN_TASKS)),
        hash_commands=tuple(hash_command(batch) for batch in batches(files, HASH_TASKS)),
    )


def kernel_check(run: KernelRun, checksum: float | None) -> dict[str, Any]:
    """What is compared of one kernel task: its checksum, and what says how near another one must be."""
    return {"name": run.name, "n": run.n, "seed": run.seed, "dtype": run.dtype, "checksum": checksum}


def hash_command(paths: Iterable[str]) -> tuple[str, ...]:
    """The command that prints one line with the SHA-256 of each file."""
    return ("sha256sum", "--", *paths)


def tokens_check(results: Iterable[dict[str, int]]) -> dict[str, int]:
    """Sums over all batches: equal for equal input, however it was dealt out."""
    total: dict[str, int] = {}
    for result in results:
        for name, value in result.items():
            total[name] = total.get(name, 0) + value
    return total


def hashes_check(outputs: Iterable[str]) -> dict[str, Any]:
    """How many files were hashed, and one digest over all lines in order of their text; a terminal's line ends do not count."""
    lines = sorted(line.strip() for output in outputs for line in output.splitlines() if line.strip())
    return {"files": len(lines), "digest": hashlib.sha256("\n".join(lines).encode()).hexdigest()}
