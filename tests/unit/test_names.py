"""File, class and identifier names of the four packages: unique, and without private metaphors."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box import REPOSITORY

PACKAGES = {
    "tmax": REPOSITORY / "tmax",
    "tmax_workers": REPOSITORY / "workers" / "tmax_workers",
    "tmax_pipes": REPOSITORY / "pipes" / "tmax_pipes",
    "tmax_dashboard": REPOSITORY / "dashboard" / "tmax_dashboard",
}
SAME_BY_DESIGN = {"kinds", "kernels"}
"""Folders of plug-ins: their files are named after what they implement."""
BANNED = frozenset(
    [
        "asked",
        "asking",
        "ask",
        "asks",
        "crowd",
        "desk",
        "door",
        "doors",
        "ear",
        "ears",
        "floor",
        "floors",
        "guest",
        "hear",
        "heard",
        "hearing",
        "hears",
        "house",
        "nobody",
        "people",
        "room",
        "rooms",
        "said",
        "say",
        "saying",
        "says",
        "seat",
        "seats",
        "somebody",
        "speak",
        "speaks",
        "spoken",
        "talk",
        "talks",
        "tell",
        "tells",
        "told",
        "wish",
        "wishes",
    ]
)
"""Words of private metaphors: processes send, receive, report and request; packages are no houses."""
NOT_YET: frozenset[str] = frozenset()
"""Parts that still use banned words in identifiers.  Remove a part from here once it is free of them."""


def modules() -> list[Path]:
    return sorted(path for root in PACKAGES.values() for path in root.rglob("*.py"))


def shown(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def shared(places: dict[str, list[str]]) -> list[str]:
    """Describe each name that stands in several places."""
    return [f"{name}: {', '.join(found)}" for name, found in sorted(places.items()) if len(found) > 1]


def test_no_two_files_have_one_name() -> None:
    files: dict[str, list[str]] = defaultdict(list)
    for path in modules():
        if not path.name.startswith("__") and not SAME_BY_DESIGN & set(path.parts):
            files[path.name].append(shown(path))
    assert not shared(files), "files of one name: " + "; ".join(shared(files))


def test_no_two_classes_have_one_name() -> None:
    classes: dict[str, list[str]] = defaultdict(list)
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                classes[node.name].append(f"{shown(path)}:{node.lineno}")
    assert not shared(classes), "classes of one name: " + "; ".join(shared(classes))


def identifiers(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield every name that the code binds or reads, with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name, node.lineno
            case ast.keyword(arg=str(name)):
                yield name, node.value.lineno


def banned_in(path: Path) -> list[str]:
    """Describe the identifiers of a file that hold a banned word."""
    found = {}
    for name, line in identifiers(ast.parse(path.read_text(encoding="utf-8"))):
        parts = {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}
        if parts & BANNED:
            found.setdefault(name, line)
    return [f"{shown(path)}:{line} {name}" for name, line in found.items()]


def part_of(path: Path) -> str:
    """Return the unit in which names are checked: a sub-package or a module of ``tmax``, else the whole package."""
    root, *rest = path.relative_to(REPOSITORY).parts
    return f"{root}/{rest[0]}" if root == "tmax" else root


PARTS = sorted({part_of(path) for path in modules()})


@pytest.mark.parametrize("part", PARTS)
def test_identifiers_are_free_of_private_metaphors(part: str) -> None:
    found = [one for path in modules() if part_of(path) == part for one in banned_in(path)]
    if part in NOT_YET:
        assert found, f"{part} is free of banned words by now: remove it from NOT_YET"
        pytest.skip(f"{len(found)} names to change")
    assert not found, "banned words in names: " + "; ".join(found)
