"""How many threads numeric libraries may use in one worker, set before their import and enforced after it.

    usable cores (affinity, cgroup quota) // workers -> environment before import -> threadpoolctl and torch after it

N workers that each start one thread per core spend most of their time spinning at each other's barriers: small
multiplications lose a factor of 6 to 21. The environment alone is too late in a worker that was forked after the import.
"""

from __future__ import annotations

import os
import sys

from tmax_workers import cgroup
from tmax_workers.signal_masks import threads_without_signals

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def usable_cores() -> int:
    """Return the number of cores this process may use: by its affinity and the whole cores of its cgroup's quota; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup.cpu_quota()
    return max(1, cores if quota is None else min(cores, int(quota)))


def default_threads(workers: int) -> int:
    """Return the threads for each of ``workers`` (below 1 counts as 1), so that together they fill the usable cores; at least 1."""
    return max(1, usable_cores() // max(1, workers))


def env_for(threads: int) -> dict[str, str]:
    """Return the variables that numeric libraries read once, at import. Raises ValueError below 1."""
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    return dict.fromkeys(VARIABLES, str(threads))


def enforce(threads: int) -> dict[str, int]:
    """Set imported libraries to ``threads``, and the environment for later imports and for children.

    Returns the counts in effect, by library (``openblas``, ``openmp``, ``torch``...); empty when none is loaded.
    It may be called again with a higher or lower count. Raises ValueError below 1.
    Imports neither NumPy nor torch, and runs no parallel region: a forked child may call it before its first computation.
    """
    os.environ.update(env_for(threads))
    if "numpy" not in sys.modules and "torch" not in sys.modules:
        return {}
    import threadpoolctl

    pools = threadpoolctl.ThreadpoolController()
    torch = sys.modules.get("torch")
    with threads_without_signals():
        pools.limit(limits=threads)
        if torch is not None:
            torch.set_num_threads(threads)
    held = {str(pool["internal_api"]): int(pool["num_threads"]) for pool in pools.info()}
    return held | ({"torch": int(torch.get_num_threads())} if torch is not None else {})
