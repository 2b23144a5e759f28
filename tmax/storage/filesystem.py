"""Refuses a store on a network file system.

SQLite's log needs reliable locks and ``fsync`` on one host. Network file systems provide neither reliably (lost and
torn databases in many projects), so they are refused with a hint.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable

from tmax.errors import StoreError

NETWORK = frozenset({
    "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
    "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs",
})  # fmt: skip
"""Not included: 9p and virtiofs, the root of many sandboxes and virtual machines, where only one kernel sees the files."""
LOCAL_FUSE = frozenset({"fuseblk", "fuse.fuse-overlayfs"})
"""A disk in this machine behind FUSE: NTFS and exFAT, and the root of a rootless container."""


def refuse_network(folder: str, mounts: Iterable[str] | None = None) -> None:
    """Raise StoreError when ``folder`` lies on a network file system. ``mounts``: lines of mountinfo; None: this process's own.

    Where there is no ``/proc`` nothing is refused.
    """
    kind = file_system_of(os.path.realpath(folder), _own_mounts() if mounts is None else mounts)
    if kind in NETWORK or (kind.startswith("fuse") and kind not in LOCAL_FUSE):
        raise StoreError(
            f"{folder} is on a network file system ({kind}), which can lose tasks",
            hint=f"set XDG_STATE_HOME to a folder on a local disk, for example /var/tmp/{os.environ.get('USER', 'you')}-{socket.gethostname()}",
        )


def file_system_of(path: str, mounts: Iterable[str]) -> str:
    """Return the type of the file system ``path`` (absolute, no links) is on, by the lines of ``/proc/self/mountinfo``; "" when unknown.

    The longest mount point wins, and of equal ones the last, which was mounted over the others.
    """
    best, kind = "", ""
    for line in mounts:
        fields, _, rest = line.partition(" - ")
        parts = fields.split(" ")
        if len(parts) < 5 or not rest:
            continue
        point = _plain(parts[4])
        if len(point) >= len(best) and _lies_in(path, point):
            best, kind = point, rest.split(" ", 1)[0]
    return kind


def _lies_in(path: str, point: str) -> bool:
    return path == point or path.startswith(point if point.endswith("/") else f"{point}/")


def _plain(field: str) -> str:
    """Undo the kernel's octal escapes: a space in a path is written as backslash 040."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def _own_mounts() -> list[str]:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []
