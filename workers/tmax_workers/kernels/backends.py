"""The two libraries a kernel can run on, behind one small interface.

NumPy works on the CPU; torch on the CPU and on GPUs. The same seed, shapes and type give the same numbers everywhere: NumPy
draws them on the CPU in pieces, which are rounded there and copied to the device. So the checksums of two devices are
comparable (``tolerance.py``), no device needs memory for a second copy, and a cancellation takes effect between pieces.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from tmax_workers.device import Device, import_torch

if TYPE_CHECKING:
    import numpy as np

Array: TypeAlias = Any
"""A NumPy array or a torch tensor."""

BackendName: TypeAlias = Literal["numpy", "torch"]
ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
PIECE = 1 << 20
"""Numbers drawn, copied or added up in one call: a few milliseconds, and little memory beside the arrays."""


class Backend(Protocol):
    """The operations that a kernel needs of a numeric library."""

    name: BackendName
    device: Device

    def draw(self, shapes: list[tuple[int, ...]], dtype: str, seed: int, low: float) -> list[Array]:
        """Return arrays of uniform numbers in [low, low + 1), equal for equal seeds with every library and device."""
        ...

    def matmul(self, a: Array, b: Array) -> Array:
        """Matrix product, over the last two axes."""
        ...

    def eigvals(self, a: Array) -> Array:
        """Eigenvalues of general square matrices, complex, over the last two axes."""
        ...

    def total(self, a: Array) -> Array:
        """Sum of all elements; half precision is added up in float32, where it does not overflow."""
        ...

    def magnitude(self, a: Array) -> float:
        """Sum of absolute values, added up in float64: one figure that shows whether two runs computed the same."""
        ...

    def full_precision(self) -> contextlib.AbstractContextManager[None]:
        """Context in which float32 is multiplied as float32, whatever the process's settings; they are restored afterwards."""
        ...

    def synchronize(self) -> None:
        """Wait until the device has finished, because a GPU call returns earlier."""
        ...

    def threads(self) -> int | None:
        """Return the CPU threads that the library uses; None on a GPU."""
        ...


