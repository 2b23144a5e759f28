"""Dense matrix product ``(batch, m, k) @ (batch, k, n)``."""

from __future__ import annotations

from tmax_workers.kernels.backends import Array, Backend, sum_bytes
from tmax_workers.kernels.spec import Kernel, Shape, Sizes
from tmax_workers.worker_errors import Refused

TAKES = "n (square), or m, k and n; batch for several at once"


def complete(sizes: Sizes) -> Sizes:
    """Return complete sizes; only ``n`` means square matrices. Raises Refused when one of m, k and n is missing."""
    given = {name for name in ("m", "k", "n") if name in sizes}
    if given == {"n"}:
        n = sizes["n"]
        return {"m": n, "k": n, "n": n, "batch": sizes.get("batch", 1)}
    missing = [name for name in ("m", "k", "n") if name not in given]
    if missing:
        raise Refused(f"matmul: missing {', '.join(missing)}", f"matmul takes {TAKES}")
    return {"batch": 1, **sizes}


def shapes(sizes: Sizes) -> list[Shape]:
    """The two factors; without a batch they are plain matrices."""
    m, k, n, batch = sizes["m"], sizes["k"], sizes["n"], sizes["batch"]
    return [(m, k), (k, n)] if batch == 1 else [(batch, m, k), (batch, k, n)]


def flops(sizes: Sizes, item_bytes: int) -> int:
    """2 m n k for each product: m n inner products of k multiplications and k additions.

    Golub and Van Loan, Matrix Computations, 4th edition, section 1.1.
    """
    del item_bytes
    return 2 * sizes["m"] * sizes["n"] * sizes["k"] * sizes["batch"]


def memory_bytes(sizes: Sizes, item_bytes: int) -> int:
    """Both factors, the product, and what its checksum takes."""
    m, k, n, batch = sizes["m"], sizes["k"], sizes["n"], sizes["batch"]
    return batch * (m * k + k * n + m * n) * item_bytes + sum_bytes(batch * m * n)


def run(backend: Backend, inputs: list[Array]) -> Array:
    """The product."""
    return backend.matmul(inputs[0], inputs[1])


def checksum(backend: Backend, result: Array) -> float:
    """Sum of the absolute values of all elements."""
    return backend.magnitude(result)


KERNEL = Kernel(
    name="matmul",
    takes=TAKES,
    sizes=frozenset({"m", "k", "n", "batch"}),
    complete=complete,
    shapes=shapes,
    work=flops,
    unit="flops",
    memory_bytes=memory_bytes,
    run=run,
    checksum=checksum,
    low=-0.5,  # centred: a half-precision product of large matrices would overflow otherwise
    half=True,
)
