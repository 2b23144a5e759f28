"""Limits of this process's control group, cores and memory, for both versions of the kernel's interface.

    /proc/self/cgroup -> folder(s) of this group, and all above it -> cpu.max | cpu.cfs_quota_us, memory.max | memory.limit_in_bytes

A limit holds for everything below it, so every folder up to the root is read and the lowest figure counts.
Inside a container the group's path may not exist under the mount; then the mount's root is the group.
A file that cannot be read counts as no limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def cpu_quota(mount: Path = MOUNT, own: Path = OWN) -> float | None:
    """Processor time that this group may use, in cores; None when there is no limit."""
    found = [*_quotas_v2(mount, own), *_quotas_v1(mount, own)]
    return min(found, default=None)


def memory_available_bytes(mount: Path = MOUNT, own: Path = OWN) -> int | None:
    """Bytes this group may still allocate before the kernel kills a process in it; None when there is no limit.

    File pages that the kernel can drop at once (``inactive_file``) count as free.
    """
    found = [
        *_available(_folders(mount, _path(own, "")), "memory.max", "memory.current"),
        *_available(_folders(mount / "memory", _path(own, "memory")), "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ]
    return min(found, default=None)


def _quotas_v2(mount: Path, own: Path) -> Iterator[float]:
    for folder in _folders(mount, _path(own, "")):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            yield int(quota) / int(period)


def _quotas_v1(mount: Path, own: Path) -> Iterator[float]:
    for name in ("cpu", "cpu,cpuacct"):
        for folder in _folders(mount / name, _path(own, "cpu")):
            quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
            if quota is not None and period is not None and quota > 0 and period > 0:
                yield quota / period


def _available(folders: Iterator[Path], limit_name: str, used_name: str) -> Iterator[int]:
    for folder in folders:
        limit, used = _number(folder / limit_name), _number(folder / used_name)
        # Version 1 writes "no limit" as a number near 2**63.
        if limit is not None and used is not None and limit < 1 << 60:
            yield max(0, limit - used + _droppable(folder))


def _droppable(folder: Path) -> int:
    for line in _text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in {"inactive_file", "total_inactive_file"} and value.isdigit():
            return int(value)
    return 0


def _path(own: Path, controller: str) -> str:
    """The group's path in the hierarchy of this controller; version 2 is the line without one."""
    for line in _text(own).splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controller in controllers.split(","):
            return path.strip("/")
    return ""


def _folders(mount: Path, path: str) -> Iterator[Path]:
    """The group's folder and every one above it, the mount's root included."""
    parts = [part for part in path.split("/") if part and part != ".."]
    for count in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:count])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.lstrip("-").isdigit() else None
