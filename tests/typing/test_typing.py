"""The types of the public API are part of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_api_is_typed_as_promised(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(REPOSITORY / ".mypy_cache"), "tests/typing/api.py"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=110, check=False)
    # Only what is said about this file: the packages themselves are checked by scripts/check.
    told = [line for line in done.stdout.splitlines() if line.startswith("tests/typing/")]
    assert not told, "\n".join(told)
    assert done.returncode in {0, 1}, done.stdout + done.stderr
