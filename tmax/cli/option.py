"""One option of a verb, as the fast path and typer both read it.  Pure; on the fast path of every verb."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Option:
    """One option: where its value goes, how it is written, how its text is read (None: it takes no text), and its help."""

    __slots__ = ("default", "flags", "help", "metavar", "name", "read")

    def __init__(
        self,
        name: str,
        *flags: str,
        read: Callable[[str], Any] | None = None,
        metavar: str = "",
        help: str = "",  # noqa: A002 - as argparse and typer call it
        default: Any = None,
    ) -> None:
        self.name = name
        self.flags = flags
        self.read = read
        self.metavar = metavar
        self.help = help
        self.default = default
