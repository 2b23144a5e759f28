"""Eigenvalues (no vectors) of general real matrices ``(batch, n, n)``."""

from __future__ import annotations

from tmax_workers.kernels.backends import Array, Backend
from tmax_workers.kernels.spec import Kernel, Shape, Sizes
from tmax_workers.worker_errors import Refused

TAKES = "n (square matrices); batch for several at once"


def complete(sizes: Sizes) -> Sizes:
    """Return complete sizes. Raises Refused when ``n`` is missing or ``m`` differs from it."""
    if "n" not in sizes:
        raise Refused("eigvals: missing n", f"eigvals takes {TAKES}")
    m, n = sizes.get("m", sizes["n"]), sizes["n"]
    if m != n:
        raise Refused(f"eigvals: {m}x{n} is not square", f"eigvals takes {TAKES}")
    return {"n": n, "batch": sizes.get("batch", 1)}


def shapes(sizes: Sizes) -> list[Shape]:
    """One stack of matrices; without a batch a plain matrix."""
    n, batch = sizes["n"], sizes["batch"]
    return [(n, n)] if batch == 1 else [(batch, n, n)]


def flops(sizes: Sizes, item_bytes: int) -> int:
    """10 n^3 for each matrix, an estimate: the QR iteration takes as many steps as the numbers need.

    Reduction to Hessenberg form and the Francis QR algorithm, eigenvalues only:
    Golub and Van Loan, Matrix Computations, 4th edition, section 7.5.6 (25 n^3 with the Schur vectors).
    """
    del item_bytes
    return 10 * sizes["n"] ** 3 * sizes["batch"]


def memory_bytes(sizes: Sizes, item_bytes: int) -> int:
    """The matrices, a copy that LAPACK overwrites, its work space (64 rows at most), the complex values and their absolute values."""
    n, batch = sizes["n"], sizes["batch"]
    return (2 * batch * n * n + 64 * n + 3 * batch * n) * item_bytes


def run(backend: Backend, inputs: list[Array]) -> Array:
    """The eigenvalues, complex, in no particular order."""
    return backend.eigvals(inputs[0])


def checksum(backend: Backend, result: Array) -> float:
    """Sum of the absolute values of all eigenvalues."""
    return backend.magnitude(result)


KERNEL = Kernel(
    name="eigvals",
    takes=TAKES,
    sizes=frozenset({"m", "n", "batch"}),
    complete=complete,
    shapes=shapes,
    work=flops,
    unit="flops",
    memory_bytes=memory_bytes,
    run=run,
    checksum=checksum,
    low=-0.5,
    half=False,  # neither LAPACK nor cuSOLVER has it
    devices=frozenset({"cpu", "cuda"}),  # torch has no eigenvalues on Apple's GPU
    torch_is_faster=True,
    host_copy=True,  # MAGMA, which most builds of torch use for it, takes the matrices from host memory
)
