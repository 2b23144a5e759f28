"""``kernel``: submit one, wait for it, print what it took."""

from __future__ import annotations

from typing import Any

from tmax.cli import outcome, output
from tmax.cli.run import Job
from tmax.cli.submit import new_request_id, process_settings
from tmax.core.option_values import one_of
from tmax.errors import UsageError

KERNELS = ("eigvals", "matmul", "reduce")
"""Known here so that a slip of the finger costs no place in the queue; a test holds it equal to the workers' table."""

device = one_of("auto", "cpu", "cuda", "mps")
backend = one_of("auto", "numpy", "torch")
DTYPES = ("float64", "float32", "float16", "bfloat16")
"""As the workers know them; not every library and device has all, which is for the worker to say."""
dtype = one_of(*DTYPES)


def kernel(common: output.Common, name: str, sizes: dict[str, int], *, repeat: int, seed: int, **chosen: Any) -> int:
    """Run kernel ``name`` on a worker; print its result.  TERM, HUP, INT and QUIT of ours cancel it, as with ``run``."""
    if name not in KERNELS:
        raise UsageError(f"unknown kernel {name!r}", hint=f"known kernels: {', '.join(KERNELS)}")
    task = {"kind": "kernel", "kernel": name, "params": sizes, "repeat": repeat, "seed": seed, **process_settings(), **chosen}
    job = Job(common, None)
    try:
        answer = job.wait(task, new_request_id())
    finally:
        job.close()
    found = answer["task"]
    if found["state"] == "done" and not (common.json or common.quiet):
        output.out(table(found["result"]))
        code = 0
    else:
        code = outcome.show(common, found, answer["blobs"])
    return code if job.exit_code is None else job.exit_code


def table(result: dict[str, Any]) -> str:
    """Return a result's fields, one a line."""
    width = max(len(key) for key in result) + 2
    return "".join(f"{key:<{width}}{_shown(one)}\n" for key, one in result.items())


def _shown(one: object) -> str:
    if isinstance(one, float):
        return f"{one:.6g}"
    if isinstance(one, dict):
        return " ".join(f"{key}={_shown(value)}" for key, value in one.items())
    if isinstance(one, list):
        return " ".join(map(_shown, one))
    return str(one)
