"""The program's main module, as workers may know it."""

from __future__ import annotations

import ast
import functools
import os
import sys
from collections.abc import Iterator

from tmax_pipes.rebuild import ModuleDescription


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


_PLAIN_CALLS = frozenset(
    {"Condition", "Decimal", "Event", "Fraction", "Lock", "NewType", "ParamSpec", "Path", "RLock", "Semaphore", "TypeVar", "cache", "compile",
     "dict", "float", "frozenset", "getLogger", "int", "len", "list", "namedtuple", "object", "partial", "range", "set", "str", "timedelta",
     "tuple"}
)  # fmt: skip
"""What is often called for a name at the top of a module, and changes nothing else."""


@functools.cache
def sets_up(file: str) -> bool:
    """Return whether the top level of the main module does more than to import, to define and to name values.

    Only then its workers import it before the first task: it costs each of them what the program's own start costs.
    """
    try:
        with open(file, "rb") as source:
            tree = ast.parse(source.read())
    except (OSError, SyntaxError, ValueError):
        return False
    return any(map(_acts, tree.body))


def _acts(node: ast.stmt) -> bool:
    if isinstance(node, ast.If):
        return not _is_guard(node) and any(map(_acts, [*node.body, *node.orelse]))
    if isinstance(node, ast.Try):
        return any(map(_acts, [*node.body, *node.orelse, *node.finalbody])) or any(_acts(one) for way in node.handlers for one in way.body)
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return not all(isinstance(target, ast.Name) for target in targets) or _calls(node.value)
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)
    kept = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Pass, ast.Delete, ast.Raise)
    return not isinstance(node, kept)


def _calls(value: ast.expr | None) -> bool:
    calls = [one.func for one in ast.walk(value) if isinstance(one, ast.Call)] if value is not None else []
    return any(getattr(called, "attr", getattr(called, "id", "")) not in _PLAIN_CALLS for called in calls)


def about_of(name: str) -> ModuleDescription:
    """Return what is sent of a module whose functions are sent by value."""
    module = sys.modules[name]
    file = getattr(module, "__file__", None)
    return ModuleDescription(
        file=file if isinstance(file, str) else "",
        package=getattr(module, "__package__", None),
        importable=main_to_import() if name == "__main__" else ("", ""),
        argv=tuple(sys.argv) if name == "__main__" else (),
    )


def is_defined_at_import(file: str, name: str) -> bool:
    """Return whether an import of this file binds a name: outside what it guards."""
    guarded, names = _read(file)
    return guarded and (name in names or "*" in names)


def _is_guarded(file: str) -> bool:
    return _read(file)[0]


@functools.cache
def _read(file: str) -> tuple[bool, frozenset[str]]:
    """Return whether a top-level ``if __name__ == "__main__":`` keeps an import from running the program, and what is bound outside it."""
    try:
        with open(file, "rb") as source:
            tree = ast.parse(source.read())
    except (OSError, SyntaxError, ValueError):
        return False, frozenset()
    guards = [one for one in tree.body if _is_guard(one)]
    names = {name for one in tree.body if one not in guards for part in _outside_functions(one) for name in _bound(part)}
    return bool(guards), frozenset(names)


def _is_guard(one: ast.stmt) -> bool:
    return isinstance(one, ast.If) and "__name__" in (test := ast.unparse(one.test)) and "__main__" in test


def _outside_functions(one: ast.AST) -> Iterator[ast.AST]:
    yield one
    if not isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        for part in ast.iter_child_nodes(one):
            yield from _outside_functions(part)


def _bound(part: ast.AST) -> list[str]:
    if isinstance(part, ast.Name):
        return [part.id] if isinstance(part.ctx, ast.Store) else []
    if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [part.name]
    if isinstance(part, ast.alias):
        return [part.asname or part.name.partition(".")[0]]
    return []
