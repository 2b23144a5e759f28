"""The definition of a kernel: its sizes, cost, memory and functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tmax_workers.kernels.backends import Array, Backend

Sizes: TypeAlias = Mapping[str, int]
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """A computation with known cost. All functions are pure but ``run`` and ``checksum``, which compute on the backend."""

    name: str
    takes: str
    """The sizes for people, as in an error's hint."""
    sizes: frozenset[str]
    """Names it accepts; each value is a whole number of at least 1."""
    complete: Callable[[Sizes], Sizes]
    """Fill in omitted sizes; raises Refused when a size is missing or the shapes do not fit together."""
    shapes: Callable[[Sizes], list[Shape]]
    """Shapes of the inputs."""
    work: Callable[[Sizes, int], int]
    """Cost of one run, in ``unit``; the second argument is the size of one element in bytes."""
    unit: Literal["flops", "bytes"]
    memory_bytes: Callable[[Sizes, int], int]
    """Peak memory: inputs, copies by the library, the result, and what the checksum needs."""
    run: Callable[[Backend, list[Array]], Array]
    checksum: Callable[[Backend, Array], float]
    low: float
    """Inputs are uniform in [low, low + 1)."""
    half: bool
    """True: float16 and bfloat16 make sense."""
    devices: frozenset[str] = frozenset({"cpu", "cuda", "mps"})
    torch_is_faster: bool = False
    """On a CPU, measured: decides ``--backend auto`` when torch is loaded anyway."""
    host_copy: bool = False
    """True: on a GPU the library may work on a copy in host memory, as large as what is held on the device."""
