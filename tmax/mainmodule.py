"""The program's main module, as workers may know it."""

from __future__ import annotations

import ast
import functools
import os
import sys

from tmax_pipes.rebuild import About


def main_to_import() -> tuple[str, str]:
    """Return its file and, where ``python -m`` ran it, its name, if it may be imported again: it guards what it runs.  Else both are empty."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    if not isinstance(file, str) or not _is_guarded(os.path.abspath(file)):
        return "", ""
    name = getattr(getattr(main, "__spec__", None), "name", None)
    return os.path.abspath(file), name or ""


@functools.cache
def main_mark(file: str) -> tuple[int, int]:
    """Return modification time and size of the main module's file when first asked for; (0, 0) when there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def about_of(name: str) -> About:
    """Return what is sent of a module whose functions are sent by value."""
    module = sys.modules[name]
    file = getattr(module, "__file__", None)
    return About(
        file=file if isinstance(file, str) else "",
        package=getattr(module, "__package__", None),
        importable=main_to_import() if name == "__main__" else ("", ""),
    )


@functools.cache
def _is_guarded(file: str) -> bool:
    """Return whether a top-level ``if __name__ == "__main__":`` keeps an import from running the program."""
    try:
        with open(file, "rb") as source:
            tree = ast.parse(source.read())
    except (OSError, SyntaxError, ValueError):
        return False
    return any(isinstance(one, ast.If) and "__name__" in (test := ast.unparse(one.test)) and "__main__" in test for one in tree.body)
