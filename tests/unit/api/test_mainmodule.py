"""Which main modules workers import before their first task."""

from __future__ import annotations

from pathlib import Path

import pytest

from tmax.api.mainmodule import sets_up

PLAIN = """
'''A program.'''
from __future__ import annotations
import os, threading
from typing import TYPE_CHECKING, TypeVar
if TYPE_CHECKING:
    from pathlib import Path
try:
    import numpy as np
except ImportError:
    np = None
T = TypeVar("T")
LOCK = threading.Lock()
NAMES: dict[str, int] = {"a": 1}
SIZE = 4 * 1024
SIZE += 1
class Thing:
    x = print("a class's own affair")
def f(): return 1
if __name__ == "__main__":
    print("guarded")
"""


def test_a_module_that_imports_and_defines_is_not_imported_first(tmp_path: Path) -> None:
    file = tmp_path / "plain.py"
    file.write_text(PLAIN)
    assert not sets_up(str(file))
    assert not sets_up("")
    assert not sets_up(str(tmp_path / "missing.py"))


@pytest.mark.parametrize(
    "line",
    [
        "decimal.getcontext().prec = 50",
        "os.environ['X'] = 'y'",
        "logging.basicConfig()",
        "old = np.seterr(all='raise')",
        "for name in ('a',): print(name)",
        "with open('f') as file: pass",
        "if os.name == 'posix':\n    os.umask(0)",
        "try:\n    setup()\nexcept Exception:\n    pass",
    ],
)
def test_a_module_that_does_something_is_imported_first(tmp_path: Path, line: str) -> None:
    file = tmp_path / "does.py"
    file.write_text(f"{PLAIN}\n{line}\n")
    assert sets_up(str(file))
