"""The kernels by name, and the checks of a job before anything is computed.

name -> sizes -> device -> backend -> dtype -> memory -> Plan, or Refused with the reason and a hint
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from tmax_pipes.jobs import BACKENDS, DEVICES, KernelJob, KernelValue
from tmax_workers.device import Device, available_bytes, choose
from tmax_workers.kernels import eigvals, matmul, reduce
from tmax_workers.kernels.backends import ITEM_BYTES, Backend, BackendName, draw_bytes, make
from tmax_workers.kernels.spec import Kernel, Sizes
from tmax_workers.worker_errors import Refused

KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in (matmul.KERNEL, eigvals.KERNEL, reduce.KERNEL)}

SEED_LIMIT = 1 << 63
REPEAT_LIMIT = 1_000_000
"""The result holds the seconds of each run: beyond this limit tens of megabytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A checked job: what runs, on which device, and what it needs."""

    kernel: Kernel
    sizes: Sizes
    backend: Backend
    dtype: str
    repeat: int
    seed: int
    needed_bytes: int
    """Memory of the device the job runs on."""


def plan(job: KernelJob) -> Plan:
    """Check the job and return its plan, without computing or allocating. Raises Refused when it cannot run here."""
    kernel = kernel_named(job.name)
    if not 1 <= job.repeat <= REPEAT_LIMIT:
        raise Refused(f"{kernel.name}: repeat must be at least 1 and at most {REPEAT_LIMIT}, not {job.repeat}")
    if not 0 <= job.seed < SEED_LIMIT:
        raise Refused(f"{kernel.name}: seed must be at least 0 and below 2**63, not {job.seed}")
    sizes = kernel.complete(whole_numbers(kernel, job.params))
    device = device_for(kernel, job)
    name = backend_name(kernel, job, device)
    check_dtype(kernel, job.dtype, name, device)
    needed = kernel.memory_bytes(sizes, ITEM_BYTES[job.dtype])
    drawing = draw_bytes(kernel.shapes(sizes), job.dtype, device.kind)
    if device.kind == "cpu":
        needed += drawing
    else:
        on_host = drawing + (needed if kernel.host_copy else 0)
        check_memory(kernel, on_host, Device(kind="cpu", name="", note="inputs are drawn there"))
    check_memory(kernel, needed, device)
    backend = make(name, device)
    return Plan(kernel=kernel, sizes=sizes, backend=backend, dtype=job.dtype, repeat=job.repeat, seed=job.seed, needed_bytes=needed)


def kernel_named(name: str) -> Kernel:
    """Return a kernel by name. Raises Refused for an unknown one; the hint lists the known ones."""
    found = KERNELS.get(name)
    if found is None:
        raise Refused(f"unknown kernel {name!r}", f"known kernels: {', '.join(sorted(KERNELS))}")
    return found


def whole_numbers(kernel: Kernel, params: Mapping[str, KernelValue]) -> Sizes:
    """Return the sizes as given. Raises Refused unless each is known and a whole number of at least 1."""
    hint = f"{kernel.name} takes {kernel.takes}"
    sizes: dict[str, int] = {}
    for name, value in params.items():
        if name not in kernel.sizes:
            raise Refused(f"{kernel.name}: unknown parameter {name!r}", hint)
        # bool is a subclass of int, so True would pass for 1.
        if not isinstance(value, int) or isinstance(value, bool):
            raise Refused(f"{kernel.name}: {name} must be a whole number, not {value!r}", hint)
        if value < 1:
            raise Refused(f"{kernel.name}: {name} must be at least 1, not {value}", hint)
        sizes[name] = value
    return sizes


def device_for(kernel: Kernel, job: KernelJob) -> Device:
    """Return the requested device, or the best one that this kernel supports. Raises Refused when it is missing."""
    # Decoding a frame validates both names; a job made in this process is not validated.
    if job.device not in DEVICES:
        raise Refused(f"{kernel.name}: unknown device {job.device!r}", f"known devices: {', '.join(DEVICES)}")
    if job.backend not in BACKENDS:
        raise Refused(f"{kernel.name}: unknown backend {job.backend!r}", f"known backends: {', '.join(BACKENDS)}")
    if job.backend == "numpy":
        if job.device in {"cuda", "mps"}:
            raise Refused(f"{kernel.name}: numpy runs on the cpu only, not on {job.device}", "leave --backend out, or use --backend torch")
        return choose("cpu") if job.device == "cpu" else Device(kind="cpu", name=choose("cpu").name, note="cpu: numpy runs there only")
    device = choose(job.device)
    if device.kind in kernel.devices:
        return device
    if job.device == "auto":
        return Device(kind="cpu", name=choose("cpu").name, note=f"cpu: {kernel.name} does not exist on {device.kind}")
    raise Refused(f"{kernel.name} does not run on {device.kind}", f"use --device {' or '.join(sorted(kernel.devices))}")


def backend_name(kernel: Kernel, job: KernelJob, device: Device) -> BackendName:
    """Return the requested library. ``auto``: torch on a GPU and for half precision; on a CPU torch only where it is already
    loaded in this worker and was measured faster for this kernel; else NumPy.
    """
    if job.backend != "auto":
        return job.backend
    if device.kind != "cpu" or ITEM_BYTES.get(job.dtype, 8) < 4:
        return "torch"
    return "torch" if kernel.torch_is_faster and "torch" in sys.modules else "numpy"


def check_dtype(kernel: Kernel, dtype: str, backend: BackendName, device: Device) -> None:
    """Raise Refused when kernel, library or device does not support the number type; the hint lists those supported."""
    known = ["float64", "float32"] if device.kind != "mps" else ["float32"]
    if kernel.half and backend == "torch":
        known += ["float16", "bfloat16"]
    if dtype not in known:
        raise Refused(f"{kernel.name}: no {dtype} with {backend} on {device.kind}", f"use --dtype {', '.join(known)}")


def check_memory(kernel: Kernel, needed: int, device: Device) -> None:
    """Raise Refused when the job needs more bytes than the device has free."""
    free = available_bytes(device)
    if needed > free:
        raise Refused(
            f"{kernel.name}: needs {readable(needed)}, and {device.kind} has {readable(free)} free",
            "use smaller sizes, a smaller --dtype, or wait until memory is free",
        )


def readable(size_bytes: int) -> str:
    """Return bytes as text for people: ``1.5 GiB``."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.3g} EiB"
