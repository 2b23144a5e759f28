"""``kernel``: run a numeric kernel on a worker and print its measurements."""

from __future__ import annotations

from tmax.cli import output
from tmax.cli.declaration import ONE_WORD, Option, Verb
from tmax.cli.foreground_task import ForegroundTask
from tmax.cli.outcome import show
from tmax.cli.task_flags import KERNEL_FLAGS
from tmax.cli.task_request import new_request_id, process_settings
from tmax.core.option_values import count, one_of, positive
from tmax.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

KERNELS = ("eigvals", "matmul", "reduce")
"""Known here so that a misspelt name does not become a queued task; a test compares them with the workers' catalog."""
DTYPES = ("float64", "float32", "float16", "bfloat16")
"""As the workers know them; the worker reports those that its library or device lacks."""

SIZES = (
    Option("n", "--n", read=positive, metavar="N", help="Size: rows and columns of a matrix, or elements of a vector."),
    Option("m", "--m", read=positive, metavar="N", help="For matmul: rows of the first matrix; needs --k too.", default="as --n"),
    Option("k", "--k", read=positive, metavar="N", help="For matmul: columns of the first matrix; needs --m too.", default="as --n"),
    Option("batch", "--batch", read=positive, metavar="N", help="Number of matrices computed at once.", default="1"),
)


def kernel(common: output.Common, words: Sequence[str], *, repeat: int = 1, seed: int = 0, **options: Any) -> int:
    """Run a kernel on a worker and print its result.  Signals cancel it, as with ``run``.  Raises UsageError, NoSwarm."""
    (name,) = words
    if name not in KERNELS:
        raise UsageError(f"unknown kernel {name!r}", hint=f"known kernels: {', '.join(KERNELS)}")
    sizes = {size.name: options.pop(size.name) for size in SIZES if size.name in options}
    task = {"kind": "kernel", "kernel": name, "params": sizes, "repeat": repeat, "seed": seed, **process_settings(), **options}
    running = ForegroundTask(common, None)
    try:
        reply = running.wait(task, new_request_id())
    finally:
        running.close()
    ended = reply["task"]
    code = 0
    if ended["state"] == "done" and not (common.json or common.quiet):
        output.write(table(ended["result"]))
    else:
        code = show(common, ended, reply["blobs"])
    return code if running.exit_code is None else running.exit_code


def table(result: dict[str, Any]) -> str:
    """Return a result's fields, one a line."""
    width = max(len(key) for key in result) + 2
    return "".join(f"{key:<{width}}{_text(value)}\n" for key, value in result.items())


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return " ".join(f"{key}={_text(one)}" for key, one in value.items())
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return str(value)


VERB = Verb(
    "kernel",
    kernel,
    usage="NAME",
    words=ONE_WORD,
    options=(
        *SIZES,
        Option("dtype", "--dtype", read=one_of(*DTYPES), metavar="T", help=f"Number type: {', '.join(DTYPES)}.", default="float64"),
        Option(
            "device",
            "--device",
            read=one_of("auto", "cpu", "cuda", "mps"),
            metavar="D",
            help="Where to compute: auto, cpu, cuda or mps.",
            default="auto",
        ),
        Option(
            "backend",
            "--backend",
            read=one_of("auto", "numpy", "torch"),
            metavar="B",
            help="Library that computes: auto, numpy or torch.",
            default="auto",
        ),
        Option("repeat", "--repeat", read=positive, metavar="K", help="Number of timed runs.", default="1"),
        Option("seed", "--seed", read=count, metavar="N", help="Seed of the random inputs, 0 or more.", default="0"),
        *KERNEL_FLAGS,
    ),
    help="""Run a numeric kernel on a worker and print its measurements.

    NAME: matmul, eigvals or reduce.  The device is synchronised before each time is taken.  Ctrl-C, TERM, HUP and QUIT cancel the task.""",
    examples=(
        ("tmax kernel matmul --n 4096 --device auto", "one product of two 4096 x 4096 matrices"),
        ("tmax kernel eigvals --n 100 --batch 8", "the eigenvalues of eight 100 x 100 matrices"),
        ("tmax kernel reduce --n 100000000 --json", "the sum of 10^8 numbers, as JSON"),
    ),
)
