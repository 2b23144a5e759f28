"""Real input that every machine has: the source files of the running interpreter's standard library.

Plain functions without tmax: a worker imports and calls them, and so does ``examples/plain.py``.
"""

from __future__ import annotations

import os
import sysconfig
import tokenize
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__"}
"""Folders that are not the library itself, or hold files that are not meant to be valid Python."""


def source_files() -> list[str]:
    """Absolute paths of the library's ``.py`` files, sorted, without tests and installed packages."""
    found: list[str] = []
    for folder, folders, names in os.walk(sysconfig.get_path("stdlib")):
        folders[:] = sorted(set(folders) - LEFT_OUT)
        found += [str(Path(folder, name)) for name in names if name.endswith(".py")]
    return sorted(found)


def batches(paths: Iterable[str], count: int) -> list[list[str]]:
    """The files dealt into at most ``count`` batches of about equal bytes: the largest first, each to the lightest batch.

    ValueError when ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    weights = [0] * count
    dealt: list[list[str]] = [[] for _ in range(count)]
    sizes = {path: Path(path).stat().st_size for path in paths}
    for path in sorted(sizes, key=lambda path: (-sizes[path], path)):
        lightest = weights.index(min(weights))
        weights[lightest] += sizes[path]
        dealt[lightest].append(path)
    return [sorted(batch) for batch in dealt if batch]


def count_tokens(paths: list[str]) -> dict[str, int]:
    """Tokenise the files; how many files, bytes and tokens, and how many tokens of the three commonest kinds.

    A file that is not valid Python raises, as ``tokenize`` does: the sample job must not count what it did not read.
    """
    kinds: Counter[str] = Counter()
    size_bytes = 0
    for path in paths:
        size_bytes += Path(path).stat().st_size
        with Path(path).open("rb") as file:
            kinds.update(tokenize.tok_name[token.type] for token in tokenize.tokenize(file.readline))
    return {"files": len(paths), "bytes": size_bytes, "tokens": kinds.total()} | {kind: kinds[kind] for kind in ("NAME", "OP", "NEWLINE")}
