"""What a row of the tables is: a program or a command, and what is documented to be otherwise under tmax."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

IMPORT = "from pool import Pool"
"""The one line of a program that says whose pool it uses."""

POOLS = {
    "standard": "from concurrent.futures import ProcessPoolExecutor as Pool",
    "executor": "from tmax import Executor as Pool",
    "connect": "import tmax; Pool = lambda *given: tmax.Swarm.connect()",
}

Pools = Literal["executor", "connect"]


@dataclass(frozen=True, kw_only=True)
class Program:
    """One program, run as ``python prog.py`` (or as ``how`` says) in a folder that holds ``files``.

    Its outcome is what it prints, its exit code, and the files it leaves with content and mode.  Without ``differs`` it is the same
    with either pool.  With ``differs`` (an id of docs/differences.md) ``standard`` and ``ours`` are what it prints with each.
    """

    name: str
    text: str
    files: Mapping[str, str] = field(default_factory=dict)
    how: Literal["file", "module", "command", "stdin"] = "file"
    args: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    """Of the interpreter."""
    env: Mapping[str, str] = field(default_factory=dict)
    code: int = 0
    """Its exit code, with either pool."""
    pools: tuple[Pools, ...] = ("connect",)
    differs: str = ""
    differs_on: tuple[str, ...] = ("tmux", "process")
    """The engines on which it differs; on others it is the same."""
    standard: str = ""
    ours: str = ""


def program(name: str, top: str, main: str, **given: object) -> Program:
    """Return a row in the usual shape: definitions, and a guarded part with a pool of one worker."""
    body = textwrap.indent(textwrap.dedent(main).strip("\n"), " " * 8)
    text = f"{IMPORT}\n{textwrap.dedent(top).strip()}\n\nif __name__ == '__main__':\n    with Pool(1) as pool:\n{body}\n"
    return Program(name=name, text=text, **given)  # type: ignore[arg-type]


def whole(name: str, text: str, **given: object) -> Program:
    """Return a row whose program stands as it is."""
    return Program(name=name, text=textwrap.dedent(text).lstrip("\n"), **given)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Command:
    """One line of shell, in which ``{run}`` is nothing or ``tmax run --``.  Its outcome: stdout, stderr, exit code, files.

    With ``differs`` (an id of docs/differences.md) ``direct`` and ``ours`` are (stdout, stderr, exit code) of each.
    """

    name: str
    line: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    differs: str = ""
    direct: tuple[bytes, bytes, int] = (b"", b"", 0)
    ours: tuple[bytes, bytes, int] = (b"", b"", 0)
