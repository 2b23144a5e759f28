#!/usr/bin/env python3
"""Hold files to 500 lines and function bodies to 60; print who is over and end with 1.

A file that must be longer gets its own limit in ``ALLOWED_FILES``, with the reason. So does a function, as
``path::qualified.name``, in ``ALLOWED_FUNCTIONS``. A docstring does not count as body.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_LINES = 500
BODY_LINES = 60

ALLOWED_FILES: dict[str, tuple[int, str]] = {}
ALLOWED_FUNCTIONS: dict[str, tuple[int, str]] = {}

ROOT = Path(__file__).resolve().parent.parent


def python_files(root: Path) -> Iterator[Path]:
    """Every Python file that git tracks or would track, with or without the suffix."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=root, check=True, capture_output=True, text=True
    )
    for name in sorted(set(listed.stdout.split("\0")) - {""}):
        path = root / name
        if path.is_file() and (path.suffix == ".py" or is_python_script(path)):
            yield path


def is_python_script(path: Path) -> bool:
    """True for a file without suffix whose first line names Python."""
    if path.suffix or path.name.startswith("."):
        return False
    with path.open("rb") as file:
        first = file.readline(200)
    return first.startswith(b"#!") and b"python" in first


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function]]:
    """Every function of a file with its qualified name, inner ones included."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield f"{prefix}{node.name}", node
            yield from functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        else:
            yield from functions(node, prefix)


def body_lines(function: Function) -> int:
    """Lines from the first statement after the docstring to the last."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    if not body:
        return 0
    return (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1


def offenders(path: Path, name: str) -> Iterator[str]:
    """One line of text for each limit this file breaks."""
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    limit = ALLOWED_FILES.get(name, (FILE_LINES, ""))[0]
    if lines > limit:
        yield f"{name}: {lines} lines, the limit is {limit}"
    for qualified, function in functions(ast.parse(text, filename=name)):
        long = body_lines(function)
        limit = ALLOWED_FUNCTIONS.get(f"{name}::{qualified}", (BODY_LINES, ""))[0]
        if long > limit:
            yield f"{name}:{function.lineno}: {qualified} has a body of {long} lines, the limit is {limit}"


def main() -> int:
    """Check the whole repository; return 0 when nothing is over a limit."""
    count = 0
    found: list[str] = []
    for path in python_files(ROOT):
        count += 1
        found += offenders(path, path.relative_to(ROOT).as_posix())
    for line in found:
        print(line)
    print(f"check_lines: {count} files, {len(found)} over a limit")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
