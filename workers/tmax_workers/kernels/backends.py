"""The two libraries a kernel can run on, behind one small interface.

NumPy works on the CPU; torch on the CPU and on GPUs. On the CPU both are given the same numbers (drawn by NumPy from the
seed), so their checksums can be compared; on a GPU torch draws on the device, because filling it from here would take
longer than the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from tmax_workers.device import Device, import_torch

if TYPE_CHECKING:
    import numpy as np

Array: TypeAlias = Any
"""A NumPy array or a torch tensor."""

BackendName: TypeAlias = Literal["numpy", "torch"]
ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


class Backend(Protocol):
    """What a kernel needs of a numeric library."""

    name: BackendName
    device: Device

    def draw(self, shapes: list[tuple[int, ...]], dtype: str, seed: int, low: float) -> list[Array]:
        """Uniform numbers in [low, low + 1), the same for the same seed on the same device."""
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
        """Sum of absolute values: one figure that shows whether two runs computed the same."""
        ...

    def synchronize(self) -> None:
        """Return when the device has finished; a GPU call returns before its work does."""
        ...

    def threads(self) -> int | None:
        """CPU threads the library uses; None on a GPU."""
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
        return float(self._np.abs(a).sum(dtype=self._np.float64))

    def synchronize(self) -> None:
        """Nothing to wait for: NumPy's calls return when they are done."""

    def threads(self) -> int | None:
        import threadpoolctl

        counts = [int(pool["num_threads"]) for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
        return max(counts, default=1)


class TorchBackend:
    """Torch on the CPU, an NVIDIA GPU (cuda) or an Apple one (mps). Refused when torch cannot be loaded."""

    name: BackendName = "torch"

    def __init__(self, device: Device) -> None:
        self.device = device
        self._torch = import_torch("backend torch")

    def draw(self, shapes: list[tuple[int, ...]], dtype: str, seed: int, low: float) -> list[Array]:
        torch, wanted = self._torch, getattr(self._torch, dtype)
        if self.device.kind == "cpu":
            half = ITEM_BYTES[dtype] < 4
            arrays = numpy_draw(shapes, "float32" if half else dtype, seed, low)
            return [torch.from_numpy(array).to(wanted) for array in arrays]
        generator = torch.Generator(device=self.device.kind).manual_seed(seed)
        return [torch.rand(shape, dtype=wanted, device=self.device.kind, generator=generator).add_(low) for shape in shapes]

    def matmul(self, a: Array, b: Array) -> Array:
        return self._torch.matmul(a, b)

    def eigvals(self, a: Array) -> Array:
        return self._torch.linalg.eigvals(a)

    def total(self, a: Array) -> Array:
        return a.sum(dtype=self._torch.float32) if a.element_size() < 4 else a.sum()

    def magnitude(self, a: Array) -> float:
        # An Apple GPU has no float64.
        wide = self._torch.float32 if self.device.kind == "mps" else self._torch.float64
        return float(a.abs().sum(dtype=wide).item())

    def synchronize(self) -> None:
        if self.device.kind == "cuda":
            self._torch.cuda.synchronize()
        elif self.device.kind == "mps":
            self._torch.mps.synchronize()

    def threads(self) -> int | None:
        return int(self._torch.get_num_threads()) if self.device.kind == "cpu" else None


def numpy_draw(shapes: list[tuple[int, ...]], dtype: str, seed: int, low: float) -> list[np.ndarray[Any, Any]]:
    """Uniform numbers in [low, low + 1) as float32 or float64, the same for the same seed on every machine."""
    import numpy as np

    generator = np.random.default_rng(seed)
    arrays: list[np.ndarray[Any, Any]] = []
    for shape in shapes:
        array = generator.random(shape, dtype=np.float32 if dtype == "float32" else np.float64)
        array += low
        arrays.append(array)
    return arrays


def make(name: BackendName, device: Device) -> Backend:
    """The library by name, on this device. Refused when torch cannot be loaded."""
    return NumpyBackend(device) if name == "numpy" else TorchBackend(device)
