"""A gate that tasks of a test stand before: ``open(gate).close()`` returns when the test has opened it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def shut(path: Path) -> Path:
    """Make the gate, a FIFO nobody writes to."""
    os.mkfifo(path)
    return path


@contextmanager
def opened(gate: Path) -> Iterator[None]:
    """Let everybody through meanwhile, those who come later too."""
    writer = os.open(gate, os.O_RDWR)
    try:
        yield
    finally:
        os.close(writer)
