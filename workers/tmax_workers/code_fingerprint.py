"""A fingerprint of the installed code, by which a controller detects a zygote that runs an older version."""

from __future__ import annotations

import os

import tmax_pipes
import tmax_workers


def fingerprint() -> str:
    """Return a text that changes whenever a module of tmax_workers or tmax_pipes is edited, replaced, added or removed."""
    versions = sorted(version for package in (tmax_workers, tmax_pipes) for folder in package.__path__ for version in _versions(folder))
    return f"{len(versions)}-{hash(tuple(versions)) & 0xFFFFFFFFFFFFFFFF:x}"  # the hash of numbers is the same in every process


def _versions(folder: str) -> list[tuple[int, int]]:
    versions = []
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            versions += _versions(entry.path)
        elif entry.name.endswith(".py"):
            found = entry.stat()
            versions.append((found.st_mtime_ns, found.st_size))
    return versions
