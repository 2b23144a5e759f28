"""A worker on its own pseudo-terminal, ended after each test; what it leaves behind fails the test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.workers.harness import Bench


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: a Unix socket's has at most 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="tmw-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def bench(folder: Path, no_leaks: None) -> Iterator[Bench]:
    """A worker's place, not started yet."""
    with Bench(folder) as made:
        yield made


@pytest.fixture
def worker(bench: Bench) -> Bench:
    """A worker that was started and greeted."""
    bench.start()
    bench.greet()
    return bench