class NumpyBackend:
    """NumPy on the CPU."""

    name: BackendName = "numpy"

    def __init__(self, device: Device) -> None:
        import numpy as np

        self.device = device
        self._np = np

    def draw(self, shapes: list[tuple[int, ...]], dtype: str, seed: int, low: float) -> list[Array]:
        return numpy_draw(shapes, dtype, seed, low)

    def matmul(self, a: Array, b: Array) -> Array:
        return a @ b

    def eigvals(self, a: Array) -> Array:
        return self._np.linalg.eigvals(a)

    def total(self, a: Array) -> Array:
        return a.sum()

    def magnitude(self, a: Array) -> float:
        flat = a.reshape(-1)
        return sum(float(self._np.abs(flat[start : start + PIECE]).sum(dtype=self._np.float64)) for start in range(0, flat.size, PIECE))

    def full_precision(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def synchronize(self) -> None:
        """Nothing to wait for: NumPy's calls return when they are done."""

    def threads(self) -> int | None:
        import threadpoolctl

        counts = [int(pool["num_threads"]) for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        return max(counts, default=1)


class TorchBackend:
    """Torch on the CPU, an NVIDIA GPU (cuda) or an Apple one (mps). Raises Refused when torch cannot be loaded."""

    name: BackendName = "torch"

    def __init__(self, device: Device) -> None:
        self.device = device
        self._torch = import_torch("backend torch")

    def draw(self, shapes: list[tuple[int, ...]], dtype: str, seed: int, low: float) -> list[Array]:
        if self.device.kind == "cpu" and ITEM_BYTES[dtype] >= 4:
            return [self._torch.from_numpy(array) for array in numpy_draw(shapes, dtype, seed, low)]
        generator = stream(seed)
        return [self._copied(generator, shape, dtype, low) for shape in shapes]

    def _copied(self, generator: np.random.Generator, shape: tuple[int, ...], dtype: str, low: float) -> Array:
        torch, wanted = self._torch, getattr(self._torch, dtype)
        array = torch.empty(shape, dtype=wanted, device=self.device.kind)
        flat = array.view(-1)
        start = 0
        for piece in pieces(generator, flat.numel(), dtype, low):
            # Rounded here, not on the device: even half precision is the same everywhere.
            flat[start : start + piece.size].copy_(torch.from_numpy(piece).to(wanted))
            start += piece.size
        return array

    def matmul(self, a: Array, b: Array) -> Array:
        return self._torch.matmul(a, b)

    def eigvals(self, a: Array) -> Array:
        return self._torch.linalg.eigvals(a)

    def total(self, a: Array) -> Array:
        return a.sum(dtype=self._torch.float32) if a.element_size() < 4 else a.sum()

    def magnitude(self, a: Array) -> float:
        # In pieces: torch makes a whole float64 copy of what it adds up in float64.
        flat, total = a.reshape(-1), 0.0
        for start in range(0, flat.numel(), PIECE):
            piece = flat[start : start + PIECE].abs()
            # An Apple GPU has no float64.
            total += float((piece.cpu() if self.device.kind == "mps" else piece).sum(dtype=self._torch.float64).item())
        return total

    @contextlib.contextmanager
    def full_precision(self) -> Iterator[None]:
        torch = self._torch
        places: list[Any] = [
            place
            for place in (torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None))
            if hasattr(place, "fp32_precision")  # torch 2.9 and later
        ]
        newer = [place.fp32_precision for place in places]
        try:
            older = torch.get_float32_matmul_precision()
        except RuntimeError:  # set through the newer setting; the older one then is the default
            older = "highest"
        torch.set_float32_matmul_precision("highest")  # also sets the newer ones
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(older)
            for place, before in zip(places, newer, strict=True):
                place.fp32_precision = before

    def synchronize(self) -> None:
        if self.device.kind == "cuda":
            self._torch.cuda.synchronize()
        elif self.device.kind == "mps":
            self._torch.mps.synchronize()

    def threads(self) -> int | None:
        return int(self._torch.get_num_threads()) if self.device.kind == "cpu" else None


def stream(seed: int) -> np.random.Generator:
    """Return a generator of this seed; its algorithm is named, so that a new default changes nothing."""
    import numpy as np

    return np.random.Generator(np.random.PCG64(seed))


def numpy_draw(shapes: list[tuple[int, ...]], dtype: str, seed: int, low: float) -> list[np.ndarray[Any, Any]]:
    """Uniform numbers in [low, low + 1) as float32 or float64, the same for the same seed on every machine."""
    import numpy as np

    generator = stream(seed)
    arrays: list[np.ndarray[Any, Any]] = []
    for shape in shapes:
        array = np.empty(shape, dtype=dtype)
        flat = array.reshape(-1)
        for start in range(0, flat.size, PIECE):
            fill(generator, flat[start : start + PIECE], low)
        arrays.append(array)
    return arrays


def pieces(generator: np.random.Generator, count: int, dtype: str, low: float) -> Iterator[np.ndarray[Any, Any]]:
    """Yield ``count`` numbers, at most PIECE at a time, in one buffer; for half precision as float32, to be rounded."""
    import numpy as np

    buffer = np.empty(min(count, PIECE), dtype=drawn_as(dtype))
    for start in range(0, count, PIECE):
        piece = buffer[: min(PIECE, count - start)]
        fill(generator, piece, low)
        yield piece


def fill(generator: np.random.Generator, piece: np.ndarray[Any, Any], low: float) -> None:
    """Draw into ``piece``; consecutive pieces hold the numbers of one whole draw."""
    generator.random(out=piece, dtype=piece.dtype.type)
    piece += low


def drawn_as(dtype: str) -> str:
    """Return the type in which numbers of ``dtype`` are drawn."""
    return "float32" if ITEM_BYTES[dtype] < 4 else dtype


def draw_bytes(shapes: list[tuple[int, ...]], dtype: str, kind: str) -> int:
    """Return the bytes of host memory that drawing needs beside the arrays, for a device of this kind."""
    if kind == "cpu" and ITEM_BYTES[dtype] >= 4:
        return 0  # drawn in place
    rounded = ITEM_BYTES[dtype] if ITEM_BYTES[dtype] < 4 else 0
    return min(PIECE, max(map(math.prod, shapes))) * (ITEM_BYTES[drawn_as(dtype)] + rounded)


def sum_bytes(count: int) -> int:
    """Return the bytes that ``magnitude`` of ``count`` numbers needs: absolute values, and those as float64."""
    return 16 * min(PIECE, count)


def make(name: BackendName, device: Device) -> Backend:
    """Return the library of this name on this device. Raises Refused when torch cannot be loaded."""
    return NumpyBackend(device) if name == "numpy" else TorchBackend(device)
