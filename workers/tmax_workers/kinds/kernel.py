"""Run a kernel job: check, draw the inputs, one run to warm up, then the timed runs.

    KernelJob -> plan (Refused?) -> inputs -> warm-up -> [synchronise, clock, run, synchronise, clock] x repeat -> figures

Between two runs the interpreter is back in Python, so a cancelling exception takes effect there.
"""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

from tmax_pipes.jobs import KernelJob
from tmax_workers.kernels.backends import ITEM_BYTES, Array, Backend
from tmax_workers.kernels.catalog import Plan, plan, readable
from tmax_workers.worker_errors import Refused


def run(job: KernelJob) -> tuple[dict[str, Any], str, str]:
    """Run the job; return the figures (JSON values), the device and the strategy, and print two lines for people.

    Figures: kernel, backend, device, device_name, dtype, sizes, shape (of each input), repeat, seed, warmup_s, seconds (of each
    run), best_s, median_s, flops and gflops or bytes and gb_per_s (of one run; the rate is that of the median), checksum,
    threads (None on a GPU), needed_bytes.
    Raises Refused when a check before running fails, or when memory runs out all the same.
    """
    checked = plan(job)
    print(headline(checked), flush=True)
    try:
        figures = measure(checked)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not out_of_memory(error):
            raise
        message = f"{job.name}: memory ran out while it ran ({readable(checked.needed_bytes)} were expected): {error}"
        raise Refused(message, "use smaller sizes or wait until memory is free") from error
    print(summary(figures), flush=True)
    return figures, checked.backend.device.kind, strategy(checked.backend)


def measure(checked: Plan) -> dict[str, Any]:
    """Draw inputs, warm up once, time every run; the last result gives the checksum."""
    kernel, backend = checked.kernel, checked.backend
    inputs = backend.draw(kernel.shapes(checked.sizes), checked.dtype, checked.seed, kernel.low)
    seconds: list[float] = []
    result: Array = None
    with backend.full_precision():
        _, warmup_s = timed(checked, inputs)
        for _ in range(checked.repeat):
            result = None  # free the last result first: the memory check counted one
            result, took_s = timed(checked, inputs)
            seconds.append(took_s)
    return figures_of(checked, seconds, warmup_s, kernel.checksum(backend, result))


def timed(checked: Plan, inputs: list[Array]) -> tuple[Array, float]:
    """Return the result of one run and its seconds, with the device idle before and after."""
    checked.backend.synchronize()
    began = time.perf_counter()
    result = checked.kernel.run(checked.backend, inputs)
    checked.backend.synchronize()
    return result, time.perf_counter() - began


def figures_of(checked: Plan, seconds: list[float], warmup_s: float, checksum: float) -> dict[str, Any]:
    """Return the recorded figures; a checksum that is not finite becomes None, because JSON has no such value."""
    kernel, backend = checked.kernel, checked.backend
    work = kernel.work(checked.sizes, ITEM_BYTES[checked.dtype])
    median_s = statistics.median(seconds)
    rate = work / median_s / 1e9 if median_s > 0 else 0.0
    return {
        "kernel": kernel.name,
        "backend": backend.name,
        "device": backend.device.kind,
        "device_name": backend.device.name,
        "dtype": checked.dtype,
        "sizes": dict(checked.sizes),
        "shape": [list(shape) for shape in kernel.shapes(checked.sizes)],
        "repeat": checked.repeat,
        "seed": checked.seed,
        "warmup_s": warmup_s,
        "seconds": seconds,
        "best_s": min(seconds),
        "median_s": median_s,
        kernel.unit: work,
        "gflops" if kernel.unit == "flops" else "gb_per_s": rate,
        "checksum": checksum if math.isfinite(checksum) else None,
        "threads": backend.threads(),
        "needed_bytes": checked.needed_bytes,
    }


def headline(checked: Plan) -> str:
    """Return the line printed before the run: what runs, where, and why on this device."""
    backend = checked.backend
    shapes = " @ ".join("x".join(map(str, shape)) for shape in checked.kernel.shapes(checked.sizes))
    return f"{checked.kernel.name} {shapes} {checked.dtype}, {strategy(backend)}; {backend.device.note}"


def summary(figures: dict[str, Any]) -> str:
    """Return the figures on one line."""
    rate = f"{figures['gflops']:.1f} GFLOP/s" if "gflops" in figures else f"{figures['gb_per_s']:.1f} GB/s"
    runs = f"{figures['repeat']} run{'s' if figures['repeat'] != 1 else ''}"
    best, median = figures["best_s"] * 1e3, figures["median_s"] * 1e3
    return f"{runs}: median {median:.3f} ms, best {best:.3f} ms, {rate}; checksum {figures['checksum']}"


def strategy(backend: Backend) -> str:
    """Return how it is computed: the library, and its threads or its device."""
    threads = backend.threads()
    return (
        f"{backend.name} on {backend.device.name}" if threads is None else f"{backend.name}, {threads} thread{'s' if threads != 1 else ''}"
    )


def out_of_memory(error: RuntimeError) -> bool:
    """Return whether torch ran out of memory: its own class is a RuntimeError, and its CPU allocator raises a plain one."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
