"""The sample job's work in one plain process, one thing after the other: what the swarm is compared with.

    python -m examples.plain            a table
    python -m examples.plain --json     {"kinds": {"kernel": {"tasks": 10, "seconds": 3.1, "cpu_s": 5.9, "check": [...]}, ...}, ...}

It uses NumPy and torch directly, with their own default threads, and none of tmax's code.
The ``check`` values must be those of the swarm: same input, same seeds.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from examples.sample_job import KernelRun, Work, hashes_check, kernel_check, tokens_check, work
from examples.stdlib_tokens import count_tokens


def kernels(job: Work) -> list[dict[str, Any]]:
    """Each kernel with its warm-up and its repeats; its checksum as the swarm's kernels define it."""
    return [kernel_check(run, kernel(run)) for run in job.kernels]


def kernel(run: KernelRun) -> float:
    """One kernel task: inputs from the seed, uniform in [-0.5, 0.5); returns the sum of absolute values of the result."""
    import numpy as np

    # The swarm's kernels draw the same numbers, whatever device they run on.
    generator = np.random.Generator(np.random.PCG64(run.seed))
    count = 2 if run.name == "matmul" else 1
    inputs: list[Any] = [generator.random((run.n, run.n), dtype=run.dtype) - np.asarray(0.5, run.dtype) for _ in range(count)]
    compute: Callable[..., Any] = np.matmul if run.name == "matmul" else np.linalg.eigvals
    if run.backend == "torch":
        import torch

        inputs = [torch.from_numpy(array) for array in inputs]
        compute = torch.matmul if run.name == "matmul" else torch.linalg.eigvals
    result = None
    for _ in range(1 + run.repeat):
        result = compute(*inputs)
    return float(np.abs(np.asarray(result)).sum(dtype=np.float64))


def tokens(job: Work) -> dict[str, int]:
    """Tokenise all files."""
    return tokens_check(count_tokens(list(batch)) for batch in job.token_batches)


def hashes(job: Work) -> dict[str, Any]:
    """Run the hash commands one after the other."""
    return hashes_check(subprocess.run(command, check=True, capture_output=True, text=True).stdout for command in job.hash_commands)


def measured(tasks: int, doing: Callable[[Work], Any], job: Work) -> dict[str, Any]:
    """Seconds on the clock and of the processor (children included) for one kind of work."""
    cpu_before, began = cpu_s(), time.perf_counter()
    check = doing(job)
    return {"tasks": tasks, "seconds": time.perf_counter() - began, "cpu_s": cpu_s() - cpu_before, "check": check}


def cpu_s() -> float:
    """User and system time of this process and of the children it has waited for."""
    return sum(use.ru_utime + use.ru_stime for use in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def run_all(job: Work) -> dict[str, Any]:
    """All kinds in order, and the seconds the imports took: a script of one's own pays for them in every run."""
    began = time.perf_counter()
    for module in sorted({run.backend for run in job.kernels}):
        importlib.import_module(module)
    import_s = time.perf_counter() - began
    kinds = {
        "kernel": measured(len(job.kernels), kernels, job),
        "python": measured(len(job.token_batches), tokens, job),
        "shell": measured(len(job.hash_commands), hashes, job),
    }
    return {"import_s": import_s, "total_s": time.perf_counter() - began, "kinds": kinds}


def main(argv: list[str]) -> int:
    """Do it and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m examples.plain", description="The sample job in one plain process.")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--no-torch", action="store_true", help="leave the torch kernel out")
    arguments = parser.parse_args(argv)
    with_torch = not arguments.no_torch and importlib.util.find_spec("torch") is not None
    figures = run_all(work(with_torch))
    if arguments.json:
        print(json.dumps(figures))
        return 0
    print(f"{'kind':<8} {'tasks':>5} {'seconds':>8} {'tasks/s':>8} {'cpu s':>7}")
    for kind, row in figures["kinds"].items():
        print(f"{kind:<8} {row['tasks']:>5} {row['seconds']:>8.2f} {row['tasks'] / row['seconds']:>8.1f} {row['cpu_s']:>7.2f}")
    print(f"in all {figures['total_s']:.2f} s, {figures['import_s']:.2f} s of them for imports")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
