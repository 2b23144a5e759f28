from __future__ import annotations

import itertools
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.box import REPOSITORY, Box
from tmax import Swarm


@pytest.fixture(scope="module")
def swarm() -> Iterator[Swarm]:
    """A temporary swarm of two for the tests of one module, made in this process; nothing of it may be left."""
    box = Box()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("TMAX", "TMUX", "XDG_"))]:
            patch.delenv(name)
        for name, value in box.env.items():
            patch.setenv(name, value)
        with Swarm(workers=2) as made:
            yield made
        state, runtime = made._handle.layout.state, made._handle.layout.runtime
        left = [path for path in (state, runtime) if os.path.lexists(path)]
    left += box.close()
    assert not left, left


@pytest.fixture
def script(box: Box) -> Callable[..., subprocess.Popen[str]]:
    """Start a Python script of its own (its functions belong to ``__main__``), in the box."""

    numbers = itertools.count()

    def start(code: str, **options: Any) -> subprocess.Popen[str]:
        path = Path(box.root / f"script{next(numbers)}.py")  # one file each: another may just be starting
        path.write_text(textwrap.dedent(code))
        env = {**box.env, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{box.env['PYTHONPATH']}"}
        return subprocess.Popen(
            [sys.executable, str(path)], env=env, cwd=box.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )

    return start
