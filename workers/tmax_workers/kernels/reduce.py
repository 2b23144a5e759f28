"""Sum of ``n`` numbers: a measure of memory bandwidth, not of arithmetic."""

from __future__ import annotations

from tmax_workers.kernels.backends import Array, Backend
from tmax_workers.kernels.spec import Kernel, Shape, Sizes
from tmax_workers.worker_errors import Refused

TAKES = "n (how many numbers)"


def complete(sizes: Sizes) -> Sizes:
    """Return the sizes. Raises Refused when ``n`` is missing."""
    if "n" not in sizes:
        raise Refused("reduce: missing n", f"reduce takes {TAKES}")
    return sizes


def shapes(sizes: Sizes) -> list[Shape]:
    """One vector."""
    return [(sizes["n"],)]


def bytes_read(sizes: Sizes, item_bytes: int) -> int:
    """Each element is read once; the written bytes are negligible."""
    return sizes["n"] * item_bytes


def memory_bytes(sizes: Sizes, item_bytes: int) -> int:
    """The vector."""
    return sizes["n"] * item_bytes


def run(backend: Backend, inputs: list[Array]) -> Array:
    """The sum."""
    return backend.total(inputs[0])


def checksum(backend: Backend, result: Array) -> float:
    """The sum itself; about n / 2."""
    del backend
    return float(result)


KERNEL = Kernel(
    name="reduce",
    takes=TAKES,
    sizes=frozenset({"n"}),
    complete=complete,
    shapes=shapes,
    work=bytes_read,
    unit="bytes",
    memory_bytes=memory_bytes,
    run=run,
    checksum=checksum,
    low=0.0,
    half=True,
    torch_is_faster=True,
)
