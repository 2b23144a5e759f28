"""Which device kernels run on: cuda, then mps, then cpu; chosen once in a worker's life, and printed with each kernel.

"auto":   torch loaded, or a sign of a GPU on this machine? -> query torch -> cuda | mps
          otherwise cpu, without importing torch for it (it costs seconds and 200 MB)
by name:  that device, or Refused with what is missing and how to install it
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tmax_pipes.jobs import Device as DeviceChoice
from tmax_workers import cgroup
from tmax_workers.worker_errors import Refused

DeviceKind: TypeAlias = Literal["cpu", "cuda", "mps"]

INSTALL_TORCH = "install it with: pip install 'tmax[torch]' (in a checkout: scripts/setup --torch)"
GPU_SIGNS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device: its kind as torch spells it, its name for people, and the reason why it was chosen."""

    kind: DeviceKind
    name: str
    note: str


@functools.cache
def choose(wanted: DeviceChoice = "auto") -> Device:
    """Return the device to use. Raises Refused when a named one is missing; ``auto`` falls back to ``cpu`` and never fails.

    The result is cached for the life of the process: a GPU that appears later is not detected.
    """
    if wanted == "cpu":
        return Device(kind="cpu", name=cpu_name(), note="cpu, as requested")
    if wanted == "cuda":
        return _cuda(import_torch("device cuda"))
    if wanted == "mps":
        return _mps(import_torch("device mps"))
    return _automatic()


def import_torch(purpose: str) -> Any:
    """Return the torch module. Raises Refused when it is not installed or cannot be loaded."""
    if "torch" not in sys.modules and importlib.util.find_spec("torch") is None:
        raise Refused(f"{purpose} needs torch, which is not installed", INSTALL_TORCH)
    try:
        return importlib.import_module("torch")
    except (ImportError, OSError) as error:
        # OSError: one of its shared libraries is missing or does not fit this machine.
        raise Refused(f"{purpose} needs torch, which is installed but cannot be loaded: {error}", INSTALL_TORCH) from error


def available_bytes(device: Device) -> int:
    """Return the bytes that a job may allocate on this device now (cpu: the cgroup's limit counts too)."""
    if device.kind == "cuda":
        cuda = import_torch("device cuda").cuda
        # The driver counts torch's cached memory as used, but a job can use it.
        return int(cuda.mem_get_info()[0] + cuda.memory_reserved() - cuda.memory_allocated())
    if device.kind == "mps":
        mps = import_torch("device mps").mps
        return int(mps.recommended_max_memory() - mps.current_allocated_memory())
    import psutil

    free = int(psutil.virtual_memory().available)
    group_free = cgroup.memory_available_bytes()
    return free if group_free is None else min(free, group_free)


def cpu_name() -> str:
    """Return the processor's name from ``/proc/cpuinfo``; its architecture when there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _automatic() -> Device:
    sign = next((place for place in GPU_SIGNS if Path(place).exists()), "")
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    if "torch" not in sys.modules and not sign and not apple:
        return Device(kind="cpu", name=cpu_name(), note="cpu: this machine shows no GPU")
    why = ""
    try:
        torch = import_torch("a GPU")
    except Refused as refusal:
        return Device(kind="cpu", name=cpu_name(), note=f"cpu: {refusal.message}")
    for look in (_cuda, _mps):
        try:
            return look(torch)
        except Refused as refusal:
            why = why or refusal.message
    return Device(kind="cpu", name=cpu_name(), note=f"cpu: {why}" if sign else "cpu: this machine shows no GPU")


def _cuda(torch: Any) -> Device:
    if torch.cuda.is_available():
        name = str(torch.cuda.get_device_name(0))
        return Device(kind="cuda", name=name, note=f"cuda: {name}")
    if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
        raise Refused(
            f"device cuda is not available: torch {torch.__version__} is a CPU build",
            "use --device cpu, or install a CUDA build of torch (in a checkout: scripts/setup --torch-any)",
        )
    raise Refused(
        f"device cuda is not available: torch {torch.__version__} finds no GPU", "use --device cpu, or check the GPU with nvidia-smi"
    )


def _mps(torch: Any) -> Device:
    if torch.backends.mps.is_available():
        return Device(kind="mps", name=cpu_name(), note="mps: Apple GPU")
    raise Refused(f"device mps is not available: torch {torch.__version__} finds no Apple GPU", "use --device cpu")
